//! One error: where, and what, without any text of the file that might be secret.
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub file: String,
    /// 1-based; 0 when the place is not known.
    pub line: u64,
    pub column: u64,
    /// `scrape_configs[0].job_name`, or empty at the top.
    pub path: String,
    pub message: String,
}

/// The last word of a field path that may hold a secret: its value never enters a message.
fn holds_secret(path: &str) -> bool {
    let field = path.rsplit(['.', '[']).next().unwrap_or(path);
    ["password", "secret", "token", "credentials", "key", "url", "bearer"].iter().any(|w| field.contains(w))
}

impl Error {
    /// An error of the caller's own validation, at a place it knows by path only.
    pub fn invalid(file: &str, path: impl Into<String>, message: impl Into<String>) -> Error {
        Error { file: file.to_owned(), line: 0, column: 0, path: path.into(), message: message.into() }
    }

    pub(crate) fn writing(message: String) -> Error {
        Error { file: String::new(), line: 0, column: 0, path: String::new(), message }
    }

    pub(crate) fn from_saphyr(file: &str, path: &str, e: &serde_saphyr::Error) -> Error {
        let e = e.without_snippet();
        let (line, column) = e.location().map_or((0, 0), |l| (l.line(), l.column()));
        let mut message = match e {
            serde_saphyr::Error::Message { msg, .. } => msg.clone(),
            serde_saphyr::Error::SerdeUnknownField { field, .. } => format!("unknown field {field:?}"),
            other => other.to_string(),
        };
        // The renderer appends or prepends the place, which the caller gets as numbers.
        for cut in [format!(" at line {line}, column {column}"), format!("line {line} column {column}: ")] {
            message = message.replace(&cut, "");
        }
        if holds_secret(path) && !message.starts_with("unknown field") {
            message = "invalid value (not shown: the field may hold a secret)".to_owned();
        }
        Error { file: file.to_owned(), line, column, path: path.to_owned(), message }
    }
}

impl fmt::Display for Error {
    /// `prometheus.yml:3:5: scrape_configs[0]: unknown field "foo"`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sep = "";
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
            sep = ": ";
        }
        if self.line > 0 {
            write!(f, "{}{}:{}", if sep.is_empty() { "" } else { ":" }, self.line, self.column)?;
            sep = ": ";
        }
        if !self.path.is_empty() {
            write!(f, "{sep}{}", self.path)?;
            sep = ": ";
        }
        write!(f, "{sep}{}", self.message)
    }
}
impl std::error::Error for Error {}
