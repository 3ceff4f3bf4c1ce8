//! Hardware sensors: `/sys/class/hwmon` (Documentation/hwmon/sysfs-interface.rst).
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ferula_exposition::family::{Family, Text};
use ferula_model::MetricType;

use super::{Collect, Collected, Context};
use crate::Error;
use crate::filter::Filter;
use crate::source::{Folder, Source, attribute, entries};

const SENSOR_TYPES: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

/// Sensor, such as `temp1`, to its properties, such as `crit`; the value itself is property "".
type Sensors = BTreeMap<String, BTreeMap<String, String>>;

struct Filters {
    chips: Filter,
    sensors: Filter,
}

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let flags = &context.flags;
    let filters = Filters {
        chips: Filter::from_flags(flags, "collector.hwmon.chip-exclude", "collector.hwmon.chip-include")?,
        sensors: Filter::from_flags(flags, "collector.hwmon.sensor-exclude", "collector.hwmon.sensor-include")?,
    };
    Ok(Box::new(move |out| collect(&source, &filters, out)))
}

fn collect(source: &Source, filters: &Filters, out: &mut Vec<Family>) -> Collected {
    let names = source.sys_entries_or_no_data("class/hwmon")?;
    let folders: Vec<PathBuf> = names.iter().map(|n| source.sys_path(&format!("class/hwmon/{n}"))).collect();
    // Two chips on one device would get one name: then the driver's name is added.
    let bases: Vec<Option<String>> = folders.iter().map(|f| device_name(f)).collect();
    let mut families = Families::default();
    for ((folder, base), entry) in folders.iter().zip(&bases).zip(&names) {
        let driver = attribute(&folder.join("name")).ok().map(|n| clean(&n)).filter(|n| !n.is_empty());
        let chip = match (base, &driver) {
            (Some(base), Some(driver)) if bases.iter().filter(|b| b.as_ref() == Some(base)).count() > 1 => {
                format!("{base}_{driver}")
            }
            (Some(base), _) => base.clone(),
            (None, Some(driver)) => driver.clone(),
            (None, None) => clean(entry),
        };
        if filters.chips.ignores(&chip) {
            continue;
        }
        if let Some(driver) = driver {
            let help = "Annotation metric for human-readable chip names";
            let family = families.get("node_hwmon_chip_names".to_owned(), help.to_owned(), MetricType::Gauge);
            family.push_with([("chip", chip.clone().into()), ("chip_name", driver.into())], 1.0);
        }
        let mut sensors = Sensors::new();
        read_sensors(folder, &mut sensors);
        // Old drivers keep their files with the device.
        read_sensors(&folder.join("device"), &mut sensors);
        for (sensor, properties) in &sensors {
            if !filters.sensors.ignores(&format!("{chip};{sensor}")) {
                families.add(&chip, sensor, properties);
            }
        }
    }
    out.extend(families.0.into_values());
    Ok(())
}

/// `platform_coretemp_0` from the device the chip sits on.
fn device_name(folder: &Path) -> Option<String> {
    let device = std::fs::canonicalize(folder.join("device")).ok()?;
    let name = clean(device.file_name()?.to_str()?);
    let kind = clean(device.parent()?.file_name()?.to_str()?);
    if name.is_empty() || kind.is_empty() { None } else { Some(format!("{kind}_{name}")) }
}

/// What may stand in a label of ours: lower case, everything odd an underscore.
fn clean(name: &str) -> String {
    let lower = name.to_lowercase();
    let odd = |c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == ':' || c == '_');
    lower.replace(odd, "_").trim_matches('_').to_owned()
}

fn read_sensors(folder: &Path, sensors: &mut Sensors) {
    let Some(open) = Folder::open(folder) else { return };
    for file in entries(folder).unwrap_or_default() {
        let Some((kind, number, property)) = explode(&file) else { continue };
        if !SENSOR_TYPES.contains(&kind) {
            continue;
        }
        if let Some(value) = open.text(&file) {
            sensors.entry(format!("{kind}{number}")).or_default().insert(property.to_owned(), value);
        }
    }
}

/// `temp12_crit_alarm` -> `temp`, `12`, `crit_alarm`. Of names without a number only the whole-file ones count.
fn explode(file: &str) -> Option<(&str, &str, &str)> {
    let Some(digits) = file.find(|c: char| c.is_ascii_digit()) else {
        return SENSOR_TYPES.contains(&file).then_some((file, "", ""));
    };
    let (kind, rest) = file.split_at(digits);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, property) = rest.split_at(end);
    match property.strip_prefix('_') {
        Some(property) if !property.is_empty() => Some((kind, number, property)),
        _ if property.is_empty() => Some((kind, number, "")),
        _ => None,
    }
}

#[derive(Default)]
struct Families(BTreeMap<String, Family>);

impl Families {
    fn get(&mut self, name: String, help: String, kind: MetricType) -> &mut Family {
        self.0.entry(name.clone()).or_insert_with(|| Family::new(name, help, kind))
    }

