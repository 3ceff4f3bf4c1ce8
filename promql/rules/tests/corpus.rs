//! Every rule file of the corpus is accepted or refused as the real Prometheus does, with its words.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::path::PathBuf;

use ferula_promql_rules::file;
use serde_json::Value;

#[test]
fn files_are_accepted_and_refused_as_upstream_does() {
    let Some(corpus) = std::env::var_os("FERULA_CORPUS").map(PathBuf::from).filter(|p| p.is_dir()) else {
        println!("SKIPPED rules/corpus: FERULA_CORPUS names no directory");
        return;
    };
    let verdicts = std::fs::read_to_string(corpus.join("baseline-3.5.3/files.json")).unwrap();
    let verdicts: Value = serde_json::from_str(&verdicts).unwrap();
    let (mut same, mut all, mut words, mut unknown_fields, mut refused) = (0, 0, 0, 0, 0);
    let mut differ = Vec::new();
    for (path, verdict) in verdicts.as_object().unwrap() {
        if verdict["kind"] != "rules" || verdict.get("skip").is_some_and(|s| s != false) {
            continue;
        }
        all += 1;
        // Newer than 3.5.3: upstream's own verdict counts.
        let theirs = verdict["upstream"].as_bool().or_else(|| verdict["ok"].as_bool()).unwrap();
        let text = std::fs::read_to_string(corpus.join(path)).unwrap();
        match (file::parse(path, &text), theirs) {
            (Ok(_), true) => same += 1,
            (Err(errors), false) => {
                same += 1;
                refused += 1;
                // Taken from a log line, which escapes.
                let wanted = verdict["error"].as_str().unwrap_or("").replace("\\\"", "\"").replace("\\\\", "\\");
                let first = errors[0].to_string();
                let yaml = wanted.contains("yaml: unmarshal errors");
                if wanted.ends_with(&first) {
                    words += 1;
                } else if yaml && first.contains("unknown field") {
                    unknown_fields += 1;
                } else {
                    differ.push(format!("{path}: words\n  theirs: {wanted}\n  ours:   {first}"));
                }
            }
            (ours, _) => differ.push(format!("{path}: upstream accepts: {theirs}; ours: {:?}", ours.map(|_| ()))),
        }
    }
    println!(
        "rule files: {same} of {all} accepted/refused as upstream; of {refused} refusals {words} in its very words, {unknown_fields} for the unknown field it names"
    );
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}
