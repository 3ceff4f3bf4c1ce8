//! `/proc/stat` apart from the CPU times.
use ferula_exposition::family::Family;

use super::{Collect, Context};
use crate::Error;

/// The vectors of the `softirq` line, in the kernel's order.
const SOFTIRQS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let with_softirqs = context.flags.is_set("collector.stat.softirq");
    Ok(Box::new(move |out| {
        let text = source.proc("stat")?;
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let (Some(key), Some(value)) = (words.next(), words.next()) else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            out.push(match key {
                "intr" => Family::counter("node_intr_total", "Total number of interrupts serviced.").with(value),
                "ctxt" => {
                    let help = "Total number of context switches.";
                    Family::counter("node_context_switches_total", help).with(value)
                }
                "btime" => Family::gauge("node_boot_time_seconds", "Node boot time, in unixtime.").with(value),
                "processes" => Family::counter("node_forks_total", "Total number of forks.").with(value),
                "procs_running" => {
                    let help = "Number of processes in runnable state.";
                    Family::gauge("node_procs_running", help).with(value)
                }
                "procs_blocked" => {
                    let help = "Number of processes blocked waiting for I/O to complete.";
                    Family::gauge("node_procs_blocked", help).with(value)
                }
                "softirq" if with_softirqs => {
                    let mut family = Family::counter("node_softirqs_total", "Number of softirq calls.");
                    for (vector, count) in SOFTIRQS.into_iter().zip(words.map_while(|w| w.parse().ok())) {
                        family.push_with([("vector", vector.into())], count);
                    }
                    family
                }
                _ => continue,
            });
        }
        Ok(())
    }))
}
