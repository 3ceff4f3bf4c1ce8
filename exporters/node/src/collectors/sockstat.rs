//! Sockets in use: `/proc/net/sockstat`, `/proc/net/sockstat6`.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::Source;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let mut found = false;
    for file in ["net/sockstat", "net/sockstat6"] {
        let Some(text) = source.proc_optional(file)? else { continue };
        found = true;
        for line in text.lines() {
            let (protocol, rest) = line.split_once(':').unwrap_or((line, ""));
            let words: Vec<&str> = rest.split_whitespace().collect();
            for pair in words.chunks_exact(2) {
                let [state, value] = pair else { continue };
                let value: f64 =
                    value.parse().map_err(|_| CollectError::Failed(format!("invalid line in {file}: {line:?}")))?;
                add(protocol, state, value, out);
            }
        }
    }
    if found { Ok(()) } else { Err(CollectError::NoData) }
}

fn add(protocol: &str, state: &str, value: f64, out: &mut Vec<Family>) {
    if protocol == "sockets" {
        out.push(Family::gauge("node_sockstat_sockets_used", "Number of IPv4 sockets in use.").with(value));
        return;
    }
    let mut push = |state: &str, value| {
        let help = format!("Number of {protocol} sockets in state {state}.");
        out.push(Family::gauge(format!("node_sockstat_{protocol}_{state}"), help).with(value));
    };
    push(state, value);
    if state == "mem" {
        push("mem_bytes", value * ferula_instrument::page_bytes());
    }
}
