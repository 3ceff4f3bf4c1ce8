//! `/proc/schedstat`: what each CPU's scheduler did.
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::Source;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc_or_no_data("schedstat")?;
    let help = "Number of seconds CPU spent running a process.";
    let mut running = Family::counter("node_schedstat_running_seconds_total", help);
    let help = "Number of seconds spent by processing waiting for this CPU.";
    let mut waiting = Family::counter("node_schedstat_waiting_seconds_total", help);
    let mut slices = Family::counter("node_schedstat_timeslices_total", "Number of timeslices executed by CPU.");
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(cpu) = words.next().and_then(|w| w.strip_prefix("cpu")) else { continue };
        // Fields 7 to 9 (Documentation/scheduler/sched-stats.rst), nanoseconds.
        let mut counts = words.skip(6).map_while(|w| w.parse::<f64>().ok());
        let (Some(run), Some(wait), Some(slice)) = (counts.next(), counts.next(), counts.next()) else { continue };
        let labels = || [("cpu", cpu.to_owned().into())];
        running.push_with(labels(), run / 1e9);
        waiting.push_with(labels(), wait / 1e9);
        slices.push_with(labels(), slice);
    }
    out.extend([running, waiting, slices]);
    Ok(())
}
