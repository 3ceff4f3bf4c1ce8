//! `/proc/cgroups`: groups per controller of version 1.
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::Source;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc("cgroups")?;
    let help = "Current cgroup number of the subsystem.";
    let mut count = Family::gauge("node_cgroups_cgroups", help);
    let mut enabled = Family::gauge("node_cgroups_enabled", help); // upstream's words for both
    for line in text.lines().filter(|l| !l.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, _hierarchy, groups, is_enabled] = words.as_slice() else { continue };
        for (family, value) in [(&mut count, groups), (&mut enabled, is_enabled)] {
            if let Ok(value) = value.parse() {
                family.push_with([("subsys_name", (*name).to_owned().into())], value);
            }
        }
    }
    out.extend([count, enabled]);
    Ok(())
}
