//! What the kernel says about each CPU vulnerability: `/sys/devices/system/cpu/vulnerabilities`.
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::{Source, attribute};

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let help = "Details of each CPU vulnerability reported by sysfs. The value of the series is an int encoded state of \
                the vulnerability. The same state is stored as a string in the label";
    let mut family = Family::gauge("node_cpu_vulnerabilities_info", help);
    let folder = "devices/system/cpu/vulnerabilities";
    for name in source.sys_entries_or_no_data(folder)? {
        let Ok(text) = attribute(&source.sys_path(&format!("{folder}/{name}"))) else { continue };
        let (state, mitigation) = match text.strip_prefix("Mitigation: ") {
            Some(how) => ("mitigation", how),
            None if text.starts_with("Not affected") => ("not affected", ""),
            None if text.starts_with("Vulnerable") => ("vulnerable", ""),
            None => ("unknown", ""),
        };
        let labels =
            [("codename", Text::Owned(name)), ("mitigation", mitigation.to_owned().into()), ("state", state.into())];
        family.push_with(labels, 1.0);
    }
    out.push(family);
    Ok(())
}
