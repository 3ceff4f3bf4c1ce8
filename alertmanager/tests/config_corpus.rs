//! The verdicts of the real `amtool check-config` on the corpus of configuration files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use ferula_alertmanager::config::{Config, ConfigError};
use std::path::Path;

#[test]
fn verdicts_are_upstreams() {
    let Some(corpus) = std::env::var_os("FERULA_CORPUS") else {
        println!("SKIPPED alertmanager configs: FERULA_CORPUS is not set");
        return;
    };
    let corpus = Path::new(&corpus);
    let files = std::fs::read_to_string(corpus.join("baseline-3.5.3/files.json")).unwrap();
    let files: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&files).unwrap();
    let (mut same, mut texts, mut total, mut unbuilt, mut excused) = (0, 0, 0, 0, 0);
    let mut differing = Vec::new();
    for (name, verdict) in &files {
        if verdict["kind"] != "alertmanager" || verdict.get("skip").is_some() {
            continue;
        }
        let error = verdict["error"].as_str().unwrap_or("");
        // Where amtool stumbled over its own command line (a name with spaces) or panicked, there is no verdict; route
        // labels came after the version that gave the verdicts.
        if error.contains("does not exist") || error.contains("app.go") || name.ends_with("route_labels.yml") {
            excused += 1;
            continue;
        }
        let want = verdict.get("upstream").or(verdict.get("ok")).and_then(|v| v.as_bool()).unwrap();
        let text = std::fs::read_to_string(corpus.join(name)).unwrap();
        total += 1;
        let got = Config::check(name, &text);
        if matches!(Config::parse(name, &text), Err(ConfigError::NotBuiltIn { .. })) {
            unbuilt += 1;
        }
        let agrees = got.is_ok() == want;
        same += u32::from(agrees);
        let reason = got.as_ref().err().map(|e| e.reason()).unwrap_or_default();
        if !agrees {
            differing.push(format!(
                "{name}: want ok={want} {error:?}, got {:?}",
                got.as_ref().err().map(ToString::to_string)
            ));
        } else if !want {
            if error.contains(&reason) || (error.contains("not found in type") && reason.contains("unknown field")) {
                texts += 1;
            } else {
                println!("other text: {name}: {reason:?} not in {error:?}");
            }
        }
    }
    println!(
        "alertmanager configs: {same} of {total} as upstream ({unbuilt} of them name receivers not built in; {texts} refusals in upstream's words; {excused} without a verdict)"
    );
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}
