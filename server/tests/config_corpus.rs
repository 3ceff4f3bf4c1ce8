//! Real configurations, good and bad: accepted and refused as upstream does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferula_server::config::{LoadOptions, Source, load};

/// Files whose verdict hangs on a discovery mechanism that is read but not checked in this build.
const FOREIGN: &[&str] = &[
    "ec2_",
    "eureka_",
    "hetzner_",
    "ionos_",
    "lightsail_",
    "marathon_",
    "oci_",
    "openstack_",
    "outscale_",
    "ovhcloud_",
    "puppetdb_",
    "scaleway_",
    "stackit_",
    "uyuni_",
    "vultr_",
];

/// Files on which we differ, and why.
const KNOWN: &[(&str, &str)] = &[
    ("config/examples/prometheus.yml", "uses a field that is newer than the recorded Prometheus"),
    ("NativeHistogramConfigMissConvertClassicHistogramsToNHCB.golden", "uses a field of Prometheus 2"),
    ("scrape_config_local_infer_escaping.yml", "newer versions infer the escaping scheme"),
];

#[test]
fn accepts_and_refuses_as_upstream() {
    let Some(corpus) = std::env::var_os("FERULA_CORPUS").map(PathBuf::from) else {
        println!("SKIPPED config corpus: FERULA_CORPUS is not set");
        return;
    };
    let text = std::fs::read_to_string(corpus.join("baseline-3.5.3/files.json")).unwrap();
    let verdicts: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let options = LoadOptions { environment: Arc::new(|_| None), ..LoadOptions::default() };
    let (mut agreed, mut foreign, mut wrong) = (0, 0, Vec::new());
    for (file, verdict) in &verdicts {
        if verdict["kind"] != "prometheus" || verdict["skip"] == true {
            continue;
        }
        let expected = verdict.get("upstream").unwrap_or(&verdict["ok"]).as_bool().unwrap();
        let got = load(&Source::File(corpus.join(file)), &options);
        if got.is_ok() == expected {
            agreed += 1;
            continue;
        }
        let name = Path::new(file).file_name().unwrap().to_str().unwrap();
        // It was read, and failed later because a file it names is not there.
        let later = verdict["error"].as_str().is_some_and(|e| e.contains("while applying the new configuration"));
        if later || KNOWN.iter().any(|(known, _)| file.ends_with(known)) {
            continue;
        }
        if !expected && FOREIGN.iter().any(|f| name.starts_with(f)) {
            foreign += 1;
            continue;
        }
        let ours = got.map_or_else(|e| e.to_string(), |_| "accepted".to_owned());
        wrong.push(format!("{file}: upstream {}, we: {ours}", verdict["error"]));
    }
    println!("config corpus: {agreed} agree, {foreign} hang on discovery that is not built in, {} differ", wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(agreed > 100);
}
