//! CPU times from `/proc/stat`; throttling, isolation and on-line state from sysfs; descriptions from `/proc/cpuinfo`.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use ferula_exposition::family::{Family, Text};
use ferula_regex::Regex;

use super::{Collect, Collected, Context};
use crate::Error;
use crate::filter::expression;
use crate::source::{Source, attribute, number_attribute};

/// Columns of a `cpu` line, in the kernel's order; the two guest times follow.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
/// `USER_HZ`, which the kernel promises to user space on every architecture we run on.
const TICKS_PER_SECOND: f64 = 100.0;
/// Idle time going back this far means that the CPU was replaced or plugged in again.
const JUMP_BACK_SECONDS: f64 = 3.0;

type Times = [f64; 10];

struct Cpu {
    source: Arc<Source>,
    with_guest: bool,
    with_info: bool,
    /// Upstream couples cpuinfo's frequency to the cpufreq collector being on.
    with_frequency: bool,
    flags_include: Option<Regex>,
    bugs_include: Option<Regex>,
    /// The kernel's idle and iowait times can go back a little; a counter must not.
    seen: Mutex<BTreeMap<u32, Times>>,
}

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let flags = &context.flags;
    let flags_include = expression(flags, "collector.cpu.info.flags-include")?;
    let bugs_include = expression(flags, "collector.cpu.info.bugs-include")?;
    let cpu = Cpu {
        source: Arc::clone(&context.source),
        with_guest: flags.is_set("collector.cpu.guest"),
        with_info: flags.is_set("collector.cpu.info") || flags_include.is_some() || bugs_include.is_some(),
        with_frequency: super::ALL.iter().any(|s| s.name == "cpufreq" && flags.is_enabled(s)),
        flags_include,
        bugs_include,
        seen: Mutex::default(),
    };
    Ok(Box::new(move |out| cpu.collect(out)))
}

impl Cpu {
    fn collect(&self, out: &mut Vec<Family>) -> Collected {
        if self.with_info {
            self.info(out)?;
        }
        self.times(out)?;
        self.topology(out)?;
        if let Ok(list) = attribute(&self.source.sys_path("devices/system/cpu/isolated")) {
            let help = "Whether each core is isolated, information from /sys/devices/system/cpu/isolated.";
            let mut isolated = Family::gauge("node_cpu_isolated", help);
            for cpu in cpu_list(&list) {
                isolated.push_with([("cpu", cpu.to_string().into())], 1.0);
            }
            out.push(isolated);
        }
        Ok(())
    }

    fn times(&self, out: &mut Vec<Family>) -> Collected {
        let text = self.source.proc("stat")?;
        let now = text.lines().filter_map(cpu_line).collect();
        let mut seconds = Family::counter("node_cpu_seconds_total", "Seconds the CPUs spent in each mode.");
        let help = "Seconds the CPUs spent in guests (VMs) for each mode.";
        let mut guest = Family::counter("node_cpu_guest_seconds_total", help);
        for (cpu, times) in self.never_back(now) {
            let cpu: Text = cpu.to_string().into();
            for (mode, time) in MODES.into_iter().zip(times) {
                seconds.push_with([("cpu", cpu.clone()), ("mode", mode.into())], time);
            }
            if self.with_guest {
                for (mode, time) in ["user", "nice"].into_iter().zip(times.into_iter().skip(MODES.len())) {
                    guest.push_with([("cpu", cpu.clone()), ("mode", mode.into())], time);
                }
            }
        }
        out.extend([seconds, guest]);
        Ok(())
    }

