//! What the whole-stack tests share: the built binary under its many names, and asking its API.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use ferula_testkit::Running;
use serde_json::Value;

/// The binary under test.
pub const FERULA: &str = env!("CARGO_BIN_EXE_ferula");

/// A link to the binary under another program's name, in a folder of the caller's.
pub fn named(dir: &Path, name: &str) -> PathBuf {
    let link = dir.join(name);
    std::os::unix::fs::symlink(FERULA, &link).unwrap();
    link
}

pub fn run(program: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Asks again until `enough` says yes; panics with the last answer after the deadline. The server decides when it
/// has scraped and evaluated; there is nothing in this process to wait on.
pub fn eventually<T: std::fmt::Debug>(
    what: &str,
    seconds: u64,
    mut ask: impl FnMut() -> T,
    enough: impl Fn(&T) -> bool,
) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        let answer = ask();
        if enough(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s; last answer: {answer:?}");
        std::thread::sleep(Duration::from_millis(50)); // polling another process
    }
}

pub fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

/// `data` of a successful API answer.
pub fn api(server: &Running, path: &str) -> Value {
    let (status, body) = server.get(path);
    let json: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
    assert_eq!((status, json["status"].as_str()), (200, Some("success")), "{path}: {body}");
    json["data"].clone()
}

/// The result list of an instant query.
pub fn query(server: &Running, expr: &str) -> Vec<Value> {
    api(server, &format!("/api/v1/query?query={}", encode(expr)))["result"].as_array().cloned().unwrap_or_default()
}

/// The single value of an instant query, if there is exactly one series.
pub fn single(server: &Running, expr: &str) -> Option<f64> {
    match query(server, expr).as_slice() {
        [one] => one["value"][1].as_str().and_then(|v| v.parse().ok()),
        _ => None,
    }
}
