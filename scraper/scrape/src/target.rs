//! Targets: labels after relabelling, the URL to pull, the place in the interval.
use std::sync::Arc;

use ferula_model::labels::{INSTANCE, JOB};
use ferula_model::{LabelView, Labels, LabelsBuilder, duration, relabel};
use ferula_scraper_discovery::TargetGroup;
use ferula_yaml::Duration;
use url::Url;

use crate::config::ScrapeConfig;

const ADDRESS: &str = "__address__";
const SCHEME: &str = "__scheme__";
const METRICS_PATH: &str = "__metrics_path__";
const PARAM_PREFIX: &str = "__param_";
const UNIX_SOCKET: &str = "__unix_socket__";
const INTERVAL: &str = "__scrape_interval__";
const TIMEOUT: &str = "__scrape_timeout__";
const META_PREFIX: &str = "__meta_";
const RESERVED_PREFIX: &str = "__";

/// One thing to scrape. Two targets with equal [`Target::hash`] are the same target.
#[derive(Clone, Debug)]
pub struct Target {
    /// Before relabelling, for the API.
    pub discovered: Labels,
    /// What every sample of the target carries.
    pub labels: Labels,
    pub url: Url,
    /// As shown: the URL with its port even where it is the scheme's own.
    pub url_text: String,
    /// The socket that stands for the URL's host and port, from `__unix_socket__`.
    pub unix_socket: Option<std::path::PathBuf>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Of all labels, internal ones included, and the URL.
    pub hash: u64,
}

/// What became of a discovered target.
#[derive(Clone, Debug)]
pub enum Built {
    Target(Box<Target>),
    /// Relabelling dropped it; its labels before.
    Dropped(Labels),
}

/// The labels relabelling starts from.
pub fn discovered_labels(config: &ScrapeConfig, target: &Labels, group: &Labels) -> LabelsBuilder {
    let mut b = LabelsBuilder::from_view(group);
    for (name, value) in target {
        b.set(name, value);
    }
    let defaults = [
        (JOB, config.job_name.as_str()),
        (INTERVAL, &config.scrape_interval.to_string()),
        (TIMEOUT, &config.scrape_timeout.to_string()),
        (METRICS_PATH, &config.metrics_path),
        (SCHEME, &config.scheme),
    ];
    for (name, value) in defaults {
        set_if_absent(&mut b, name, value);
    }
    for (name, values) in &config.params {
        if let Some(first) = values.first() {
            set_if_absent(&mut b, &format!("{PARAM_PREFIX}{name}"), first);
        }
    }
    b
}

fn set_if_absent(b: &mut LabelsBuilder, name: &str, value: &str) {
    if b.get(name).is_none() {
        b.set(name, value);
    }
}

/// Relabels one discovered target. The error says why it cannot be scraped.
pub fn build(
    config: &ScrapeConfig,
    rules: &[relabel::Config],
    target: &Labels,
    group: &Labels,
) -> Result<Built, String> {
    let mut b = discovered_labels(config, target, group);
    let discovered = b.labels();
    if !relabel::process(rules, &mut b) {
        return Ok(Built::Dropped(discovered));
    }
    let Some(address) = b.get(ADDRESS).map(str::to_owned) else { return Err("no address".into()) };
    if address.contains('/') {
        return Err(format!("{address:?} is not a valid hostname"));
    }
    let interval = parse_duration(&b, INTERVAL, "interval")?;
    let timeout = parse_duration(&b, TIMEOUT, "timeout")?;
    if timeout > interval {
        let (t, i) = (b.get(TIMEOUT).unwrap_or(""), b.get(INTERVAL).unwrap_or(""));
        return Err(format!("scrape timeout cannot be greater than scrape interval ({t:?} > {i:?})"));
    }
    b.retain(|name, _| !name.starts_with(META_PREFIX));
    set_if_absent(&mut b, INSTANCE, &address);
    let all = b.labels();
    let (url, url_text) = url_of(config, &all, &address)?;
    let labels = Labels::from_sorted(all.iter().filter(|(name, _)| !name.starts_with(RESERVED_PREFIX)));
    let mut hash = Fnv::new();
    hash.write(format!("{:016}", all.stable_hash()).as_bytes());
    hash.write(url_text.as_bytes());
    let unix_socket = all.get(UNIX_SOCKET).filter(|p| !p.is_empty()).map(Into::into);
    let target = Target { discovered, labels, url, url_text, unix_socket, interval, timeout, hash: hash.0 };
    Ok(Built::Target(Box::new(target)))
}

