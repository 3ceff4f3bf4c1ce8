//! Integrations: how a notification reaches people.
pub mod email;
pub mod http;
pub mod service;
pub mod webhook;

/// A secret from the configuration or from a file, which is read at every use so that rotation needs no reload.
pub(crate) fn secret_or_file(secret: &str, path: &str) -> Result<String, crate::notify::SendError> {
    if path.is_empty() {
        return Ok(secret.to_owned());
    }
    // Secrets are short; a longer file is a mistake.
    match std::fs::metadata(path) {
        Ok(m) if m.len() > 1 << 20 => {
            Err(crate::notify::SendError::transient(format!("{path} is too large for a secret")))
        }
        _ => std::fs::read_to_string(path)
            .map(|s| s.trim().to_owned())
            .map_err(|e| crate::notify::SendError::transient(format!("could not read {path}: {e}"))),
    }
}
