//! What can go wrong between a configured client and a body in memory.
use ferula_model::BudgetExceeded;

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is wrong, or names something this build lacks.
    #[error("{0}")]
    Config(String),
    /// A credential, certificate or header file could not be used.
    #[error("unable to read file {path}: {reason}")]
    File { path: String, reason: String },
    #[error("{0}")]
    Url(String),
    /// No answer: refused, reset, unresolvable, TLS.
    #[error("{method} \"{url}\": {reason}")]
    Transport { method: &'static str, url: String, reason: String },
    #[error("{method} \"{url}\": {reason}")]
    Redirect { method: &'static str, url: String, reason: String },
    /// The answer stopped in the middle, or was not what its headers promised.
    #[error("{0}")]
    Body(String),
    #[error("body size limit exceeded")]
    BodyTooLarge,
    #[error("{0}")]
    Budget(#[from] BudgetExceeded),
}

/// The longest reason passed on: a server must not fill our pages.
const REASON_BYTES_MAX: usize = 400;

/// The innermost causes of an error, which say more than "client error (Connect)".
pub(crate) fn innermost(e: &(dyn std::error::Error + 'static)) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(e);
    // A cause chain has no natural bound; a handful is more than any reader wants.
    for _ in 0..8 {
        let Some(e) = next else { break };
        texts.push(e.to_string());
        next = e.source();
    }
    let mut text = texts.pop().unwrap_or_default();
    if let Some(outer) = texts.pop()
        && !outer.contains("client error")
        && !outer.contains(&text)
    {
        text = format!("{outer}: {text}");
    }
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}