fn parse_duration(b: &LabelsBuilder, name: &str, what: &str) -> Result<Duration, String> {
    match duration::parse_ms(b.get(name).unwrap_or("")) {
        Ok(0) => Err(format!("scrape {what} cannot be 0")),
        Ok(ms) => Ok(Duration::from_ms(ms)),
        Err(e) => Err(format!("error parsing scrape {what}: {e}")),
    }
}

fn url_of(config: &ScrapeConfig, labels: &Labels, address: &str) -> Result<(Url, String), String> {
    let mut params = config.params.clone();
    for (name, value) in labels {
        if let Some(key) = name.strip_prefix(PARAM_PREFIX) {
            let values = params.entry(key.to_owned()).or_default();
            match values.first_mut() {
                Some(first) => value.clone_into(first),
                None => values.push(value.to_owned()),
            }
        }
    }
    let scheme = labels.get(SCHEME).unwrap_or("http");
    let path = labels.get(METRICS_PATH).unwrap_or("");
    let slash = if path.starts_with('/') || path.is_empty() { "" } else { "/" };
    let mut text = format!("{scheme}://{address}{slash}{}", escape(path, b"-_.~$&+,/:;=@!*'()"));
    let mut separator = '?';
    for (key, values) in &params {
        for value in values {
            text.push(separator);
            text.push_str(&escape(key, b"-_.~ ").replace(' ', "+"));
            text.push('=');
            text.push_str(&escape(value, b"-_.~ ").replace(' ', "+"));
            separator = '&';
        }
    }
    if !matches!(scheme, "http" | "https") {
        return Err(format!("unsupported protocol scheme {scheme:?}"));
    }
    let url = Url::parse(&text).map_err(|e| format!("invalid target address {address:?}: {e}"))?;
    Ok((url, text))
}

