//! `/proc/vmstat`, the fields an expression chooses.
use ferula_exposition::family::Family;

use super::{Collect, Context};
use crate::filter::Chosen;
use crate::{Error, parse};

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let fields = Chosen::from_flag(&context.flags, "collector.vmstat.fields")?;
    Ok(Box::new(move |out| {
        let text = source.proc("vmstat")?;
        let name = |line: &&str| fields.contains(line.split(' ').next().unwrap_or_default());
        for (key, value, _) in text.lines().filter(name).filter_map(parse::key_value) {
            let help = format!("/proc/vmstat information field {key}.");
            out.push(Family::unknown(format!("node_vmstat_{key}"), help).with(value));
        }
        Ok(())
    }))
}
