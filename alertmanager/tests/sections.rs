//! `event_recorder` and `tracing`: the same verdicts, in the same words, as the real amtool's `check-config`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use ferula_alertmanager::config::Config;
use ferula_testkit::{Peer, skipped};

const SECTIONS: [&str; 26] = [
    "event_recorder: {}",
    "event_recorder: {file_outputs: [{}]}",
    "event_recorder: {file_outputs: [{path: a}, {path: ''}]}",
    "event_recorder: {file_outputs: [{path: a}], webhook_outputs: [{url: 'http://u:p@x/y'}]}",
    "event_recorder: {webhook_outputs: [{}]}",
    "event_recorder: {webhook_outputs: [{url: foo}]}",
    "event_recorder: {webhook_outputs: [{url: 'ftp://x'}]}",
    "event_recorder: {webhook_outputs: [{url: 'http:///x'}]}",
    "event_recorder: {webhook_outputs: [{url: 'http://x', workers: -1, max_retries: -1, retry_backoff: 1y}]}",
    "event_recorder: {webhook_outputs: [{url: 'http://x', timeout: soon}]}",
    "event_recorder: {webhook_outputs: [{url: 'http://x', http_config: {bearer_token: a, bearer_token_file: b}}]}",
    "event_recorder: {kafka_outputs: [{brokers: ['a:1'], topic: t, format: json, acks: all, compression: zstd}]}",
    "event_recorder: {kafka_outputs: [{brokers: ['a:1'], topics: t}]}",
    "event_recorder: {other: []}",
    "tracing: {}",
    "tracing: {endpoint: 'a:1'}",
    "tracing: {endpoint: 'a:1', client_type: http, sampling_fraction: 2, timeout: 1s, insecure: true}",
    "tracing: {endpoint: 'a:1', client_type: carrier}",
    "tracing: {endpoint: '', client_type: carrier, compression: none}",
    "tracing: {endpoint: 'a:1', compression: snappy}",
    "tracing: {endpoint: 'a:1', compression: gzip}",
    "tracing: {endpoint: 'a:1', headers: {a: {values: [b], files: [c]}, authorization: {secrets: [d]}}}",
    "tracing: {endpoint: 'a:1', headers: {a: b}}",
    "tracing: {endpoint: 'a:1', http_headers: {}}",
    "tracing: {endpoint: 'a:1', tls_config: {ca: a, ca_file: b}}",
    "tracing: {endpoint: 'a:1', tls_config: {cert_file: a}}",
];

#[test]
fn verdicts_are_the_real_amtools() {
    let amtool = match Peer::find("amtool", (0, 33, 0)) {
        Ok(p) => p,
        Err(why) => return skipped("sections beside the real amtool", &why),
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("am.yml");
    let mut same_words = 0;
    for section in SECTIONS {
        let text = format!("route: {{receiver: r}}\nreceivers: [{{name: r}}]\n{section}\n");
        std::fs::write(&file, &text).unwrap();
        let output = amtool.command().arg("check-config").arg(&file).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let theirs = said.split_once("FAILED: ").map(|(_, why)| why.lines().next().unwrap_or(""));
        let ours = Config::check("am.yml", &text).err().map(|e| e.reason());
        assert_eq!(ours.is_some(), theirs.is_some(), "{section}: real {theirs:?}, ours {ours:?}");
        // What is no YAML of this form is said in the words of the reader of YAML, which shows no value of a URL.
        if let (Some(theirs), Some(ours)) = (theirs, &ours)
            && !theirs.starts_with("yaml:")
            && !ours.starts_with("invalid value (not shown")
        {
            assert_eq!(theirs, ours, "{section}");
            same_words += 1;
        }
    }
    println!(
        "sections: {} of {} judged as the real amtool does, {same_words} refusals in its words",
        SECTIONS.len(),
        SECTIONS.len()
    );
}
