//! Hardware watchdogs: `/sys/class/watchdog`.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use super::attributes::{Attribute, Attributes, GAUGE};
use crate::source::{Source, attribute};

const NUMBERS: [Attribute; 7] = [
    ("access_cs0", "node_watchdog_access_cs0", "Value of /sys/class/watchdog/<watchdog>/access_cs0", GAUGE, 1.0),
    ("bootstatus", "node_watchdog_bootstatus", "Value of /sys/class/watchdog/<watchdog>/bootstatus", GAUGE, 1.0),
    ("fw_version", "node_watchdog_fw_version", "Value of /sys/class/watchdog/<watchdog>/fw_version", GAUGE, 1.0),
    ("nowayout", "node_watchdog_nowayout", "Value of /sys/class/watchdog/<watchdog>/nowayout", GAUGE, 1.0),
    (
        "pretimeout",
        "node_watchdog_pretimeout_seconds",
        "Value of /sys/class/watchdog/<watchdog>/pretimeout",
        GAUGE,
        1.0,
    ),
    ("timeleft", "node_watchdog_timeleft_seconds", "Value of /sys/class/watchdog/<watchdog>/timeleft", GAUGE, 1.0),
    ("timeout", "node_watchdog_timeout_seconds", "Value of /sys/class/watchdog/<watchdog>/timeout", GAUGE, 1.0),
];

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let mut numbers = Attributes::new(&NUMBERS);
    let mut info = Family::gauge("node_watchdog_info", "Info of /sys/class/watchdog/<watchdog>");
    for name in source.sys_entries_or_no_data("class/watchdog")? {
        let folder = source.sys_path(&format!("class/watchdog/{name}"));
        numbers.read(&folder, &[("name", name.clone().into())]);
        let text = |file: &str| Text::Owned(attribute(&folder.join(file)).unwrap_or_default());
        let labels = [
            ("identity", text("identity")),
            ("name", name.into()),
            ("options", text("options")),
            ("pretimeout_governor", text("pretimeout_governor")),
            ("state", text("state")),
            ("status", text("status")),
        ];
        info.push_with(labels, 1.0);
    }
    numbers.finish(out);
    out.push(info);
    Ok(())
}
