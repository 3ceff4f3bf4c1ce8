//! Any text: it parses or is refused, runs or fails, as text and as HTML; no panic, and an end within the limits.
#![no_main]
use ferula_template::{Limits, MissingKey, Templates, Value, functions::prometheus};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let limits = Limits { steps: 20_000, bytes: 1 << 20, ..Limits::default() };
    let set = Templates::new(prometheus::functions("http://x/")).missing_key(MissingKey::Zero).limits(limits);
    let labels = Value::string_map([("job", "node"), ("instance", "h:1")]);
    let data = Value::map([("Labels", labels), ("Value", Value::Float(1.5)), ("List", Value::strings(["a", "<b>"]))]);
    let _ = set.expand(text, &data);
    let _ = set.expand_html(text, &data);
});
