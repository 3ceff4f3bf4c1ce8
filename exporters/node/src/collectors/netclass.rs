//! Properties of network devices: `/sys/class/net/<device>/*`.
use ferula_exposition::family::{Family, Text};
use ferula_regex::Regex;

use super::{Collect, Collected, Context};
use crate::Error;
use crate::filter::expression;
use crate::source::{Folder, Source};

/// File, metric without prefix, factor.
const PROPERTIES: [(&str, &str, f64); 17] = [
    ("addr_assign_type", "address_assign_type", 1.0),
    ("carrier", "carrier", 1.0),
    ("carrier_changes", "carrier_changes_total", 1.0),
    ("carrier_up_count", "carrier_up_changes_total", 1.0),
    ("carrier_down_count", "carrier_down_changes_total", 1.0),
    ("dev_id", "device_id", 1.0),
    ("dormant", "dormant", 1.0),
    ("flags", "flags", 1.0),
    ("ifindex", "iface_id", 1.0),
    ("iflink", "iface_link", 1.0),
    ("link_mode", "iface_link_mode", 1.0),
    ("mtu", "mtu_bytes", 1.0),
    ("name_assign_type", "name_assign_type", 1.0),
    ("netdev_group", "net_dev_group", 1.0),
    ("speed", "speed_bytes", 1_000_000.0 / 8.0),
    ("tx_queue_len", "transmit_queue_length", 1.0),
    ("type", "protocol_type", 1.0),
];

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let ignored = expression(&context.flags, "collector.netclass.ignored-devices")?;
    let ignore_invalid_speed = context.flags.is_set("collector.netclass.ignore-invalid-speed");
    Ok(Box::new(move |out| collect(&source, ignored.as_ref(), ignore_invalid_speed, out)))
}

fn collect(source: &Source, ignored: Option<&Regex>, ignore_invalid_speed: bool, out: &mut Vec<Family>) -> Collected {
    let new = |(_, metric, _): &(&str, &str, f64)| {
        let (name, help) = (format!("node_network_{metric}"), format!("Network device property: {metric}"));
        if metric.ends_with("_total") { Family::counter(name, help) } else { Family::gauge(name, help) }
    };
    let mut families: Vec<Family> = PROPERTIES.iter().map(new).collect();
    let mut up = Family::gauge("node_network_up", "Value is 1 if operstate is 'up', 0 otherwise.");
    let help = "Non-numeric data from /sys/class/net/<iface>, value is always 1.";
    let mut info = Family::gauge("node_network_info", help);
    for device in source.sys_entries_or_no_data("class/net")? {
        if ignored.is_some_and(|r| r.is_match(&device)) {
            continue;
        }
        // Besides the devices there are files such as bonding_masters.
        let Some(folder) = Folder::open(&source.sys_path(&format!("class/net/{device}"))) else { continue };
        let text = |file: &str| Text::Owned(folder.text(file).unwrap_or_default());
        let mut flags = 0;
        for ((file, _, factor), family) in PROPERTIES.iter().zip(&mut families) {
            // Many of these cannot be read while a device is down.
            let Some(v) = folder.number(file) else { continue };
            if *file == "flags" {
                flags = v as u64;
            }
            if *file == "speed" && v < 0.0 && ignore_invalid_speed {
                continue;
            }
            family.push_with([("device", device.clone().into())], v * factor);
        }
        let state = text("operstate");
        up.push_with([("device", device.clone().into())], f64::from(u8::from(state == "up")));
        let labels = [
            ("address", text("address")),
            ("adminstate", if flags & 1 == 1 { "up".into() } else { "down".into() }), // IFF_UP
            ("broadcast", text("broadcast")),
            ("device", device.clone().into()),
            ("duplex", text("duplex")),
            ("ifalias", text("ifalias")),
            ("operstate", state),
        ];
        info.push_with(labels, 1.0);
    }
    out.append(&mut families);
    out.extend([up, info]);
    Ok(())
}
