//! Kernel object caches: `/proc/slabinfo`, for root only.
use ferula_exposition::family::Family;

use super::{Collect, Context};
use crate::Error;
use crate::filter::expression;

/// Columns after the name: metric, help.
const COLUMNS: [(&str, &str); 5] = [
    ("node_slabinfo_active_objects", "The number of objects that are currently active (i.e., in use)."),
    (
        "node_slabinfo_objects",
        "The total number of allocated objects (i.e., objects that are both in use and not in use).",
    ),
    ("node_slabinfo_object_size_bytes", "The size of objects in this slab, in bytes."),
    ("node_slabinfo_objects_per_slab", "The number of objects stored in each slab."),
    ("node_slabinfo_pages_per_slab", "The number of pages allocated for each slab."),
];

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let include = expression(&context.flags, "collector.slabinfo.slabs-include")?;
    let exclude = expression(&context.flags, "collector.slabinfo.slabs-exclude")?;
    Ok(Box::new(move |out| {
        let text = source.proc("slabinfo")?;
        let mut families: Vec<Family> = COLUMNS.iter().map(|(name, help)| Family::gauge(*name, *help)).collect();
        // Version and column names come first.
        for line in text.lines().skip(2) {
            let mut words = line.split_whitespace();
            let Some(slab) = words.next() else { continue };
            let is_chosen = include.as_ref().is_none_or(|r| r.is_match(slab))
                && !exclude.as_ref().is_some_and(|r| r.is_match(slab));
            if !is_chosen {
                continue;
            }
            for (family, value) in families.iter_mut().zip(words.map_while(|w| w.parse().ok())) {
                family.push_with([("slab", slab.to_owned().into())], value);
            }
        }
        out.append(&mut families);
        Ok(())
    }))
}
