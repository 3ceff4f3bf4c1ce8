//! Whatever stands in a rule file: it is accepted, or refused with reasons.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use ferula_promql_rules::file;

#[test]
fn seeds_of_the_fuzz_target() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/rule_file");
    let mut verdicts = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        // Whole, and cut anywhere.
        for end in (0..=text.len()).filter(|i| text.is_char_boundary(*i)) {
            if let Err(errors) = file::parse("f.yml", &text[..end]) {
                assert!(!errors.is_empty());
            }
        }
        verdicts.push((path.file_stem().unwrap().to_str().unwrap().to_owned(), file::parse("f.yml", &text).is_ok()));
    }
    verdicts.sort();
    assert_eq!(verdicts, [("bad".into(), false), ("documents".into(), true), ("good".into(), true)]);
}

#[test]
fn errors_name_line_column_and_field() {
    for (text, error) in [
        (
            "groups:\n- name: g\n  rules:\n  - record: r\n    expr: 1\n    fro: 1m\n",
            "f.yml: 6:5: groups[0].rules[0]: unknown field \"fro\"",
        ),
        (
            "groups:\n- name: g\n  interval: 1x\n",
            "f.yml: 3:13: groups[0].interval: not a valid duration string: \"1x\"",
        ),
        (
            "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up >\n",
            "f.yml: 5:11: group \"g\", rule 1, \"A\": could not parse expression: 1:5: parse error: unexpected end of input",
        ),
        (
            "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: up\n    labels: {a: '{{ $x }}'}\n",
            "f.yml: group \"g\", rule 1, \"A\": label \"a\": template: __alert_A:1: undefined variable \"$x\"",
        ),
        ("groups:\n- rules: []\n", "f.yml: 2:3: Groupname must not be empty"),
    ] {
        let errors = file::parse("f.yml", text).unwrap_err();
        assert_eq!(errors[0].to_string(), error);
    }
}

#[test]
fn all_complaints_are_answered() {
    let text = "groups:\n- name: g\n  rules:\n  - {record: r, expr: 'a b', for: 1m}\n  - {alert: A, record: B}\n";
    let errors: Vec<String> = file::parse("f.yml", text).unwrap_err().iter().map(|e| e.message.clone()).collect();
    assert_eq!(errors.len(), 4, "{errors:#?}");
}
