//! Which proxy a request goes through: `proxy_url` and `no_proxy`, or the environment, as Go's `httpproxy` reads them.
use std::net::IpAddr;

use http::{HeaderValue, Uri};
use url::Url;

use super::config::{ClientConfig, OAuth2};
use super::error::Error;

/// The proxies of one client.
#[derive(Clone, Debug, Default)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    /// Whose requests go straight. `None` means nobody's, the loopback's neither: `proxy_url` alone is taken literally.
    no_proxy: Option<NoProxy>,
    /// For CONNECT: names and values, secrets among them.
    pub(super) connect_headers: Vec<(String, HeaderValue)>,
}

/// Where a proxy is and how to talk to it.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    pub(super) kind: Kind,
    pub(super) host: String,
    pub(super) port: u16,
    /// User and password, decoded.
    pub(super) credentials: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Http,
    Https,
    /// Names are resolved by the proxy, as Go does for `socks5` too.
    Socks5,
}

/// What a configuration says about proxies.
pub(super) struct Settings<'a> {
    url: &'a str,
    no_proxy: &'a str,
    from_environment: bool,
    connect_headers: &'a std::collections::BTreeMap<String, Vec<ferula_yaml::Secret>>,
}

impl<'a> From<&'a ClientConfig> for Settings<'a> {
    fn from(c: &'a ClientConfig) -> Self {
        Settings {
            url: c.proxy_url.expose(),
            no_proxy: &c.no_proxy,
            from_environment: c.proxy_from_environment,
            connect_headers: &c.proxy_connect_header,
        }
    }
}

/// A token endpoint's proxy is the one of its own settings.
pub(super) fn token_config(o: &OAuth2) -> ClientConfig {
    ClientConfig {
        tls_config: o.tls_config.clone(),
        proxy_url: o.proxy_url.clone(),
        no_proxy: o.no_proxy.clone(),
        proxy_from_environment: o.proxy_from_environment,
        proxy_connect_header: o.proxy_connect_header.clone(),
        ..ClientConfig::default()
    }
}

impl Proxies {
    /// `environment` looks a variable up; it is asked only for `proxy_from_environment`.
    pub(super) fn new(settings: &Settings<'_>, environment: impl Fn(&str) -> Option<String>) -> Result<Proxies, Error> {
        let mut proxies = Proxies::default();
        for (name, values) in settings.connect_headers {
            for value in values {
                let mut value = HeaderValue::from_str(value.expose())
                    .map_err(|_| Error::Config(format!("proxy_connect_header {name:?} holds a control character")))?;
                value.set_sensitive(true);
                http::HeaderName::from_bytes(name.as_bytes())
                    .map_err(|_| Error::Config(format!("invalid header name {name:?}")))?;
                proxies.connect_headers.push((name.clone(), value));
            }
        }
        if settings.from_environment {
            let either = |upper: &str, lower: &str| {
                let set = |name: &str| environment(name).filter(|v| !v.is_empty());
                set(upper).or_else(|| set(lower)).unwrap_or_default()
            };
            proxies.http = Proxy::parse(&either("HTTP_PROXY", "http_proxy"))?;
            proxies.https = Proxy::parse(&either("HTTPS_PROXY", "https_proxy"))?;
            proxies.no_proxy = Some(NoProxy::parse(&either("NO_PROXY", "no_proxy")));
        } else if !settings.url.is_empty() {
            let proxy = Proxy::parse(settings.url)?;
            (proxies.http, proxies.https) = (proxy.clone(), proxy);
            proxies.no_proxy = Some(settings.no_proxy).filter(|n| !n.is_empty()).map(NoProxy::parse);
        }
        Ok(proxies)
    }

    /// The proxy for requests to `uri`, if one stands between.
    pub(super) fn of(&self, uri: &Uri) -> Option<&Proxy> {
        let is_https = uri.scheme_str() == Some("https");
        let proxy = if is_https { self.https.as_ref() } else { self.http.as_ref() }?;
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        match &self.no_proxy {
            Some(rules) if rules.covers(bare(uri.host().unwrap_or("")), port) => None,
            _ => Some(proxy),
        }
    }
}

/// A host without the brackets of an IPv6 address.
pub(super) fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}

