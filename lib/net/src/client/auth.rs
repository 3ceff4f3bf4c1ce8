//! Credentials and configured headers, with their files read at every use.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::config::ClientConfig;
use super::error::Error;

/// Adds what `config` wants every request to its server to carry.
pub(super) fn add_headers(config: &ClientConfig, headers: &mut HeaderMap) -> Result<(), Error> {
    if let Some(value) = authorization(config)? {
        let mut value =
            HeaderValue::from_str(&value).map_err(|_| Error::Config("credentials hold a control character".into()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    for (name, values) in &config.http_headers {
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Error::Config(format!("invalid header name {name:?}")))?;
        let mut texts: Vec<String> = values.values.clone();
        texts.extend(values.secrets.iter().map(|s| s.expose().to_owned()));
        for path in &values.files {
            texts.push(read_trimmed(path)?);
        }
        for text in texts {
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| Error::Config(format!("header {name:?} holds a control character")))?;
            value.set_sensitive(true);
            headers.append(&key, value);
        }
    }
    Ok(())
}

/// The value of `Authorization`, if any is configured.
fn authorization(config: &ClientConfig) -> Result<Option<String>, Error> {
    if let Some(basic) = &config.basic_auth {
        let user = text_or_file(&basic.username, &basic.username_file)?;
        let password = text_or_file(basic.password.expose(), &basic.password_file)?;
        return Ok(Some(format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))));
    }
    let (scheme, text, file) = match &config.authorization {
        Some(a) => (a.scheme.trim(), a.credentials.expose(), a.credentials_file.as_str()),
        None => ("", config.bearer_token.expose(), config.bearer_token_file.as_str()),
    };
    if text.is_empty() && file.is_empty() {
        return Ok(None);
    }
    let scheme = if scheme.is_empty() { "Bearer" } else { scheme };
    Ok(Some(format!("{scheme} {}", text_or_file(text, file)?.trim())))
}

/// The text at hand, or that of the file.
pub(super) fn text_or_file(text: &str, path: &str) -> Result<String, Error> {
    if path.is_empty() { Ok(text.to_owned()) } else { read_trimmed(path) }
}

/// Credential files are small; a longer one is a mistake, not a secret.
const FILE_BYTES_MAX: u64 = 1 << 20;

fn read_trimmed(path: &str) -> Result<String, Error> {
    let failed = |reason: String| Error::File { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(failed("file is too large".into()));
    }
    let text = std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
    Ok(text.trim().to_owned())
}
