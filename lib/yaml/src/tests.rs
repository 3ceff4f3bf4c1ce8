//! Positions, paths, null rules, secrets.
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Duration, Secret, from_str, to_string};

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    global: Global,
    scrape_configs: Vec<Scrape>,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Global {
    scrape_interval: Duration,
    external_labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct Scrape {
    job_name: String,
    honor_labels: bool,
    sample_limit: Option<u64>,
    password: Secret,
    targets: Vec<String>,
}

fn read(text: &str) -> Result<Config, String> {
    from_str("p.yml", text).map_err(|e| e.to_string())
}

#[test]
fn reads_as_go_does() {
    let c = read(
        "global:\n  scrape_interval: 1m30s\n  external_labels: {a: 1, b: yes, c: 1.10, d: ~}\nscrape_configs:\n- job_name: \n  honor_labels: yes\n  targets:\n- \n",
    )
    .unwrap();
    assert_eq!(c.global.scrape_interval, Duration::from_secs(90));
    let values: Vec<&str> = c.global.external_labels.values().map(String::as_str).collect();
    assert_eq!(values, ["1", "yes", "1.10", ""]);
    assert_eq!(c.scrape_configs, [Scrape { honor_labels: true, ..Scrape::default() }, Scrape::default()]);
    assert_eq!(read("global:\nscrape_configs:\n"), Ok(Config::default()));
    assert_eq!(read(""), Ok(Config::default()));
    assert_eq!(read("# nothing\n"), Ok(Config::default()));
}

#[test]
fn errors_name_file_line_and_field() {
    for (text, want) in [
        ("global:\n  foo: 1\n", "p.yml:2:3: global: unknown field \"foo\""),
        (
            "scrape_configs:\n- job_name: a\n- job_name: b\n  honor_labels: maybe\n",
            "p.yml:4:17: scrape_configs[1].honor_labels: ",
        ),
        ("global:\n  scrape_interval: 5x\n", "p.yml:2:20: global.scrape_interval: not a valid duration string: \"5x\""),
        ("global: {}\nglobal: {}\n", "p.yml:2:1: "),
        ("global: [\n", "p.yml:"),
    ] {
        let got = read(text).unwrap_err();
        assert!(got.starts_with(want), "{text:?}: {got}");
        assert!(!got.contains('\n'), "{got}");
    }
}

#[test]
fn secrets_do_not_print() {
    let c = read("scrape_configs:\n- password: hunter2\n").unwrap();
    assert_eq!(c.scrape_configs[0].password.expose(), "hunter2");
    assert!(!format!("{c:?}").contains("hunter2"));
    assert!(to_string(&c).unwrap().contains("<secret>"));
    let e = read("scrape_configs:\n- password: [hunter2]\n").unwrap_err();
    assert!(!e.contains("hunter2") && e.contains("scrape_configs[0].password"), "{e}");
}

#[test]
fn an_alias_bomb_and_deep_nesting_end_in_an_error() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for i in 1..12 {
        let refs = vec![format!("*a{}", i - 1); 10].join(",");
        bomb.push_str(&format!("a{i}: &a{i} [{refs}]\n"));
    }
    assert!(from_str::<BTreeMap<String, serde::de::IgnoredAny>>("b.yml", &bomb).is_err());
    assert!(from_str::<Vec<serde::de::IgnoredAny>>("d.yml", &"[".repeat(100_000)).is_err());
}
