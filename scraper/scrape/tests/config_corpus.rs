//! The scrape part of every configuration file of the corpus (`FERULA_CORPUS`), against upstream's verdicts. The rest of the
//! files is the server's, whose own test reads them whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ferula_scraper_scrape::config::{GlobalConfig, ScrapeConfig};
use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Deserialize, Default)]
#[serde(default)]
struct File {
    global: GlobalConfig,
    scrape_configs: Vec<ScrapeConfig>,
    #[serde(flatten)]
    _rest: BTreeMap<String, IgnoredAny>,
}

fn check(text: &str) -> Result<(), String> {
    let file: File = ferula_yaml::from_str("f", text).map_err(|e| e.to_string())?;
    let global = file.global.resolve().map_err(|e| e.to_string())?;
    let mut names = BTreeSet::new();
    for job in file.scrape_configs {
        let job = job.resolve(&global).map_err(|e| e.to_string())?;
        if !names.insert(job.job_name.clone()) {
            return Err(format!("found multiple scrape configs with job name {:?}", job.job_name));
        }
    }
    Ok(())
}

#[test]
fn scrape_sections_are_judged_as_upstream_judges() {
    let Ok(corpus) = std::env::var("FERULA_CORPUS").map(PathBuf::from) else {
        println!("SKIPPED scrape config corpus: FERULA_CORPUS is not set");
        return;
    };
    let text = std::fs::read_to_string(corpus.join("baseline-3.5.3/files.json")).expect("files.json");
    let records: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let (mut good, mut good_loaded, mut refused, mut same_cause) = (0, 0, 0, 0);
    let mut wrong = Vec::new();
    for (path, record) in records.iter().filter(|(_, r)| r["kind"] == "prometheus" && r.get("skip").is_none()) {
        let Ok(text) = std::fs::read_to_string(corpus.join(path)) else { continue };
        let ok = record.get("upstream").unwrap_or(&record["ok"]) == true;
        let verdict = check(&text);
        let error = record["error"].as_str().unwrap_or("").replace('\\', "");
        match (ok, verdict) {
            (true, Ok(())) => {
                good += 1;
                good_loaded += 1;
            }
            (true, Err(e)) => {
                good += 1;
                wrong.push(format!("{path}: {e}"));
            }
            (false, Err(e)) => {
                refused += 1;
                let cause = e.rsplit(": ").next().unwrap_or(&e).replace('\\', "");
                if error.contains(&cause) || cause.contains("unknown field") && error.contains("not found in type") {
                    same_cause += 1;
                } else {
                    println!("other cause: {path}\n  ours      {e}\n  upstream  {error}");
                }
            }
            (false, Ok(())) => {} // refused for another section, or for a mechanism not built in
        }
    }
    for w in &wrong {
        println!("refused but good: {w}");
    }
    println!(
        "scrape config corpus: {good_loaded} of {good} good files load; {same_cause} of {refused} refused ones name upstream's cause"
    );
    assert!(wrong.is_empty());
}
