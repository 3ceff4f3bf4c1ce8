//! Memory queued in UDP sockets: `/proc/net/udp`, `/proc/net/udp6`.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::Source;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let help = "Number of allocated memory in the kernel for UDP datagrams in bytes.";
    let mut queues = Family::gauge("node_udp_queues", help);
    for (file, ip) in [("net/udp", "v4"), ("net/udp6", "v6")] {
        let Some(text) = source.proc_optional(file)? else { continue };
        let (mut tx_sum, mut rx_sum) = (0u64, 0u64);
        for line in text.lines().skip(1) {
            let queued = line.split_whitespace().nth(4).and_then(|w| w.split_once(':'));
            let numbers = queued.map(|(tx, rx)| (u64::from_str_radix(tx, 16), u64::from_str_radix(rx, 16)));
            let Some((Ok(tx), Ok(rx))) = numbers else {
                return Err(CollectError::Failed(format!("cannot parse udp line {line:?}")));
            };
            tx_sum = tx_sum.saturating_add(tx);
            rx_sum = rx_sum.saturating_add(rx);
        }
        queues.push_with([("ip", ip.into()), ("queue", "tx".into())], tx_sum as f64);
        queues.push_with([("ip", ip.into()), ("queue", "rx".into())], rx_sum as f64);
    }
    if queues.metrics.is_empty() {
        return Err(CollectError::NoData);
    }
    out.push(queues);
    Ok(())
}