fn escape(text: &str, keep: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || keep.contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// What one group comes to under one configuration.
#[derive(Debug, Default)]
pub struct GroupTargets {
    pub active: Vec<Arc<Target>>,
    pub dropped: Vec<Labels>,
    /// Why some could not be built.
    pub failures: Vec<String>,
}

/// Builds every target of a group.
pub fn build_group(config: &ScrapeConfig, rules: &[relabel::Config], group: &TargetGroup) -> GroupTargets {
    let mut out = GroupTargets::default();
    for (i, labels) in group.targets.iter().enumerate() {
        match build(config, rules, labels, &group.labels) {
            Ok(Built::Target(target)) => out.active.push(Arc::from(target)),
            Ok(Built::Dropped(labels)) => out.dropped.push(labels),
            Err(e) => out.failures.push(format!("instance {i} in group {}: {e}", group.source)),
        }
    }
    out
}

impl Target {
    /// Time from `now_ms` to the target's next place in its interval. Places depend on the target and the server's seed
    /// only, so that load spreads, restarts keep the rhythm, and the two servers of a pair do not scrape together. The
    /// interval has `places`; as many as milliseconds are too many to meet.
    pub fn offset_ms(&self, now_ms: i64, seed: u64, places: u64) -> i64 {
        let interval = self.interval.ms().max(1);
        // In nanoseconds, as upstream, so that both servers would choose the same place, but for its being one of few.
        let place = ((self.hash ^ seed) % (interval as u64 * 1_000_000)) as i64 / 1_000_000;
        let places = i64::try_from(places).unwrap_or(interval).clamp(1, interval);
        let place = place * places / interval * interval / places;
        (interval - now_ms.rem_euclid(interval) + place) % interval
    }
}

/// FNV-1a, 64 bit.
pub(crate) struct Fnv(pub u64);

impl Fnv {
    pub(crate) fn new() -> Fnv {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
    pub(crate) fn write(&mut self, bytes: &[u8]) {
        for b in bytes {
            self.0 = (self.0 ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::GlobalConfig;

    fn config(yaml: &str) -> ScrapeConfig {
        let c: ScrapeConfig = ferula_yaml::from_str("", yaml).unwrap();
        c.resolve(&GlobalConfig::default().resolve().unwrap()).unwrap()
    }

    fn one(yaml: &str, target: &[(&str, &str)], group: &[(&str, &str)]) -> Result<Built, String> {
        let c = config(yaml);
        let rules = c.relabel_rules().unwrap();
        build(&c, &rules, &Labels::from_pairs(target.iter().copied()), &Labels::from_pairs(group.iter().copied()))
    }

    #[test]
    fn labels_url_and_defaults() {
        let yaml = "{job_name: j, params: {b: [x y, z], a: ['1']}, metrics_path: /m}";
        let target = [("__address__", "h:80"), ("__meta_x", "m"), ("__param_a", "2"), ("own", "t")];
        let Ok(Built::Target(t)) = one(yaml, &target, &[("own", "g"), ("zone", "z")]) else { panic!() };
        assert_eq!(t.labels.to_string(), r#"{instance="h:80", job="j", own="t", zone="z"}"#);
        assert_eq!(t.url_text, "http://h:80/m?a=2&b=x+y&b=z");
        assert_eq!(t.url.as_str(), "http://h/m?a=2&b=x+y&b=z");
        assert_eq!((t.interval.ms(), t.timeout.ms()), (60_000, 10_000));
        assert_eq!(t.discovered.get("__meta_x"), Some("m"));
    }

    #[test]
    fn relabelling_decides() {
        let drop = "{job_name: j, relabel_configs: [{source_labels: [a], regex: b, action: drop}]}";
        assert!(matches!(one(drop, &[("__address__", "h"), ("a", "b")], &[]), Ok(Built::Dropped(_))));
        let set = |label: &str, value: &str| {
            format!("{{job_name: j, relabel_configs: [{{target_label: {label}, replacement: '{value}'}}]}}")
        };
        for (yaml, expect) in [
            (set("__address__", "a/b"), "\"a/b\" is not a valid hostname"),
            (set("__scrape_interval__", "x"), "error parsing scrape interval: not a valid duration string: \"x\""),
            (set("__scrape_timeout__", "0"), "scrape timeout cannot be 0"),
            (
                set("__scrape_timeout__", "2m"),
                "scrape timeout cannot be greater than scrape interval (\"2m\" > \"1m\")",
            ),
            (set("__scheme__", "ftp"), "unsupported protocol scheme \"ftp\""),
        ] {
            assert_eq!(one(&yaml, &[("__address__", "h:1")], &[]).unwrap_err(), expect);
        }
        assert_eq!(one("{job_name: j}", &[("x", "y")], &[]).unwrap_err(), "no address");
    }

    #[test]
    fn places_are_stable_and_spread() {
        let mut places = std::collections::BTreeSet::new();
        for i in 0..100 {
            let Ok(Built::Target(t)) = one("{job_name: j}", &[("__address__", &format!("h:{i}"))], &[]) else {
                panic!()
            };
            let at = |now: i64| (now + t.offset_ms(now, 42, u64::MAX)) % 60_000;
            assert!((0..60_000).contains(&t.offset_ms(123_456, 42, 64)));
            assert_eq!(at(123_456), at(7_654_321));
            places.insert(at(0) / 6_000);
        }
        assert!(places.len() >= 9, "{places:?}");
    }
}
