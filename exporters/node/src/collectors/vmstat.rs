//! `/proc/vmstat`, the fields an expression chooses.
use ferula_exposition::family::Family;

use super::{Collect, Context};
use crate::filter::expression;
use crate::{Error, parse};

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let source = context.source.clone();
    let fields = expression(&context.flags, "collector.vmstat.fields")?;
    Ok(Box::new(move |out| {
        let text = source.proc("vmstat")?;
        for (key, value, _) in text.lines().filter_map(parse::key_value) {
            if fields.as_ref().is_none_or(|r| r.is_match(key)) {
                let help = format!("/proc/vmstat information field {key}.");
                out.push(Family::unknown(format!("node_vmstat_{key}"), help).with(value));
            }
        }
        Ok(())
    }))
}
