//! Inheritance and refusals; the corpus of whole files is in `tests/`.
use super::*;

fn resolve(global: &str, job: &str) -> Result<ScrapeConfig, String> {
    let global: GlobalConfig = ferula_yaml::from_str("", global).map_err(|e| e.to_string())?;
    let job: ScrapeConfig = ferula_yaml::from_str("", job).map_err(|e| e.to_string())?;
    job.resolve(&global.resolve().map_err(|e| e.to_string())?).map_err(|e| e.to_string())
}

#[test]
fn inherits_from_global() {
    let c = resolve("{scrape_interval: 5s, sample_limit: 7, body_size_limit: 1MB}", "{job_name: a, sample_limit: 8}")
        .unwrap();
    assert_eq!((c.scrape_interval.ms(), c.scrape_timeout.ms()), (5000, 5000));
    assert_eq!((c.sample_limit, c.body_size_limit), (8, Bytes(1 << 20)));
    assert_eq!(c.scrape_protocols, DEFAULT_PROTOCOLS);
    let native = resolve("", "{job_name: a, scrape_native_histograms: true}").unwrap();
    assert_eq!(native.scrape_protocols, NATIVE_PROTOCOLS);
    assert_eq!(
        accept_header(&c.scrape_protocols, &c.metric_name_escaping_scheme),
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,\
         text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    );
}

#[test]
fn refuses_as_upstream() {
    for (global, job, expect) in [
        ("", "{}", "job_name is empty"),
        (
            "",
            "{job_name: a, scrape_timeout: 2m}",
            "scrape timeout greater than scrape interval for scrape config with job name \"a\"",
        ),
        (
            "{scrape_interval: 1s, scrape_timeout: 2s}",
            "{job_name: a}",
            "global scrape timeout greater than scrape interval",
        ),
        ("", "{job_name: a, relabel_configs: [null]}", "empty or null target relabeling rule in scrape config"),
        (
            "",
            "{job_name: a, relabel_configs: [{action: hashmod, source_labels: [x]}]}",
            "relabel configuration for hashmod requires non-zero modulus",
        ),
        (
            "",
            "{job_name: a, scrape_protocols: [PrometheusText0.0.4, PrometheusText0.0.4]}",
            "duplicated protocol in scrape_protocols, got [PrometheusText0.0.4 PrometheusText0.0.4] for scrape config with job name \"a\"",
        ),
        ("", "{job_name: a, static_configs: [{targets: ['http://x']}]}", "\"http://x\" is not a valid hostname"),
        (
            "",
            "{job_name: a, bearer_token: x, bearer_token_file: y}",
            "at most one of bearer_token & bearer_token_file must be configured",
        ),
    ] {
        assert_eq!(resolve(global, job).map(drop), Err(expect.to_owned()), "{job}");
    }
    let e = resolve("", "{job_name: a, honor_lables: true}").unwrap_err();
    assert!(e.contains("unknown field \"honor_lables\""), "{e}");
    let c = resolve("", "{job_name: a, nerve_sd_configs: [{server: x, token: secret}]}").unwrap();
    assert_eq!(c.require_built().unwrap_err().message, "nerve_sd_configs: known, but not built in yet (job \"a\")");
}
