//! `/proc/loadavg`.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::Source;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc("loadavg")?;
    let mut averages = text.split_whitespace().map_while(|w| w.parse::<f64>().ok());
    for (name, help) in
        [("node_load1", "1m load average."), ("node_load5", "5m load average."), ("node_load15", "15m load average.")]
    {
        let unexpected = || CollectError::Failed(format!("unexpected content in loadavg: {:?}", text.trim()));
        out.push(Family::gauge(name, help).with(averages.next().ok_or_else(unexpected)?));
    }
    Ok(())
}
