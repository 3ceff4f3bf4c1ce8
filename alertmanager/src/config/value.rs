//! Value types of the configuration: addresses and URLs.
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

/// `host:port` of a mail server. The port may be a service name in upstream; here it is a number, checked when used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: String,
}

impl HostPort {
    pub fn is_empty(&self) -> bool {
        self.host.is_empty() && self.port.is_empty()
    }
    fn parse(text: &str) -> Result<HostPort, String> {
        if text.is_empty() {
            return Ok(HostPort::default());
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("address {text}: missing port in address"))?;
        let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if bracketed.is_none() && host.contains(':') {
            return Err(format!("address {text}: too many colons in address"));
        }
        if port.is_empty() {
            return Err(format!("address {:?}: port cannot be empty", text));
        }
        Ok(HostPort { host: bracketed.unwrap_or(host).to_owned(), port: port.to_owned() })
    }
}
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.is_empty(), self.host.contains(':')) {
            (true, _) => Ok(()),
            (_, true) => write!(f, "[{}]:{}", self.host, self.port),
            (_, false) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
impl<'de> Deserialize<'de> for HostPort {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        HostPort::parse(&String::deserialize(d)?).map_err(D::Error::custom)
    }
}
impl Serialize for HostPort {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// What every configured URL must satisfy.
pub fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| match e {
        url::ParseError::RelativeUrlWithoutBase => format!("unsupported scheme {:?} for URL", ""),
        url::ParseError::EmptyHost => "missing host for URL".to_owned(),
        e => e.to_string(),
    })?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("unsupported scheme {:?} for URL", url.scheme()));
    }
    // `http:///x` has no host; browsers, whose rules the parser follows, take x for it.
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    if rest.is_empty() || rest.starts_with(['/', '?', '#']) || url.host_str().unwrap_or("").is_empty() {
        return Err("missing host for URL".to_owned());
    }
    Ok(url)
}

/// A URL that is no secret; empty where none is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct PlainUrl(pub String);

impl PlainUrl {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
impl<'de> Deserialize<'de> for PlainUrl {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        // Null is "not configured"; an empty text is a mistake, as upstream has it.
        let Some(text) = Option::<String>::deserialize(d)? else { return Ok(PlainUrl::default()) };
        parse_url(&text).map_err(D::Error::custom)?;
        Ok(PlainUrl(text))
    }
}

/// A URL that holds a secret, perhaps with template expressions, which are checked once rendered.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretUrl(ferula_yaml::Secret);

impl SecretUrl {
    pub fn new(text: &str) -> SecretUrl {
        SecretUrl(ferula_yaml::Secret::new(text))
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
    pub fn is_template(&self) -> bool {
        self.0.expose().contains("{{")
    }
}
impl fmt::Debug for SecretUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
impl<'de> Deserialize<'de> for SecretUrl {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let Some(text) = Option::<String>::deserialize(d)? else { return Ok(SecretUrl::default()) };
        // A configuration printed by the status page and read back keeps its placeholder, as upstream allows.
        if text != "<secret>" && !text.contains("{{") {
            parse_url(&text).map_err(D::Error::custom)?;
        }
        Ok(SecretUrl::new(&text))
    }
}
impl Serialize for SecretUrl {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_urls() {
        for (text, ok) in
            [("localhost:25", true), ("[::1]:587", true), ("localhost", false), ("localhost:", false), ("a:b:c", false)]
        {
            assert_eq!(HostPort::parse(text).is_ok_and(|h| h.to_string() == text), ok, "{text}");
        }
        for (text, ok) in [
            ("http://x/y?z", true),
            ("http://u:p@x:80", true),
            ("ftp://x", false),
            ("x", false),
            ("http://", false),
            ("http:///x", false),
            ("http://:80/", false),
            ("/a", false),
        ] {
            assert_eq!(parse_url(text).is_ok(), ok, "{text}");
        }
        assert_eq!(format!("{:?}", SecretUrl::new("http://user:pw@x/")), "<secret>");
    }
}
