//! CPU frequencies and governors from `/sys/devices/system/cpu/cpu*/cpufreq`.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::{Folder, Source};

/// File, metric, help; the kernel gives kilohertz.
const FREQUENCIES: [(&str, &str, &str); 7] = [
    ("cpuinfo_cur_freq", "node_cpu_frequency_hertz", "Current CPU thread frequency in hertz."),
    ("cpuinfo_min_freq", "node_cpu_frequency_min_hertz", "Minimum CPU thread frequency in hertz."),
    ("cpuinfo_max_freq", "node_cpu_frequency_max_hertz", "Maximum CPU thread frequency in hertz."),
    ("cpuinfo_avg_freq", "node_cpu_frequency_avg_hertz", "Average CPU thread frequency in hertz."),
    ("scaling_cur_freq", "node_cpu_scaling_frequency_hertz", "Current scaled CPU thread frequency in hertz."),
    ("scaling_min_freq", "node_cpu_scaling_frequency_min_hertz", "Minimum scaled CPU thread frequency in hertz."),
    ("scaling_max_freq", "node_cpu_scaling_frequency_max_hertz", "Maximum scaled CPU thread frequency in hertz."),
];

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let mut families: Vec<Family> = FREQUENCIES.iter().map(|(_, name, help)| Family::gauge(*name, *help)).collect();
    let mut governor = Family::gauge("node_cpu_scaling_governor", "Current enabled CPU frequency governor.");
    for entry in source.sys_entries("devices/system/cpu")?.unwrap_or_default() {
        let Some(cpu) = entry.strip_prefix("cpu").filter(|n| n.parse::<u32>().is_ok()) else { continue };
        let path = source.sys_path(&format!("devices/system/cpu/{entry}/cpufreq"));
        let Some(folder) = Folder::open(&path) else { continue };
        for ((file, ..), family) in FREQUENCIES.iter().zip(&mut families) {
            if let Some(khz) = folder.number(file) {
                family.push_with([("cpu", cpu.to_owned().into())], khz * 1000.0);
            }
        }
        let available = folder.text("scaling_available_governors").unwrap_or_default();
        let current = folder.text("scaling_governor").unwrap_or_default();
        for name in available.split_whitespace() {
            let labels = [("cpu", Text::Owned(cpu.to_owned())), ("governor", name.to_owned().into())];
            governor.push_with(labels, f64::from(u8::from(name == current)));
        }
    }
    out.append(&mut families);
    out.push(governor);
    Ok(())
}
