//! InfiniBand ports: `/sys/class/infiniband/<device>/ports/<port>`.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use super::attributes::{Attribute, Attributes, COUNTER};
use crate::source::{Source, attribute};

/// The hardware counts data in words of four bytes.
const WORDS: f64 = 4.0;

const COUNTERS: [Attribute; 24] = [
    (
        "counters_ext/port_rcv_data_64",
        "node_infiniband_legacy_data_received_bytes_total",
        "Number of data octets received on all links",
        COUNTER,
        WORDS,
    ),
    (
        "counters_ext/port_xmit_data_64",
        "node_infiniband_legacy_data_transmitted_bytes_total",
        "Number of data octets transmitted on all links",
        COUNTER,
        WORDS,
    ),
    (
        "counters_ext/port_multicast_rcv_packets",
        "node_infiniband_legacy_multicast_packets_received_total",
        "Number of multicast packets received",
        COUNTER,
        1.0,
    ),
    (
        "counters_ext/port_multicast_xmit_packets",
        "node_infiniband_legacy_multicast_packets_transmitted_total",
        "Number of multicast packets transmitted",
        COUNTER,
        1.0,
    ),
    (
        "counters_ext/port_rcv_packets_64",
        "node_infiniband_legacy_packets_received_total",
        "Number of data packets received on all links",
        COUNTER,
        1.0,
    ),
    (
        "counters_ext/port_xmit_packets_64",
        "node_infiniband_legacy_packets_transmitted_total",
        "Number of data packets received on all links",
        COUNTER,
        1.0,
    ),
    (
        "counters_ext/port_unicast_rcv_packets",
        "node_infiniband_legacy_unicast_packets_received_total",
        "Number of unicast packets received",
        COUNTER,
        1.0,
    ),
    (
        "counters_ext/port_unicast_xmit_packets",
        "node_infiniband_legacy_unicast_packets_transmitted_total",
        "Number of unicast packets transmitted",
        COUNTER,
        1.0,
    ),
    (
        "counters/link_downed",
        "node_infiniband_link_downed_total",
        "Number of times the link failed to recover from an error state and went down",
        COUNTER,
        1.0,
    ),
    (
        "counters/link_error_recovery",
        "node_infiniband_link_error_recovery_total",
        "Number of times the link successfully recovered from an error state",
        COUNTER,
        1.0,
    ),
    (
        "counters/multicast_rcv_packets",
        "node_infiniband_multicast_packets_received_total",
        "Number of multicast packets received (including errors)",
        COUNTER,
        1.0,
    ),
    (
        "counters/multicast_xmit_packets",
        "node_infiniband_multicast_packets_transmitted_total",
        "Number of multicast packets transmitted (including errors)",
        COUNTER,
        1.0,
    ),
    (
        "counters/port_rcv_constraint_errors",
        "node_infiniband_port_constraint_errors_received_total",
        "Number of packets received on the switch physical port that are discarded",
        COUNTER,
        1.0,
    ),
    (
        "counters/port_xmit_constraint_errors",
        "node_infiniband_port_constraint_errors_transmitted_total",
        "Number of packets not transmitted from the switch physical port",
        COUNTER,
        1.0,
    ),
    (
        "counters/port_rcv_data",
        "node_infiniband_port_data_received_bytes_total",
        "Number of data octets received on all links",
        COUNTER,
        WORDS,
    ),
    (
        "counters/port_xmit_data",
        "node_infiniband_port_data_transmitted_bytes_total",
        "Number of data octets transmitted on all links",
        COUNTER,
        WORDS,
    ),
    (
        "counters/port_rcv_discards",
        "node_infiniband_port_discards_received_total",
        "Number of inbound packets discarded by the port because the port is down or congested",
        COUNTER,
        1.0,
    ),
    (
        "counters/port_xmit_discards",
        "node_infiniband_port_discards_transmitted_total",
        "Number of outbound packets discarded by the port because the port is down or congested",
        COUNTER,
        1.0,
    ),
    (
        "counters/port_rcv_errors",
        "node_infiniband_port_errors_received_total",
        "Number of packets containing an error that were received on this port",
        COUNTER,
        1.0,
    ),
    (
        "counters/port_rcv_packets",
        "node_infiniband_port_packets_received_total",
        "Number of packets received on all VLs by this port (including errors)",
        COUNTER,
        1.0,
    ),
    (
        "counters/port_xmit_packets",
        "node_infiniband_port_packets_transmitted_total",
        "Number of packets transmitted on all VLs from this port (including errors)",
        COUNTER,
        1.0,
    ),
    (
        "counters/port_xmit_wait",
        "node_infiniband_port_transmit_wait_total",
        "Number of ticks during which the port had data to transmit but no data was sent during the entire tick",
        COUNTER,
        1.0,
    ),
    (
        "counters/unicast_rcv_packets",
        "node_infiniband_unicast_packets_received_total",
        "Number of unicast packets received (including errors)",
        COUNTER,
        1.0,
    ),
    (
        "counters/unicast_xmit_packets",
        "node_infiniband_unicast_packets_transmitted_total",
        "Number of unicast packets transmitted (including errors)",
        COUNTER,
        1.0,
    ),
];

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let mut counters = Attributes::new(&COUNTERS);
    let help = "Non-numeric data from /sys/class/infiniband/<device>, value is always 1.";
    let mut info = Family::gauge("node_infiniband_info", help);
    let help = "State of the InfiniBand port (0: no change, 1: down, 2: init, 3: armed, 4: active, 5: act defer)";
    let mut state = Family::gauge("node_infiniband_state_id", help);
    let help = "Physical state of the InfiniBand port (0: no change, 1: sleep, 2: polling, 3: disable, 4: shift, \
                5: link up, 6: link error recover, 7: phytest)";
    let mut physical_state = Family::gauge("node_infiniband_physical_state_id", help);
    let mut rate = Family::gauge("node_infiniband_rate_bytes_per_second", "Maximum signal transfer rate");
    for device in source.sys_entries_or_no_data("class/infiniband")? {
        let folder = source.sys_path(&format!("class/infiniband/{device}"));
        let text = |file: &str| Text::Owned(attribute(&folder.join(file)).unwrap_or_default());
        let labels = [
            ("board_id", text("board_id")),
            ("device", device.clone().into()),
            ("firmware_version", text("fw_ver")),
            ("hca_type", text("hca_type")),
        ];
        info.push_with(labels, 1.0);
        for port in source.sys_entries(&format!("class/infiniband/{device}/ports"))?.unwrap_or_default() {
            let folder = folder.join("ports").join(&port);
            let labels = [("device", Text::Owned(device.clone())), ("port", port.into())];
            // `4: ACTIVE`
            for (family, file) in [(&mut state, "state"), (&mut physical_state, "phys_state")] {
                let value = attribute(&folder.join(file)).unwrap_or_default();
                if let Some(id) = value.split(':').next().and_then(|v| v.parse().ok()) {
                    family.push_with(labels.clone(), id);
                }
            }
            // `40 Gb/sec (4X QDR)`
            let value = attribute(&folder.join("rate")).unwrap_or_default();
            if let Some(gigabits) = value.split(' ').next().and_then(|v| v.parse::<f64>().ok()) {
                rate.push_with(labels.clone(), gigabits * 1e9 / 8.0);
            }
            counters.read(&folder, &labels);
        }
    }
    counters.finish(out);
    out.extend([info, state, physical_state, rate]);
    Ok(())
}
