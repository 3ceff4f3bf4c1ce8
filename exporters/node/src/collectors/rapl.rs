//! Energy used by parts of the processor: `/sys/class/powercap` (running average power limit).
use std::collections::BTreeMap;
use std::io;

use ferula_exporters_shell::CollectError;
use ferula_exposition::family::{Family, Text};

use super::{Collect, Collected, Context};
use crate::Error;
use crate::source::{Source, attribute, failed};

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let with_zone_label = context.flags.is_set("collector.rapl.enable-zone-label");
    Ok(Box::new(move |out| collect(&source, with_zone_label, out)))
}

fn collect(source: &Source, with_zone_label: bool, out: &mut Vec<Family>) -> Collected {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for zone in source.sys_entries_or_no_data("class/powercap")? {
        // `intel-rapl` alone is the control type; `intel-rapl:0` and `intel-rapl:0:1` are zones.
        if !zone.contains("rapl") || !zone.contains(':') {
            continue;
        }
        let folder = source.sys_path(&format!("class/powercap/{zone}"));
        let Ok(full_name) = attribute(&folder.join("name")) else { continue };
        // `package-0` says its index; of `core` there may be one per package, counted here.
        let (name, index) = match full_name.rsplit_once('-') {
            Some((name, index)) if index.parse::<u32>().is_ok() => (name.to_owned(), index.to_owned()),
            _ => {
                let count = seen.entry(full_name.clone()).or_default();
                *count += 1;
                (full_name, (*count - 1).to_string())
            }
        };
        let path = folder.join("energy_uj");
        let microjoules: f64 = match attribute(&path) {
            Ok(text) => text.parse().map_err(|_| CollectError::Failed(format!("invalid energy_uj {text:?}")))?,
            // Since the PLATYPUS attack only root may read this.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => return Err(CollectError::NoData),
            Err(e) => return Err(failed("open", &path, &e)),
        };
        let joules = microjoules / 1e6;
        let path = Text::Owned(folder.to_string_lossy().into_owned());
        let metric = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':', "_");
        if with_zone_label {
            let family = families
                .entry(String::new())
                .or_insert_with(|| Family::counter("node_rapl_joules_total", "Current RAPL value in joules"));
            family.push_with([("index", index.into()), ("path", path), ("rapl_zone", metric.into())], joules);
        } else {
            let family = families.entry(metric.clone()).or_insert_with(|| {
                let help = format!("Current RAPL {metric} value in joules");
                Family::counter(format!("node_rapl_{metric}_joules_total"), help)
            });
            family.push_with([("index", index.into()), ("path", path)], joules);
        }
    }
    out.extend(families.into_values());
    Ok(())
}
