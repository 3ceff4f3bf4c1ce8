#![doc = include_str!("../README.md")]
mod duration;
mod error;
mod lenient;
mod secret;

pub use duration::Duration;
pub use error::Error;
pub use secret::Secret;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Reads one document strictly: unknown fields are errors where the type says `deny_unknown_fields`, duplicate keys
/// always are. `file` only names the source in errors. An empty document reads as an empty mapping.
pub fn from_str<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Error> {
    let track = lenient::Track::default();
    let options = serde_saphyr::options! {
        // kube turns the parser's comment support on for the whole build; long comments must not count as events.
        emit_comments: false,
        with_snippet: false, // a snippet would print the neighbouring lines, secrets included
        // Rule files of tens of megabytes are real; the guard stays, against alias bombs and endless nesting.
        budget: serde_saphyr::budget! {
            max_events: 50_000_000,
            max_nodes: 20_000_000,
            max_total_scalar_bytes: 512 << 20,
        },
    };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |de| {
        T::deserialize(lenient::Lenient::new(de, &track))
    })
    .map_err(|e| Error::from_saphyr(file, &track.failed_path(), &e))
}

/// Prints a value as YAML. [`Secret`]s print as `<secret>`.
pub fn to_string<T: Serialize>(value: &T) -> Result<String, Error> {
    serde_saphyr::to_string(value).map_err(|e| Error::writing(e.to_string()))
}

#[cfg(test)]
mod tests;
