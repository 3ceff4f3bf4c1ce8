//! What goes wrong with a template, in the words of Go's `text/template`.

/// A template that does not parse, or that failed while it ran.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// `template: name:LINE: message`
    #[error("template: {name}:{line}: {message}")]
    Parse { name: String, line: usize, message: String },
    /// `template: file:LINE:COLUMN: executing "name" at <node>: message`; the column is a byte offset from 0, as in Go.
    #[error("template: {file}:{line}:{column}: executing {} at <{node}>: {message}", ferula_model::labels::quoted(.name))]
    Execute { file: String, line: usize, column: usize, name: String, node: String, message: String },
    /// Raised outside any node: an unknown template, an empty one.
    #[error("template: {0}")]
    Other(String),
    /// HTML contexts that do not fit together (`html/template`'s escaper).
    #[error("html/template:{0}")]
    Escape(String),
}

impl Error {
    /// The bare message, without template name and position.
    pub fn message(&self) -> &str {
        match self {
            Error::Parse { message, .. } | Error::Execute { message, .. } => message,
            Error::Other(m) | Error::Escape(m) => m,
        }
    }
}
