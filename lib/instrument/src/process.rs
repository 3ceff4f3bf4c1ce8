//! `process_*`: what Linux says about this process, under client_golang's names.
use std::fs;

use ferula_exposition::family::Family;

use crate::Registry;

/// Entries of the auxiliary vector (`getauxval(3)`).
const AT_PAGESZ: u64 = 6;
const AT_CLKTCK: u64 = 17;

/// Registers the process metrics; they are read from `/proc/self` at every gather. What cannot be read is left out.
pub fn register_process(registry: &Registry) {
    let facts = Facts::read();
    registry.named_collector("process", move |out| collect(&facts, out));
}

/// What does not change while the process lives.
struct Facts {
    page_bytes: f64,
    ticks_per_second: f64,
    boot_seconds: Option<f64>,
}

/// Size of a memory page on this machine.
pub fn page_bytes() -> f64 {
    static BYTES: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    *BYTES.get_or_init(|| Facts::read().page_bytes)
}

impl Facts {
    fn read() -> Facts {
        let auxv = fs::read("/proc/self/auxv").unwrap_or_default();
        let word = size_of::<usize>();
        let number = |bytes: &[u8]| {
            let mut wide = [0u8; 8];
            wide.iter_mut().zip(bytes).for_each(|(w, b)| *w = *b); // little-endian machines only, as we build for
            u64::from_le_bytes(wide)
        };
        let find = |key: u64, default: f64| {
            let pair = auxv.chunks_exact(2 * word).map(|p| p.split_at(word)).find(|(k, _)| number(k) == key);
            pair.map_or(default, |(_, v)| number(v) as f64)
        };
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let boot = stat.lines().find_map(|l| l.strip_prefix("btime ")).and_then(|v| v.trim().parse().ok());
        Facts { page_bytes: find(AT_PAGESZ, 4096.0), ticks_per_second: find(AT_CLKTCK, 100.0), boot_seconds: boot }
    }
}

fn collect(facts: &Facts, out: &mut Vec<Family>) {
    if let Ok(stat) = fs::read_to_string("/proc/self/stat") {
        from_stat(facts, &stat, out);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        let open = open.count().saturating_sub(1); // the directory itself
        out.push(Family::gauge("process_open_fds", "Number of open file descriptors.").with(open as f64));
    }
    if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
        if let Some(v) = soft_limit(&limits, "Max open files") {
            out.push(Family::gauge("process_max_fds", "Maximum number of open file descriptors.").with(v));
        }
        if let Some(v) = soft_limit(&limits, "Max address space") {
            let help = "Maximum amount of virtual memory available in bytes.";
            out.push(Family::gauge("process_virtual_memory_max_bytes", help).with(v));
        }
    }
    if let Ok(netstat) = fs::read_to_string("/proc/self/net/netstat") {
        for (field, name, help) in [
            (
                "InOctets",
                "process_network_receive_bytes_total",
                "Number of bytes received by the process over the network.",
            ),
            (
                "OutOctets",
                "process_network_transmit_bytes_total",
                "Number of bytes sent by the process over the network.",
            ),
        ] {
            if let Some(v) = ip_ext(&netstat, field) {
                out.push(Family::counter(name, help).with(v));
            }
        }
    }
}

/// Fields of `/proc/self/stat` are counted from the closing parenthesis of the name, which may hold anything.
fn from_stat(facts: &Facts, stat: &str, out: &mut Vec<Family>) {
    let Some((_, rest)) = stat.rsplit_once(')') else { return };
    let fields: Vec<f64> = rest.split_whitespace().skip(1).map(|f| f.parse().unwrap_or(0.0)).collect();
    // proc_pid_stat(5) numbers: fields[0] is number 4.
    let field = |number: usize| fields.get(number - 4).copied().unwrap_or(0.0);
    let cpu = (field(14) + field(15)) / facts.ticks_per_second;
    out.push(
        Family::counter("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.").with(cpu),
    );
    out.push(Family::gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.").with(field(23)));
    let resident = field(24) * facts.page_bytes;
    out.push(Family::gauge("process_resident_memory_bytes", "Resident memory size in bytes.").with(resident));
    if let Some(boot) = facts.boot_seconds {
        let help = "Start time of the process since unix epoch in seconds.";
        let start = boot + field(22) / facts.ticks_per_second;
        out.push(Family::gauge("process_start_time_seconds", help).with(start));
    }
}

fn soft_limit(limits: &str, name: &str) -> Option<f64> {
    let value = limits.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?;
    // Upstream prints the kernel's RLIM_INFINITY as the number it is.
    if value == "unlimited" { Some(u64::MAX as f64) } else { value.parse().ok() }
}

/// `/proc/net/netstat` has a line of names and a line of values per protocol.
fn ip_ext(netstat: &str, field: &str) -> Option<f64> {
    let mut lines = netstat.lines().filter_map(|l| l.strip_prefix("IpExt:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split_whitespace().position(|n| n == field)?;
    values.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_fields_after_a_name_with_parentheses() {
        let facts = Facts { page_bytes: 4096.0, ticks_per_second: 100.0, boot_seconds: Some(1000.0) };
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 1 0 250 8192 3 18446744073709551615 1";
        let mut out = Vec::new();
        from_stat(&facts, stat, &mut out);
        let got: Vec<(String, f64)> = out
            .iter()
            .map(|f| match f.metrics[0].value {
                crate::MetricValue::Number(v) => (f.name.to_string(), v),
                _ => panic!("not a number"),
            })
            .collect();
        let want = [
            ("process_cpu_seconds_total", 2.0),
            ("process_virtual_memory_bytes", 8192.0),
            ("process_resident_memory_bytes", 3.0 * 4096.0),
            ("process_start_time_seconds", 1002.5),
        ];
        assert_eq!(got, want.map(|(n, v)| (n.to_owned(), v)));
    }

    #[test]
    fn this_process_has_all_of_them() {
        let registry = Registry::new();
        register_process(&registry);
        register_process(&registry);
        let names: Vec<String> = registry.gather().iter().map(|f| f.name.to_string()).collect();
        for name in
            ["process_cpu_seconds_total", "process_max_fds", "process_open_fds", "process_resident_memory_bytes"]
        {
            assert!(names.iter().any(|n| n == name), "{name} not in {names:?}");
        }
    }
}
