//! `/proc/net/softnet_stat`: packets through each CPU's receive queue.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::Source;

/// Column, metric, help. The rest of the columns is always zero.
const COLUMNS: [(usize, &str, &str); 7] = [
    (0, "node_softnet_processed_total", "Number of processed packets"),
    (1, "node_softnet_dropped_total", "Number of dropped packets"),
    (2, "node_softnet_times_squeezed_total", "Number of times processing packets ran out of quota"),
    (8, "node_softnet_cpu_collision_total", "Number of collision occur while obtaining device lock while transmitting"),
    (9, "node_softnet_received_rps_total", "Number of times cpu woken up received_rps"),
    (10, "node_softnet_flow_limit_count_total", "Number of times flow limit has been reached"),
    (11, BACKLOG, "Softnet backlog status"),
];
const BACKLOG: &str = "node_softnet_backlog_len";
/// Newer kernels say which CPU a line is about, because off-line ones have none.
const CPU_COLUMN: usize = 12;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc("net/softnet_stat")?;
    let new = |(_, name, help): &(usize, &'static str, &'static str)| {
        if *name == BACKLOG { Family::gauge(*name, *help) } else { Family::counter(*name, *help) }
    };
    let mut families: Vec<Family> = COLUMNS.iter().map(new).collect();
    for (i, line) in text.lines().enumerate() {
        let columns: Result<Vec<u64>, _> = line.split_whitespace().map(|w| u64::from_str_radix(w, 16)).collect();
        let columns = columns.map_err(|_| CollectError::Failed(format!("invalid line in softnet_stat: {line:?}")))?;
        let cpu = columns.get(CPU_COLUMN).copied().unwrap_or(i as u64);
        for ((column, ..), family) in COLUMNS.iter().zip(&mut families) {
            // Old kernels have fewer columns; upstream shows zero then.
            let count = columns.get(*column).copied().unwrap_or(0);
            family.push_with([("cpu", cpu.to_string().into())], count as f64);
        }
    }
    out.append(&mut families);
    Ok(())
}
