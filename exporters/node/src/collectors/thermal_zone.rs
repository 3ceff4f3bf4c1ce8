//! Temperatures and cooling devices of the thermal framework.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::{Source, attribute, number_attribute};

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let mut temperature = Family::gauge("node_thermal_zone_temp", "Zone temperature in Celsius");
    let help = "Current throttle state of the cooling device";
    let mut current = Family::gauge("node_cooling_device_cur_state", help);
    let help = "Maximum throttle state of the cooling device";
    let mut maximum = Family::gauge("node_cooling_device_max_state", help);
    for entry in source.sys_entries("class/thermal")?.unwrap_or_default() {
        let path = |file: &str| source.sys_path(&format!("class/thermal/{entry}/{file}"));
        let kind = || Text::Owned(attribute(&path("type")).unwrap_or_default());
        if let Some(zone) = entry.strip_prefix("thermal_zone") {
            // Some zones cannot be read now and then; that is no reason to lose the others.
            if let Some(millidegrees) = number_attribute(&path("temp")) {
                temperature.push_with([("type", kind()), ("zone", zone.to_owned().into())], millidegrees / 1000.0);
            }
        } else if let Some(name) = entry.strip_prefix("cooling_device") {
            for (family, file) in [(&mut current, "cur_state"), (&mut maximum, "max_state")] {
                if let Some(state) = number_attribute(&path(file)) {
                    family.push_with([("name", name.to_owned().into()), ("type", kind())], state);
                }
            }
        }
    }
    out.extend([temperature, current, maximum]);
    Ok(())
}