impl Proxy {
    /// `host:port` without a scheme means an HTTP proxy; nothing means none.
    fn parse(text: &str) -> Result<Option<Proxy>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        // The address itself may hold a password: it is not repeated.
        let url = Url::parse(&full).map_err(|e| Error::Config(format!("invalid proxy address: {e}")))?;
        let (kind, default_port) = match url.scheme() {
            "http" => (Kind::Http, 80),
            "https" => (Kind::Https, 443),
            "socks5" | "socks5h" => (Kind::Socks5, 1080),
            other => return Err(Error::Config(format!("unsupported proxy scheme {other:?}"))),
        };
        let host = url.host_str().filter(|h| !h.is_empty());
        let host = host.ok_or_else(|| Error::Config("invalid proxy address: no host".into()))?;
        let decode = |s: &str| percent_encoding::percent_decode_str(s).decode_utf8_lossy().into_owned();
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        let credentials = has_credentials.then(|| (decode(url.username()), decode(url.password().unwrap_or_default())));
        let port = url.port().unwrap_or(default_port);
        Ok(Some(Proxy { kind, host: bare(host).to_owned(), port, credentials }))
    }

    /// `Proxy-Authorization`, if the address names a user.
    pub(super) fn authorization(&self) -> Option<HeaderValue> {
        use base64::Engine;
        let (user, password) = self.credentials.as_ref()?;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let mut value = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// `no_proxy`: a comma separated list of `*`, addresses, networks and domains, the latter with an optional port.
#[derive(Clone, Debug, Default)]
struct NoProxy {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
enum Rule {
    Everything,
    Network {
        address: IpAddr,
        bits: u8,
    },
    Address {
        address: IpAddr,
        port: Option<u16>,
    },
    /// The domain begins with a dot; `itself` says whether the name without it is covered too.
    Domain {
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl NoProxy {
    fn parse(text: &str) -> NoProxy {
        let entries = text.split(',').map(|e| e.trim().to_ascii_lowercase()).filter(|e| !e.is_empty());
        NoProxy { rules: entries.filter_map(|e| rule(&e)).collect() }
    }

    /// The machine itself is always reached straight.
    fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        if host == "localhost" || address.is_some_and(|a| a.is_loopback()) {
            return true;
        }
        let fits = |p: &Option<u16>| p.is_none_or(|p| p == port);
        self.rules.iter().any(|rule| match rule {
            Rule::Everything => true,
            Rule::Network { address: network, bits } => address.is_some_and(|a| in_network(a, *network, *bits)),
            Rule::Address { address: one, port } => address == Some(*one) && fits(port),
            Rule::Domain { suffix, itself, port } => {
                let covered = host.ends_with(suffix) || *itself && suffix.strip_prefix('.') == Some(&host);
                address.is_none() && covered && fits(port)
            }
        })
    }
}

/// A rule nobody can make sense of is left out, as upstream does.
fn rule(entry: &str) -> Option<Rule> {
    if entry == "*" {
        return Some(Rule::Everything);
    }
    if let Some((address, bits)) = entry.split_once('/')
        && let (Ok(address), Ok(bits)) = (address.parse::<IpAddr>(), bits.parse::<u8>())
    {
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        return (bits <= bits_max).then_some(Rule::Network { address, bits });
    }
    if let Ok(address) = bare(entry).parse() {
        return Some(Rule::Address { address, port: None });
    }
    let (host, port) = match entry.rsplit_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok()?)),
        None => (entry, None),
    };
    if let Ok(address) = bare(host).parse() {
        return Some(Rule::Address { address, port });
    }
    let domain = host.strip_prefix('*').filter(|d| d.starts_with('.')).unwrap_or(host);
    match domain.strip_prefix('.') {
        Some("") => None,
        Some(_) => Some(Rule::Domain { suffix: domain.to_owned(), itself: false, port }),
        None if domain.is_empty() => None,
        None => Some(Rule::Domain { suffix: format!(".{domain}"), itself: true, port }),
    }
}

fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            u32::from(a) & mask == u32::from(n) & mask
        }
        (IpAddr::V6(a), IpAddr::V6(n)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            u128::from(a) & mask == u128::from(n) & mask
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_reads_as_gos() {
        let rules = NoProxy::parse("10.0.0.0/8, 1.2.3.4:80, example.com, .sub.org, *.wild.net:8080, [::2], fd00::/8");
        for (host, port, covered) in [
            ("localhost", 1, true),
            ("127.0.0.9", 1, true),
            ("10.1.2.3", 99, true),
            ("11.1.2.3", 99, false),
            ("1.2.3.4", 80, true),
            ("1.2.3.4", 81, false),
            ("example.com", 443, true),
            ("a.EXAMPLE.com", 443, true),
            ("badexample.com", 443, false),
            ("sub.org", 443, false),
            ("a.sub.org", 443, true),
            ("a.wild.net", 8080, true),
            ("a.wild.net", 80, false),
            ("::2", 80, true),
            ("fd12::1", 80, true),
        ] {
            assert_eq!(rules.covers(host, port), covered, "{host}:{port}");
        }
        assert!(NoProxy::parse("*").covers("any.where", 1));
    }

    #[test]
    fn the_environment_decides_by_scheme() {
        let empty = std::collections::BTreeMap::new();
        let settings = Settings { url: "", no_proxy: "", from_environment: true, connect_headers: &empty };
        let environment = |name: &str| match name {
            "http_proxy" => Some("proxy.test:3128".to_owned()),
            "HTTPS_PROXY" => Some("http://u:p%40@[::1]:8443".to_owned()),
            "NO_PROXY" => Some("quiet.test".to_owned()),
            _ => None,
        };
        let proxies = Proxies::new(&settings, environment).unwrap();
        let of = |uri: &'static str| proxies.of(&Uri::from_static(uri)).map(|p| (p.host.clone(), p.port));
        assert_eq!(of("http://a.test/"), Some(("proxy.test".into(), 3128)));
        assert_eq!(of("https://a.test/"), Some(("::1".into(), 8443)));
        assert_eq!(of("https://quiet.test/"), None);
        let proxy = proxies.https.as_ref().unwrap();
        assert_eq!(proxy.credentials, Some(("u".to_owned(), "p@".to_owned())));
        assert_eq!(proxy.authorization().unwrap(), "Basic dTpwQA==");
    }
}
