//! `/proc/buddyinfo`: free blocks of memory by size.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::Source;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc("buddyinfo")?;
    let mut family = Family::gauge("node_buddyinfo_blocks", "Count of free blocks according to size.");
    for line in text.lines() {
        // `Node 0, zone   Normal   4381   1093 ...`
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["Node", node, "zone", zone, counts @ ..] = words.as_slice() else { continue };
        for (size, count) in counts.iter().map_while(|w| w.parse().ok()).enumerate() {
            let labels = [
                ("node", Text::Owned(node.trim_end_matches(',').to_owned())),
                ("size", size.to_string().into()),
                ("zone", (*zone).to_owned().into()),
            ];
            family.push_with(labels, count);
        }
    }
    out.push(family);
    Ok(())
}
