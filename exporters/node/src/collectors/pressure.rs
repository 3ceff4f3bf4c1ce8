//! Pressure stall information (Linux 4.20): `/proc/pressure/*`.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::Collected;
use crate::parse;
use crate::source::Source;

/// File, line, metric, help.
const LINES: [(&str, &str, &str, &str); 6] = [
    ("cpu", "some", "cpu_waiting", "Total time in seconds that processes have waited for CPU time"),
    ("io", "some", "io_waiting", "Total time in seconds that processes have waited due to IO congestion"),
    ("io", "full", "io_stalled", "Total time in seconds no process could make progress due to IO congestion"),
    ("memory", "some", "memory_waiting", "Total time in seconds that processes have waited for memory"),
    (
        "memory",
        "full",
        "memory_stalled",
        "Total time in seconds no process could make progress due to memory congestion",
    ),
    ("irq", "full", "irq_stalled", "Total time in seconds no process could make progress due to IRQ congestion"),
];

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    for resource in ["cpu", "io", "memory", "irq"] {
        // Only the kernel's options decide whether irq is there, so its absence says nothing about the others.
        let text = match source.proc_optional(&format!("pressure/{resource}")) {
            Ok(Some(text)) => text,
            Ok(None) if resource == "irq" => continue,
            Ok(None) => return Err(CollectError::NoData),
            // Switched off at boot (`psi=0`): reading is not supported.
            Err(CollectError::Failed(why)) if why.contains("not supported") => return Err(CollectError::NoData),
            Err(e) => return Err(e),
        };
        for (_, line, metric, help) in LINES.iter().filter(|(file, ..)| *file == resource) {
            if let Some((_, total_us)) = text.lines().filter_map(parse::pressure).find(|(kind, _)| kind == line) {
                let name = format!("node_pressure_{metric}_seconds_total");
                out.push(Family::counter(name, *help).with(total_us / 1000.0 / 1000.0));
            }
        }
    }
    Ok(())
}