    fn add(&mut self, chip: &str, sensor: &str, properties: &BTreeMap<String, String>) {
        let kind = sensor.trim_end_matches(|c: char| c.is_ascii_digit());
        let labels = |sensor: &str| [("chip", Text::Owned(chip.to_owned())), ("sensor", sensor.to_owned().into())];
        let label = properties.get("label");
        if let Some(label) = label.filter(|l| !l.is_empty()) {
            let help = "Label for given chip and sensor".to_owned();
            let family = self.get("node_hwmon_sensor_label".to_owned(), help, MetricType::Gauge);
            let [chip, sensor] = labels(sensor);
            family.push_with([chip, ("label", label.clone().into()), sensor], 1.0);
        }
        let whole = match kind {
            "beep_enable" => Some(("node_hwmon_beep_enabled", "Hardware beep enabled", 1.0)),
            "vrm" => Some(("node_hwmon_voltage_regulator_version", "Hardware voltage regulator", 1.0)),
            "update_interval" => {
                Some(("node_hwmon_update_interval_seconds", "Hardware monitor update interval", 0.001))
            }
            _ => None,
        };
        if let Some((name, help, factor)) = whole {
            if let Some(v) = properties.get("").and_then(|v| v.parse::<f64>().ok()) {
                self.get(name.to_owned(), help.to_owned(), MetricType::Gauge).push_with(labels(sensor), v * factor);
            }
            return;
        }
        for (property, text) in properties {
            let Ok(value) = text.parse::<f64>() else { continue };
            let m = describe(kind, property, properties.contains_key(""));
            // Frequencies go by their label, which says what is clocked.
            let sensor = if m.by_label { label.map_or(sensor, String::as_str) } else { sensor };
            self.get(m.name, m.help, m.kind).push_with(labels(sensor), value * m.factor);
        }
    }
}

struct Description {
    name: String,
    help: String,
    kind: MetricType,
    factor: f64,
    by_label: bool,
}

/// How upstream names and scales a property. `label` has no number and does not get here.
fn describe(kind: &str, property: &str, has_plain_value: bool) -> Description {
    let mut base = format!("node_hwmon_{kind}");
    match property {
        "" => {}
        "input" if has_plain_value => base.push_str("_input"),
        "input" => {}
        other => base = format!("{base}_{}", clean(other)),
    }
    let d = |suffix: &str, help: String, factor: f64| Description {
        name: format!("{base}{suffix}"),
        help,
        kind: MetricType::Gauge,
        factor,
        by_label: false,
    };
    match (kind, property) {
        (_, "fault" | "alarm") => d("", format!("Hardware sensor {property} status ({kind})"), 1.0),
        (_, "beep") => d("_enabled", "Hardware monitor sensor has beeping enabled".to_owned(), 1.0),
        ("in" | "cpu", _) => d("_volts", format!("Hardware monitor for voltage ({property})"), 0.001),
        ("temp", p) if p != "type" => {
            let element = if p.is_empty() { "input" } else { p };
            d("_celsius", format!("Hardware monitor for temperature ({element})"), 0.001)
        }
        ("curr", _) => d("_amps", format!("Hardware monitor for current ({property})"), 0.001),
        ("energy", _) => {
            let help = format!("Hardware monitor for joules used so far ({property})");
            Description { kind: MetricType::Counter, ..d("_joule_total", help, 1.0 / 1e6) }
        }
        ("power", "accuracy") => d("", "Hardware monitor power meter accuracy, as a ratio".to_owned(), 1.0 / 1e6),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            d("_seconds", format!("Hardware monitor power usage update interval ({property})"), 0.001)
        }
        ("power", _) => d("_watt", format!("Hardware monitor for power usage in watts ({property})"), 1.0 / 1e6),
        ("humidity", _) => {
            let what =
                "Hardware monitor for humidity, as a ratio (multiply with 100.0 to get the humidity as a percentage)";
            d("", format!("{what} ({property})"), 1.0 / 1e6)
        }
        ("fan", "input" | "min" | "max" | "target") => {
            d("_rpm", format!("Hardware monitor for fan revolutions per minute ({property})"), 1.0)
        }
        ("freq", "input") => {
            let help = "Hardware monitor for GPU frequency in MHz".to_owned();
            Description { by_label: true, ..d("_freq_mhz", help, 1.0 / 1e6) }
        }
        _ => d("", format!("Hardware monitor {kind} element {property}"), 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_come_apart() {
        assert_eq!(explode("temp12_crit_alarm"), Some(("temp", "12", "crit_alarm")));
        assert_eq!(explode("pwm1"), Some(("pwm", "1", "")));
        assert_eq!(explode("update_interval"), Some(("update_interval", "", "")));
        assert_eq!(explode("name"), None);
        assert_eq!(explode("in0x"), None);
        assert_eq!(clean("Nb-WMI.0_"), "nb_wmi_0");
    }
}
