//! `/proc/sys/fs/file-nr`: allocated, free (always 0), maximum.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::Source;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc("sys/fs/file-nr")?;
    let numbers: Vec<f64> = text.split_whitespace().map_while(|w| w.parse().ok()).collect();
    let [allocated, _, maximum] = numbers.as_slice() else {
        return Err(CollectError::Failed(format!("unexpected number of file stats in {:?}", text.trim())));
    };
    let help = "File descriptor statistics: allocated.";
    out.push(Family::gauge("node_filefd_allocated", help).with(*allocated));
    let help = "File descriptor statistics: maximum.";
    out.push(Family::gauge("node_filefd_maximum", help).with(*maximum));
    Ok(())
}
