//! Batteries and mains adapters: `/sys/class/power_supply`.
use ferula_exposition::family::{Family, Metric, Text};
use ferula_regex::Regex;

use super::{Collect, Collected, Context};
use crate::Error;
use crate::filter::expression;
use crate::source::{Folder, Source};

const MICRO: f64 = 1e6;

/// File, metric without prefix, what the kernel's number is divided by.
const NUMBERS: [(&str, &str, f64); 50] = [
    ("authentic", "authentic", 1.0),
    ("calibrate", "calibrate", 1.0),
    ("capacity", "capacity", 1.0),
    ("capacity_alert_max", "capacity_alert_max", 1.0),
    ("capacity_alert_min", "capacity_alert_min", 1.0),
    ("cycle_count", "cyclecount", 1.0),
    ("online", "online", 1.0),
    ("present", "present", 1.0),
    ("time_to_empty_now", "time_to_empty_seconds", 1.0),
    ("time_to_full_now", "time_to_full_seconds", 1.0),
    ("current_boot", "current_boot", MICRO),
    ("current_max", "current_max", MICRO),
    ("current_now", "current_ampere", MICRO),
    ("energy_empty", "energy_empty", MICRO),
    ("energy_empty_design", "energy_empty_design", MICRO),
    ("energy_full", "energy_full", MICRO),
    ("energy_full_design", "energy_full_design", MICRO),
    ("energy_now", "energy_watthour", MICRO),
    ("voltage_boot", "voltage_boot", MICRO),
    ("voltage_max", "voltage_max", MICRO),
    ("voltage_max_design", "voltage_max_design", MICRO),
    ("voltage_min", "voltage_min", MICRO),
    ("voltage_min_design", "voltage_min_design", MICRO),
    ("voltage_now", "voltage_volt", MICRO),
    ("voltage_ocv", "voltage_ocv", MICRO),
    ("charge_control_limit", "charge_control_limit", MICRO),
    ("charge_control_limit_max", "charge_control_limit_max", MICRO),
    ("charge_counter", "charge_counter", MICRO),
    ("charge_empty", "charge_empty", MICRO),
    ("charge_empty_design", "charge_empty_design", MICRO),
    ("charge_full", "charge_full", MICRO),
    ("charge_full_design", "charge_full_design", MICRO),
    ("charge_now", "charge_ampere", MICRO),
    ("charge_term_current", "charge_term_current", MICRO),
    ("constant_charge_current", "constant_charge_current", MICRO),
    ("constant_charge_current_max", "constant_charge_current_max", MICRO),
    ("constant_charge_voltage", "constant_charge_voltage", MICRO),
    ("constant_charge_voltage_max", "constant_charge_voltage_max", MICRO),
    ("precharge_current", "precharge_current", MICRO),
    ("input_current_limit", "input_current_limit", MICRO),
    ("power_now", "power_watt", MICRO),
    ("temp", "temp_celsius", 10.0),
    ("temp_alert_max", "temp_alert_max_celsius", 10.0),
    ("temp_alert_min", "temp_alert_min_celsius", 10.0),
    ("temp_ambient", "temp_ambient_celsius", 10.0),
    ("temp_ambient_alert_max", "temp_ambient_max_celsius", 10.0),
    ("temp_ambient_alert_min", "temp_ambient_min_celsius", 10.0),
    ("temp_max", "temp_max_celsius", 10.0),
    ("temp_min", "temp_min_celsius", 10.0),
    ("charge_control_start_threshold", "charge_control_start_threshold", 1.0),
];

/// Labels of the info metric, spelled as their files; empty ones are left out.
const LABELS: [&str; 11] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "scope",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
];

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let ignored = expression(&context.flags, "collector.powersupply.ignored-supplies")?;
    Ok(Box::new(move |out| collect(&source, ignored.as_ref(), out)))
}

fn collect(source: &Source, ignored: Option<&Regex>, out: &mut Vec<Family>) -> Collected {
    let family = |(_, metric, _): &(&str, &str, f64)| {
        let help = format!("{metric} value of /sys/class/power_supply/<power_supply>.");
        Family::gauge(format!("node_power_supply_{metric}"), help)
    };
    let mut families: Vec<Family> = NUMBERS.iter().map(family).collect();
    let mut info = Family::gauge("node_power_supply_info", "info of /sys/class/power_supply/<power_supply>.");
    for supply in source.sys_entries_or_no_data("class/power_supply")? {
        if ignored.is_some_and(|r| r.is_match(&supply)) {
            continue;
        }
        let path = source.sys_path(&format!("class/power_supply/{supply}"));
        let Some(folder) = Folder::open(&path) else { continue };
        for ((file, _, divisor), family) in NUMBERS.iter().zip(&mut families) {
            if let Some(v) = folder.number(file) {
                family.push_with([("power_supply", supply.clone().into())], v / divisor);
            }
        }
        let mut labels = vec![(Text::Borrowed("power_supply"), Text::Owned(supply.clone()))];
        for name in LABELS {
            if let Some(value) = folder.text(name).filter(|v| !v.is_empty()) {
                labels.push((name.into(), value.into()));
            }
        }
        labels.sort();
        info.metrics.push(Metric::number(labels, 1.0));
    }
    out.append(&mut families);
    out.push(info);
    Ok(())
}
