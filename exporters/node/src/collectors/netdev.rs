//! `/proc/net/dev`, and the one counter it lacks from sysfs.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::{Collect, Collected, Context};
use crate::Error;
use crate::filter::Filter;
use crate::source::{Source, number_attribute};

/// Columns of `/proc/net/dev`, receiving then transmitting.
const RECEIVE: [&str; 8] = ["bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast"];
const TRANSMIT: [&str; 8] = ["bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed"];

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let (exclude, include) = ("collector.netdev.device-exclude", "collector.netdev.device-include");
    let filter = Filter::from_flags(&context.flags, exclude, include)?;
    Ok(Box::new(move |out| collect(&source, &filter, out)))
}

fn collect(source: &Source, filter: &Filter, out: &mut Vec<Family>) -> Collected {
    let text = source.proc("net/dev")?;
    let family = |direction: &str, what: &str| {
        let help = format!("Network device statistic {direction}_{what}.");
        Family::counter(format!("node_network_{direction}_{what}_total"), help)
    };
    let receive = RECEIVE.iter().map(|what| family("receive", what));
    let mut columns: Vec<Family> = receive.chain(TRANSMIT.iter().map(|what| family("transmit", what))).collect();
    let mut no_handler = family("receive", "nohandler");
    for line in text.lines().skip(2) {
        let Some((device, counts)) = line.rsplit_once(':') else {
            return Err(CollectError::Failed(format!("invalid line in net/dev: {line:?}")));
        };
        let device = device.trim();
        if filter.ignores(device) {
            continue;
        }
        for (family, word) in columns.iter_mut().zip(counts.split_whitespace()) {
            let Ok(count) = word.parse() else {
                return Err(CollectError::Failed(format!("invalid value {word:?} in net/dev of {device}")));
            };
            family.push_with([("device", device.to_owned().into())], count);
        }
        let path = source.sys_path(&format!("class/net/{device}/statistics/rx_nohandler"));
        if let Some(count) = number_attribute(&path) {
            no_handler.push_with([("device", device.to_owned().into())], count);
        }
    }
    out.append(&mut columns);
    out.push(no_handler);
    Ok(())
}
