//! The kernel's load balancer: `/proc/net/ip_vs`, `/proc/net/ip_vs_stats`.
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ferula_exporters_shell::CollectError;
use ferula_exposition::family::{Family, Metric, Text};

use super::{Collect, Collected, Context};
use crate::Error;
use crate::source::Source;

const LABELS: [&str; 6] = ["local_address", "local_mark", "local_port", "proto", "remote_address", "remote_port"];

const STATISTICS: [(&str, &str); 5] = [
    ("node_ipvs_connections_total", "The total number of connections made."),
    ("node_ipvs_incoming_packets_total", "The total number of incoming packets."),
    ("node_ipvs_outgoing_packets_total", "The total number of outgoing packets."),
    ("node_ipvs_incoming_bytes_total", "The total amount of incoming data."),
    ("node_ipvs_outgoing_bytes_total", "The total amount of outgoing data."),
];

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let flag = "collector.ipvs.backend-labels";
    let given = context.flags.value(flag);
    let mut labels = Vec::new();
    for name in given.split(',').map(str::trim).filter(|l| !l.is_empty()) {
        match LABELS.iter().find(|l| **l == name) {
            Some(label) => labels.push(*label),
            None => return Err(Error::Value { flag: flag.to_owned(), value: given.to_owned() }),
        }
    }
    labels.sort_unstable();
    Ok(Box::new(move |out| collect(&source, &labels, out)))
}

fn collect(source: &Source, labels: &[&'static str], out: &mut Vec<Family>) -> Collected {
    let text = source.proc_or_no_data("net/ip_vs_stats")?;
    let bad = || CollectError::Failed("invalid ip_vs_stats".to_owned());
    let totals = text.lines().nth(2).ok_or_else(bad)?;
    let mut numbers = totals.split_whitespace().map(|w| u64::from_str_radix(w, 16));
    for (name, help) in STATISTICS {
        let value = numbers.next().and_then(Result::ok).ok_or_else(bad)?;
        out.push(Family::counter(name, help).with(value as f64));
    }
    // Backends that the chosen labels do not tell apart are summed up.
    let mut sums: BTreeMap<Vec<String>, [f64; 3]> = BTreeMap::new();
    for backend in backends(&source.proc("net/ip_vs")?)? {
        let key = labels.iter().map(|l| backend.label(l).to_owned()).collect();
        let sum = sums.entry(key).or_default();
        for (total, value) in sum.iter_mut().zip(backend.numbers) {
            *total += value;
        }
    }
    for (i, (name, help)) in [
        ("node_ipvs_backend_weight", "The current backend weight by local and remote address."),
        ("node_ipvs_backend_connections_active", "The current active connections by local and remote address."),
        ("node_ipvs_backend_connections_inactive", "The current inactive connections by local and remote address."),
    ]
    .into_iter()
    .enumerate()
    {
        let mut family = Family::gauge(name, help);
        for (values, numbers) in &sums {
            let pairs = labels.iter().zip(values).map(|(n, v)| (Text::Borrowed(*n), Text::Owned(v.clone())));
            family.metrics.push(Metric::number(pairs.collect(), numbers.get(i).copied().unwrap_or(0.0)));
        }
        out.push(family);
    }
    Ok(())
}

#[derive(Clone, Debug, Default)]
struct Service {
    address: String,
    port: String,
    mark: String,
    protocol: String,
}

struct Backend {
    service: Service,
    address: String,
    port: String,
    /// Weight, active connections, inactive ones.
    numbers: [f64; 3],
}

impl Backend {
    fn label(&self, name: &str) -> &str {
        match name {
            "local_address" => &self.service.address,
            "local_mark" => &self.service.mark,
            "local_port" => &self.service.port,
            "proto" => &self.service.protocol,
            "remote_address" => &self.address,
            _ => &self.port,
        }
    }
}

fn backends(text: &str) -> Result<Vec<Backend>, CollectError> {
    let mut out = Vec::new();
    let mut service = Service::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let bad = || CollectError::Failed(format!("invalid line in ip_vs: {line:?}"));
        match words.as_slice() {
            [protocol @ ("TCP" | "UDP" | "SCTP"), local, ..] => {
                let (address, port) = address(local).ok_or_else(bad)?;
                service = Service { address, port, protocol: (*protocol).to_owned(), mark: String::new() };
            }
            ["FWM", mark, ..] => {
                let port = "0".to_owned();
                let (mark, protocol) = ((*mark).to_owned(), "FWM".to_owned());
                service = Service { address: String::new(), port, mark, protocol };
            }
            ["->", remote, _forward, weight, active, inactive] if *remote != "RemoteAddress:Port" => {
                let (address, port) = address(remote).ok_or_else(bad)?;
                let mut numbers = [0.0; 3];
                for (number, word) in numbers.iter_mut().zip([weight, active, inactive]) {
                    *number = word.parse().map_err(|_| bad())?;
                }
                out.push(Backend { service: service.clone(), address, port, numbers });
            }
            _ => {}
        }
    }
    Ok(out)
}

/// `C0A80016:0CEA` or `[2620:0000:...]:0050`.
fn address(s: &str) -> Option<(String, String)> {
    let (host, port) = s.rsplit_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?.to_string();
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(six) => six.parse::<Ipv6Addr>().ok()?.to_string(),
        None => Ipv4Addr::from(u32::from_str_radix(host, 16).ok()?).to_string(),
    };
    Some((host, port))
}
