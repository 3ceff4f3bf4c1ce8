//! `/proc/net/arp`: neighbours per device.
use std::collections::BTreeMap;

use ferula_exposition::family::Family;

use super::{Collect, Context};
use crate::Error;
use crate::filter::Filter;

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let filter = Filter::from_flags(&context.flags, "collector.arp.device-exclude", "collector.arp.device-include")?;
    Ok(Box::new(move |out| {
        let text = source.proc("net/arp")?;
        let mut entries: BTreeMap<&str, u64> = BTreeMap::new();
        for device in text.lines().skip(1).filter_map(|l| l.split_whitespace().nth(5)) {
            *entries.entry(device).or_default() += 1;
        }
        let mut family = Family::gauge("node_arp_entries", "ARP entries by device");
        for (device, count) in entries.into_iter().filter(|(d, _)| !filter.ignores(d)) {
            family.push_with([("device", device.to_owned().into())], count as f64);
        }
        out.push(family);
        Ok(())
    }))
}
