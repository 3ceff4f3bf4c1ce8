//! The wall clock, the time zone and the kernel's clock sources.
use std::time::{SystemTime, UNIX_EPOCH};

use ferula_exposition::family::Family;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Collected;
use crate::source::{Source, attribute};

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    // The real clock is what this metric is about, so no `Clock` stands between.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let help = "System time in seconds since epoch (1970).";
    out.push(Family::gauge("node_time_seconds", help).with(now.as_nanos() as f64 / 1e9));
    let zone = TimeZone::system();
    let info = zone.to_offset_info(Timestamp::now());
    let help = "System time zone offset in seconds.";
    let mut offset = Family::gauge("node_time_zone_offset_seconds", help);
    let name = info.abbreviation().to_owned();
    offset.push_with([("time_zone", name.into())], f64::from(info.offset().seconds()));
    out.push(offset);
    clock_sources(source, out)
}

fn clock_sources(source: &Source, out: &mut Vec<Family>) -> Collected {
    let mut available = Family::gauge(
        "node_time_clocksource_available_info",
        "Available clocksources read from '/sys/devices/system/clocksource'.",
    );
    let mut current = Family::gauge(
        "node_time_clocksource_current_info",
        "Current clocksource read from '/sys/devices/system/clocksource'.",
    );
    let folder = "devices/system/clocksource";
    for entry in source.sys_entries(folder)?.unwrap_or_default() {
        let Some(device) = entry.strip_prefix("clocksource") else { continue };
        let read = |file| attribute(&source.sys_path(&format!("{folder}/{entry}/{file}"))).unwrap_or_default();
        for name in read("available_clocksource").split_whitespace() {
            available.push_with([("clocksource", name.to_owned().into()), ("device", device.to_owned().into())], 1.0);
        }
        for name in read("current_clocksource").split_whitespace() {
            current.push_with([("clocksource", name.to_owned().into()), ("device", device.to_owned().into())], 1.0);
        }
    }
    out.extend([available, current]);
    Ok(())
}
