//! Protocol counters: `/proc/net/netstat`, `/proc/net/snmp`, `/proc/net/snmp6`.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::{Collect, Collected, Context};
use crate::Error;
use crate::filter::Chosen;
use crate::source::Source;

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let fields = Chosen::from_flag(&context.flags, "collector.netstat.fields")?;
    Ok(Box::new(move |out| collect(&source, &fields, out)))
}

fn collect(source: &Source, fields: &Chosen, out: &mut Vec<Family>) -> Collected {
    let mut key = String::new();
    let mut add = |protocol: &str, name: &str, value: &str| {
        key.clear();
        key.push_str(protocol);
        key.push('_');
        key.push_str(name);
        if !fields.contains(&key) {
            return Ok(());
        }
        let value = value
            .parse()
            .map_err(|_| CollectError::Failed(format!("invalid value {value:?} in netstats of {protocol}")))?;
        let family = Family::unknown(format!("node_netstat_{key}"), format!("Statistic {protocol}{name}."));
        out.push(family.with(value));
        Ok(())
    };
    for file in ["net/netstat", "net/snmp"] {
        // A line of names, then a line of numbers.
        let text = source.proc(file)?;
        let mut lines = text.lines();
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            let (Some((protocol, names)), Some((_, values))) = (names.split_once(':'), values.split_once(':')) else {
                return Err(CollectError::Failed(format!("invalid line in {file}: {names:?}")));
            };
            for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                add(protocol, name, value)?;
            }
        }
    }
    // Without IPv6 the file is missing. Its names hold the protocol up to the 6.
    for line in source.proc_optional("net/snmp6")?.unwrap_or_default().lines() {
        let mut words = line.split_whitespace();
        if let (Some(name), Some(value)) = (words.next(), words.next())
            && let Some(six) = name.find('6')
        {
            let (protocol, name) = name.split_at(six + 1);
            add(protocol, name, value)?;
        }
    }
    Ok(())
}
