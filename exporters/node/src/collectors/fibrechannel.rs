//! Fibre Channel hosts: `/sys/class/fc_host`.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use super::attributes::{Attribute, Attributes, COUNTER};
use crate::source::{Source, attribute};

const COUNTERS: [Attribute; 14] = [
    ("dumped_frames", "node_fibrechannel_dumped_frames_total", "Number of dumped frames", COUNTER, 1.0),
    ("error_frames", "node_fibrechannel_error_frames_total", "Number of errors in frames", COUNTER, 1.0),
    ("fcp_packet_aborts", "node_fibrechannel_fcp_packet_aborts_total", "Number of aborted packets", COUNTER, 1.0),
    ("invalid_crc_count", "node_fibrechannel_invalid_crc_total", "Invalid Cyclic Redundancy Check count", COUNTER, 1.0),
    (
        "invalid_tx_word_count",
        "node_fibrechannel_invalid_tx_words_total",
        "Number of invalid words transmitted by host port",
        COUNTER,
        1.0,
    ),
    (
        "link_failure_count",
        "node_fibrechannel_link_failure_total",
        "Number of times the host port link has failed",
        COUNTER,
        1.0,
    ),
    (
        "loss_of_signal_count",
        "node_fibrechannel_loss_of_signal_total",
        "Number of times signal has been lost",
        COUNTER,
        1.0,
    ),
    (
        "loss_of_sync_count",
        "node_fibrechannel_loss_of_sync_total",
        "Number of failures on either bit or transmission word boundaries",
        COUNTER,
        1.0,
    ),
    (
        "nos_count",
        "node_fibrechannel_nos_total",
        "Number Not_Operational Primitive Sequence received by host port",
        COUNTER,
        1.0,
    ),
    ("rx_frames", "node_fibrechannel_rx_frames_total", "Number of frames received", COUNTER, 1.0),
    ("rx_words", "node_fibrechannel_rx_words_total", "Number of words received by host port", COUNTER, 1.0),
    (
        "seconds_since_last_reset",
        "node_fibrechannel_seconds_since_last_reset_total",
        "Number of seconds since last host port reset",
        COUNTER,
        1.0,
    ),
    ("tx_frames", "node_fibrechannel_tx_frames_total", "Number of frames transmitted by host port", COUNTER, 1.0),
    ("tx_words", "node_fibrechannel_tx_words_total", "Number of words transmitted by host port", COUNTER, 1.0),
];

/// Labels of the info metric, spelled as their files.
const LABELS: [&str; 10] = [
    "dev_loss_tmo",
    "fabric_name",
    "port_id",
    "port_name",
    "port_state",
    "port_type",
    "speed",
    "supported_classes",
    "supported_speeds",
    "symbolic_name",
];

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let mut counters = Attributes::new(&COUNTERS);
    let help = "Non-numeric data from /sys/class/fc_host/<host>, value is always 1.";
    let mut info = Family::gauge("node_fibrechannel_info", help);
    for host in source.sys_entries_or_no_data("class/fc_host")? {
        let folder = source.sys_path(&format!("class/fc_host/{host}"));
        counters.read(&folder.join("statistics"), &[("fc_host", host.clone().into())]);
        let label = |name: &'static str| {
            let value = attribute(&folder.join(name)).unwrap_or_default();
            // World wide names are written as 0x...; upstream shows them bare.
            let bare = ["fabric_name", "port_id", "port_name"].contains(&name);
            let value = if bare { value.trim_start_matches("0x").to_owned() } else { value };
            (name, Text::Owned(value))
        };
        let [loss, fabric, id, port, state, kind, speed, classes, speeds, symbolic] = LABELS.map(label);
        let host = ("fc_host", Text::Owned(host));
        info.push_with([loss, fabric, host, id, port, state, kind, speed, classes, speeds, symbolic], 1.0);
    }
    counters.finish(out);
    out.push(info);
    Ok(())
}
