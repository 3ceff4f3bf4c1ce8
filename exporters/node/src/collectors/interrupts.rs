//! `/proc/interrupts`: a counter per interrupt and CPU. Off by default because of their number.
use ferula_exposition::family::{Family, Text};

use super::{Collect, Context};
use crate::Error;
use crate::filter::Filter;

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let filter =
        Filter::from_flags(&context.flags, "collector.interrupts.name-exclude", "collector.interrupts.name-include")?;
    let with_zeros = context.flags.is_set("collector.interrupts.include-zeros");
    Ok(Box::new(move |out| {
        let text = source.proc("interrupts")?;
        let mut lines = text.lines();
        let cpus = lines.next().unwrap_or_default().split_whitespace().count();
        let mut family = Family::counter("node_interrupts_total", "Interrupt details.");
        for line in lines {
            let Some((kind, rest)) = line.split_once(':') else { continue };
            let kind = kind.trim();
            let words: Vec<&str> = rest.split_whitespace().collect();
            // ERR and MIS have one number for all CPUs and no description.
            let Some((counts, description)) = words.split_at_checked(cpus) else { continue };
            if description.is_empty() {
                continue;
            }
            let (info, devices) = if kind.parse::<u32>().is_ok() {
                let (info, devices) = description.split_at(1);
                (info.concat(), devices.join(" "))
            } else {
                (description.join(" "), String::new())
            };
            if filter.ignores(&format!("{kind};{info};{devices}")) {
                continue;
            }
            for (cpu, count) in counts.iter().enumerate() {
                let Ok(count) = count.parse::<f64>() else { continue };
                if count == 0.0 && !with_zeros {
                    continue;
                }
                let labels = [
                    ("cpu", Text::Owned(cpu.to_string())),
                    ("devices", devices.clone().into()),
                    ("info", info.clone().into()),
                    ("type", kind.to_owned().into()),
                ];
                family.push_with(labels, count);
            }
        }
        out.push(family);
        Ok(())
    }))
}
