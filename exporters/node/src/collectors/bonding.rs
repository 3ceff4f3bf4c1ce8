//! Bonded interfaces: slaves configured and up.
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::{Source, attribute};

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let masters = attribute(&source.sys_path("class/net/bonding_masters"))
        .map_err(|_| ferula_exporters_shell::CollectError::NoData)?;
    let help = "Number of configured slaves per bonding interface.";
    let mut slaves = Family::gauge("node_bonding_slaves", help);
    let mut active = Family::gauge("node_bonding_active", "Number of active slaves per bonding interface.");
    for master in masters.split_whitespace() {
        let path = |file: &str| source.sys_path(&format!("class/net/{master}/{file}"));
        let names = attribute(&path("bonding/slaves")).unwrap_or_default();
        let is_up = |slave: &str| {
            // Kernels before 3.19 called the link `slave_<name>`.
            [format!("lower_{slave}"), format!("slave_{slave}")]
                .iter()
                .find_map(|link| attribute(&path(&format!("{link}/bonding_slave/mii_status"))).ok())
                .is_some_and(|status| status == "up")
        };
        let labels = || [("master", master.to_owned().into())];
        slaves.push_with(labels(), names.split_whitespace().count() as f64);
        active.push_with(labels(), names.split_whitespace().filter(|s| is_up(s)).count() as f64);
    }
    out.extend([slaves, active]);
    Ok(())
}