    /// Remembers the largest time seen per CPU and mode, and forgets CPUs that went off-line.
    fn never_back(&self, now: BTreeMap<u32, Times>) -> BTreeMap<u32, Times> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let merged: BTreeMap<u32, Times> = now
            .into_iter()
            .map(|(cpu, times)| match seen.get(&cpu) {
                Some(old) if old[IDLE] - times[IDLE] < JUMP_BACK_SECONDS => {
                    let mut larger = times;
                    larger.iter_mut().zip(old).for_each(|(new, old)| *new = new.max(*old));
                    (cpu, larger)
                }
                _ => (cpu, times),
            })
            .collect();
        seen.clone_from(&merged);
        merged
    }

    fn topology(&self, out: &mut Vec<Family>) -> Collected {
        let help = "Number of times this CPU core has been throttled.";
        let mut cores = Family::counter("node_cpu_core_throttles_total", help);
        let help = "Number of times this CPU package has been throttled.";
        let mut packages = Family::counter("node_cpu_package_throttles_total", help);
        let mut online = Family::gauge("node_cpu_online", "CPUs that are online and being scheduled.");
        let (mut cores_seen, mut packages_seen) = (BTreeSet::new(), BTreeSet::new());
        let mut all_say_online = true;
        for entry in self.source.sys_entries("devices/system/cpu")?.unwrap_or_default() {
            let Some(cpu) = entry.strip_prefix("cpu").filter(|n| n.parse::<u32>().is_ok()) else { continue };
            let path = |file: &str| self.source.sys_path(&format!("devices/system/cpu/{entry}/{file}"));
            // Upstream stops at the first CPU without this file: where CPU 0 cannot be unplugged, nothing is shown.
            match number_attribute(&path("online")).filter(|_| all_say_online) {
                Some(v) => _ = online.push_with([("cpu", cpu.to_owned().into())], v),
                None => all_say_online = false,
            }
            // A machine without throttling counters lacks the folder: one look instead of four.
            let Some(core_throttles) = number_attribute(&path("thermal_throttle/core_throttle_count")) else {
                continue;
            };
            let Ok(package) = attribute(&path("topology/physical_package_id")) else { continue };
            let Ok(core) = attribute(&path("topology/core_id")) else { continue };
            if cores_seen.insert((package.clone(), core.clone())) {
                cores.push_with([("core", core.into()), ("package", package.clone().into())], core_throttles);
            }
            if !packages_seen.contains(&package)
                && let Some(v) = number_attribute(&path("thermal_throttle/package_throttle_count"))
            {
                packages_seen.insert(package.clone());
                packages.push_with([("package", package.into())], v);
            }
        }
        out.extend([cores, packages, online]);
        Ok(())
    }

    fn info(&self, out: &mut Vec<Family>) -> Collected {
        let text = self.source.proc("cpuinfo")?;
        let mut info = Family::gauge("node_cpu_info", "CPU information from /proc/cpuinfo.");
        let help = "CPU frequency in hertz from /proc/cpuinfo.";
        let mut frequency = Family::gauge("node_cpu_frequency_hertz", help);
        let mut is_first = true;
        for block in text.split("\n\n") {
            let fields: BTreeMap<&str, &str> =
                block.lines().filter_map(|l| l.split_once(':')).map(|(k, v)| (k.trim(), v.trim())).collect();
            let field = |name: &str| fields.get(name).copied().unwrap_or_default();
            let text = |name: &str| Text::Owned(field(name).to_owned());
            if !fields.contains_key("processor") {
                continue;
            }
            if std::mem::take(&mut is_first) {
                out.push(words("flag", field("flags"), self.flags_include.as_ref()));
                out.push(words("bug", field("bugs"), self.bugs_include.as_ref()));
            }
            let (package, core, cpu) = (text("physical id"), text("core id"), text("processor"));
            info.push_with(
                [
                    ("cachesize", text("cache size")),
                    ("core", core.clone()),
                    ("cpu", cpu.clone()),
                    ("family", text("cpu family")),
                    ("microcode", text("microcode")),
                    ("model", text("model")),
                    ("model_name", text("model name")),
                    ("package", package.clone()),
                    ("stepping", text("stepping")),
                    ("vendor", text("vendor_id")),
                ],
                1.0,
            );
            if self.with_frequency
                && let Ok(mhz) = field("cpu MHz").parse::<f64>()
            {
                frequency.push_with([("core", core), ("cpu", cpu), ("package", package)], mhz * 1e6);
            }
        }
        out.extend([info, frequency]);
        Ok(())
    }
}

/// `node_cpu_flag_info` and `node_cpu_bug_info`: nothing without an expression, which must match the whole word list
/// entry by entry.
fn words(kind: &'static str, list: &str, include: Option<&Regex>) -> Family {
    let (name, help) = match kind {
        "flag" => {
            ("node_cpu_flag_info", "The `flags` field of CPU information from /proc/cpuinfo taken from the first core.")
        }
        _ => ("node_cpu_bug_info", "The `bugs` field of CPU information from /proc/cpuinfo taken from the first core."),
    };
    let mut family = Family::gauge(name, help);
    if let Some(include) = include {
        for word in list.split_whitespace().filter(|w| include.is_match(w)) {
            family.push_with([(kind, word.to_owned().into())], 1.0);
        }
    }
    family
}

/// `cpu3 1 2 3 ...` in seconds; the sum over all CPUs (`cpu `) is left out. Old kernels have fewer columns.
fn cpu_line(line: &str) -> Option<(u32, Times)> {
    let mut words = line.strip_prefix("cpu")?.split(' ');
    let cpu = words.next()?.parse().ok()?;
    let mut times = Times::default();
    for (time, word) in times.iter_mut().zip(words) {
        *time = word.parse::<f64>().ok()? / TICKS_PER_SECOND;
    }
    Some((cpu, times))
}

/// `0-2,7` as numbers. A nonsensically large range is cut.
fn cpu_list(list: &str) -> Vec<u32> {
    let mut out = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            out.extend((first..=last).take(65_536));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::Flags;

    #[test]
    fn lists_and_lines() {
        assert_eq!(cpu_list("0-2,7"), [0, 1, 2, 7]);
        assert_eq!(cpu_list(""), [0u32; 0]);
        assert_eq!(cpu_line("cpu  1 2 3"), None);
        assert_eq!(cpu_line("cpu1 100 0 50").map(|(c, t)| (c, t[0], t[2])), Some((1, 1.0, 0.5)));
        assert_eq!(cpu_line("intr 1"), None);
    }

    #[test]
    fn times_never_go_back_unless_the_cpu_was_replaced() {
        let cpu = Cpu {
            source: Arc::new(Source::new(&Flags::default())),
            with_guest: true,
            with_info: false,
            with_frequency: false,
            flags_include: None,
            bugs_include: None,
            seen: Mutex::default(),
        };
        let times = |idle: f64, user: f64| {
            let mut t = Times::default();
            (t[0], t[IDLE]) = (user, idle);
            BTreeMap::from([(0, t)])
        };
        cpu.never_back(times(100.0, 10.0));
        let got = cpu.never_back(times(99.0, 11.0));
        assert_eq!((got[&0][IDLE], got[&0][0]), (100.0, 11.0));
        let got = cpu.never_back(times(50.0, 1.0));
        assert_eq!((got[&0][IDLE], got[&0][0]), (50.0, 1.0));
        assert!(cpu.never_back(BTreeMap::new()).is_empty());
    }
}
