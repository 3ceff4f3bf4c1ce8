//! `/proc/sys/kernel/hung_task_detect_count` (Linux 6.13).
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::Source;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc_or_no_data("sys/kernel/hung_task_detect_count")?;
    let count =
        text.trim().parse().map_err(|_| CollectError::Failed(format!("unexpected hung task count {text:?}")))?;
    let help = "Total number of tasks that have been detected as hung since the system booted.";
    out.push(Family::counter("node_kernel_hung_tasks_total", help).with(count));
    Ok(())
}
