//! `/proc/softirqs`: a counter per kind of soft interrupt and CPU.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::Source;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc("softirqs")?;
    let mut family = Family::counter("node_softirqs_functions_total", "Softirq counts per CPU.");
    for line in text.lines().skip(1) {
        let Some((kind, counts)) = line.split_once(':') else { continue };
        for (cpu, count) in counts.split_whitespace().map_while(|w| w.parse().ok()).enumerate() {
            let labels = [("cpu", Text::Owned(cpu.to_string())), ("type", kind.trim().to_owned().into())];
            family.push_with(labels, count);
        }
    }
    out.push(family);
    Ok(())
}
