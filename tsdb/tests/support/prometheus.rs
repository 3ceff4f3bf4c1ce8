//! A real Prometheus on a data directory, and its answers beside ours.
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Content, Sample};

pub fn get(address: &str, path: &str) -> Option<String> {
    request(address, "GET", path)
}

/// The body of a good answer.
pub fn request(address: &str, method: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.0 20").then(|| body.to_owned())
}

/// Asks until the answer is as wanted: another process, there is nothing else to wait on.
pub fn wait_for(address: &str, path: &str, wanted: impl Fn(&str) -> bool) -> String {
    for _ in 0..600 {
        if let Some(body) = get(address, path).filter(|b| wanted(b)) {
            return body;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{path}: no answer as wanted within half a minute");
}

pub fn start(program: &Path, dir: &Path, data: &Path, scrapes: bool) -> (Child, String) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = dir.join("prometheus.yml");
    let text = match scrapes {
        true => format!(
            "global: {{scrape_interval: 100ms}}\nscrape_configs: [{{job_name: a, static_configs: [{{targets: ['{address}']}}]}}]\n"
        ),
        false => "global: {}\n".to_owned(),
    };
    std::fs::write(&config, text).unwrap();
    let child = Command::new(program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--enable-feature=memory-snapshot-on-shutdown,native-histograms,exemplar-storage")
        .arg("--web.enable-admin-api")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (child, address)
}

/// As from a supervisor: it writes its snapshot and ends.
pub fn stop(mut child: Child) {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap();
}

/// Samples by the labels' JSON: time, and value or count and sum of a histogram, as the API prints them.
pub type Answer = BTreeMap<String, Vec<String>>;

fn number(text: &str) -> String {
    format!("{:?}", text.parse::<f64>().unwrap())
}

fn milliseconds(v: &serde_json::Value) -> i64 {
    (v.as_f64().unwrap() * 1000.0).round() as i64
}

/// What a real server answers to a query for a range of samples, as it stands in an address.
pub fn answer(program: &Path, dir: &Path, data: &Path, query: &str) -> Answer {
    let (child, address) = start(program, dir, data, false);
    wait_for(&address, "/-/ready", |_| true);
    let body = wait_for(&address, &format!("/api/v1/query?query={query}"), |b| b.contains("success"));
    stop(child);
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    let mut out = Answer::new();
    for series in json["data"]["result"].as_array().unwrap() {
        let labels: BTreeMap<&String, &serde_json::Value> = series["metric"].as_object().unwrap().iter().collect();
        let samples = out.entry(serde_json::to_string(&labels).unwrap()).or_default();
        for v in series["values"].as_array().into_iter().flatten() {
            samples.push(format!("{} {}", milliseconds(&v[0]), number(v[1].as_str().unwrap())));
        }
        for h in series["histograms"].as_array().into_iter().flatten() {
            let field = |name: &str| number(h[1][name].as_str().unwrap());
            samples.push(format!("{} {} {}", milliseconds(&h[0]), field("count"), field("sum")));
        }
        samples.sort();
    }
    out
}

pub fn ours(content: &Content) -> Answer {
    let mut out = Answer::new();
    for (labels, samples) in content {
        let labels: BTreeMap<&str, &str> = labels.iter().collect();
        let mut lines: Vec<String> = samples
            .iter()
            .filter_map(|(t, s)| match s {
                Sample::Float(v) if ferula_model::is_stale_nan(*v) => None,
                Sample::Float(v) => Some(format!("{t} {v:?}")),
                Sample::Histogram(h) if h.is_stale() => None,
                Sample::Histogram(h) => Some(format!("{t} {:?} {:?}", h.count, h.sum)),
            })
            .collect();
        lines.sort();
        if !lines.is_empty() {
            out.insert(serde_json::to_string(&labels).unwrap(), lines);
        }
    }
    out
}
