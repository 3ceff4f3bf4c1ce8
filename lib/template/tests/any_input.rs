//! Whatever the text: no panic, no overflow on a small stack, an end within the limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use ferula_template::functions::{alertmanager, prometheus};
use ferula_template::{Limits, MissingKey, Templates, Value};
use proptest::prelude::*;

fn digest(text: &str) {
    let limits = Limits { steps: 20_000, bytes: 1 << 20, ..Limits::default() };
    let labels = Value::string_map([("job", "node"), ("instance", "h:1")]);
    let time = ferula_template::time::from_ms(1_700_000_000_000).map(Value::from).unwrap();
    let data = Value::map([
        ("Labels", labels),
        ("Value", Value::Float(1.5)),
        ("List", Value::strings(["a", "<b>"])),
        ("Time", time),
        ("D", Value::Duration(90_000_000_000)),
    ]);
    let mut functions = prometheus::functions("http://x/");
    functions.extend(alertmanager::functions(std::sync::Arc::new(ferula_model::SystemClock)));
    let set = Templates::new(functions).missing_key(MissingKey::Zero).limits(limits);
    let _ = set.expand(text, &data);
    let _ = set.expand_html(text, &data);
}

#[test]
fn seeds_of_the_fuzz_target() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/template");
    let mut count = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        digest(&std::fs::read_to_string(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count >= 8);
}

const PIECES: &[&str] = &[
    "{{",
    "}}",
    "{{-",
    "-}}",
    " ",
    "\n",
    "if ",
    "else ",
    "end",
    "range ",
    "with ",
    "define ",
    "template ",
    "block ",
    "break",
    "continue",
    "$x",
    "$",
    ":=",
    "=",
    ",",
    "|",
    "(",
    ")",
    ".",
    ".Labels",
    ".List",
    ".Value",
    ".Time",
    ".D",
    ".job",
    ".Foo",
    ".Format",
    ".Round",
    ".Sub",
    "\"a\"",
    "`r`",
    "'c'",
    "nil",
    "true",
    "0",
    "1",
    "-1",
    "1.5",
    "1e400",
    "9223372036854775807",
    "printf ",
    "print ",
    "index ",
    "slice ",
    "len ",
    "eq ",
    "lt ",
    "and ",
    "or ",
    "not ",
    "call ",
    "html ",
    "js ",
    "urlquery ",
    "\"%[3]*.[2]*[1]f%s%v%q\"",
    "humanize ",
    "humanizeDuration ",
    "toTime ",
    "reReplaceAll ",
    "match ",
    "list ",
    "dict ",
    "append ",
    "join ",
    "date ",
    "tz ",
    "toJson ",
    "safeHtml ",
    "title ",
    "stripDomain ",
    "parseDuration ",
    "/*",
    "*/",
    "<",
    ">",
    "<a href=",
    "\"",
    "'",
    "<script>",
    "</script>",
    "<style>",
    "<!--",
    "-->",
    " onclick=",
    " style=",
    "url(",
    "?",
    "#",
    "/",
    "é",
    "\u{2028}",
    "\0",
    "😀",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]
    #[test]
    fn pieces_of_the_language(picks in proptest::collection::vec(0..PIECES.len(), 0..40)) {
        let text: String = picks.iter().map(|i| PIECES[*i]).collect();
        digest(&text);
    }

    #[test]
    fn pieces_within_actions(picks in proptest::collection::vec(proptest::collection::vec(17..PIECES.len(), 1..8), 1..6)) {
        let text: String = picks
            .iter()
            .map(|action| format!("{{{{ {} }}}}", action.iter().map(|i| PIECES[*i]).collect::<Vec<_>>().join(" ")))
            .collect();
        digest(&text);
    }

    #[test]
    fn any_text(text in ".{0,200}") {
        digest(&text);
        digest(&format!("{{{{{text}}}}}"));
    }

    #[test]
    fn any_format(verb in "%[-+# 0]{0,3}[0-9]{0,4}(\\.[0-9]{0,3})?[a-zA-Z%]", n in proptest::num::i64::ANY, f in proptest::num::f64::ANY) {
        let args = [Value::Int(n), Value::Float(f), Value::str(&verb)];
        for a in args {
            let _ = ferula_template::format::sprintf(&verb, &[a], 1 << 16);
        }
    }
}
