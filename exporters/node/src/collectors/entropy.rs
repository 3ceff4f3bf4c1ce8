//! The kernel's entropy pool.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::Source;

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    for (file, name, help) in [
        ("entropy_avail", "node_entropy_available_bits", "Bits of available entropy."),
        ("poolsize", "node_entropy_pool_size_bits", "Bits of entropy pool."),
    ] {
        let text = source.proc(&format!("sys/kernel/random/{file}"))?;
        let bits = text.trim().parse().map_err(|_| CollectError::Failed(format!("couldn't parse {file}: {text:?}")))?;
        out.push(Family::gauge(name, help).with(bits));
    }
    Ok(())
}
