//! The admin API and the store's status, answer by answer beside a real Prometheus on a copy of the same data.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::{Path, PathBuf};

use ferula_net::client::Request;
use ferula_testkit::{Peer, Running};
use serde_json::{Value, json};
use support::{Server, Written};

const FORM: &str = "application/x-www-form-urlencoded";
const CONFIG: &str = "global: {}\n";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for e in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(e.file_name());
        if e.file_type().unwrap().is_dir() {
            copy(&e.path(), &to);
        } else {
            std::fs::copy(e.path(), to).unwrap();
        }
    }
}

/// A real server on a copy of the data.
async fn start(peer: &Peer, data: PathBuf, is_admin: bool) -> Running {
    let peer = peer.clone();
    let started = tokio::task::spawn_blocking(move || {
        peer.start(|l| {
            let store = l.dir.join("tsdb");
            copy(&data, &store);
            let mut arguments = vec![
                format!("--config.file={}", l.file("prometheus.yml", CONFIG)),
                format!("--storage.tsdb.path={}", store.display()),
                format!("--web.listen-address={}", l.addr),
            ];
            arguments.extend(is_admin.then(|| "--web.enable-admin-api".to_owned()));
            arguments
        })
    });
    started.await.unwrap()
}

/// Status and body: JSON without what differs from run to run.
async fn answer(s: &Server, base: &str, method: &str, path: &str, form: &str) -> (u16, Value) {
    let url = |query: &str| url::Url::parse(&format!("{base}{path}{query}")).unwrap();
    let request = match method {
        "POST" => Request::post(url(""), FORM, form.to_owned()),
        _ if form.is_empty() => Request::get(url("")),
        _ => Request::get(url(&format!("?{form}"))),
    };
    let a = s.send(request).await;
    let mut body = serde_json::from_str(&a.text).unwrap_or_else(|_| json!(a.text));
    if let Some(name) = body.pointer("/data/name").and_then(Value::as_str) {
        let shape: String = name.chars().map(|c| if c.is_ascii_hexdigit() { 'x' } else { c }).collect();
        body["data"]["name"] = json!(shape);
    }
    (a.status, body)
}

/// Upstream's rankings are out of a map: which of equal counts come first, and which fit under the limit, is chance.
fn without_ties(answer: &mut Value) {
    for ranking in answer.get_mut("data").and_then(Value::as_object_mut).into_iter().flat_map(|d| d.values_mut()) {
        let Some(list) = ranking.as_array_mut().filter(|l| l.iter().all(|e| e["value"].is_u64())) else { continue };
        let least = list.last().map(|e| e["value"].clone());
        list.iter_mut().filter(|e| Some(&e["value"]) == least.as_ref()).for_each(|e| e["name"] = Value::Null);
        list.sort_by_key(|e| (std::cmp::Reverse(e["value"].as_u64()), e["name"].to_string()));
    }
}

/// Labels, then seconds before now and value.
type Owned = (Vec<(&'static str, String)>, Vec<(i64, f64)>);

fn samples() -> Vec<Owned> {
    let name = |i: usize| ["http_requests_total", "up", "go_goroutines", "process_cpu_seconds_total"][i % 4];
    let labels = |i: usize| {
        vec![
            ("__name__", name(i).to_owned()),
            ("instance", format!("host-{}:9100", i % 7)),
            ("job", format!("job-{}", i % 3)),
            ("path", format!("/api/v{}", i / 5)),
        ]
    };
    let values = |i: usize| (0..(20 + i as i64)).rev().map(|n| (n * 15, (n * i as i64) as f64)).collect();
    (0..60).map(|i| (labels(i), values(i))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_the_real_servers() {
    let peer = match Peer::find("prometheus", (3, 5, 0)) {
        Ok(p) => p,
        Err(why) => return println!("SKIPPED admin API beside Prometheus: {why}"),
    };
    let s = Server::start(CONFIG).await;
    for (labels, values) in &samples() {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let one: Written<'_> = (&labels, values);
        s.store(&[one]).await;
    }
    let dir = s.stop().await;
    let data = dir.path().join("data");
    let (off, on) = (start(&peer, data.clone(), false).await, start(&peer, data, true).await);
    let (mut compared, mut wrong) = (0, Vec::new());
    let mut check = |what: String, mut got: (u16, Value), mut want: (u16, Value)| {
        compared += 1;
        without_ties(&mut got.1);
        without_ties(&mut want.1);
        if got != want {
            wrong.push(format!("{what}:\n  got  {} {}\n  want {} {}", got.0, got.1, want.0, want.1));
        }
    };

    let s = Server::start_in(dir, |_| {}).await;
    let ours = format!("http://{}", s.address);
    for (method, path, form) in [
        ("POST", "/api/v1/admin/tsdb/delete_series", "match[]=up"),
        ("POST", "/api/v1/admin/tsdb/clean_tombstones", ""),
        ("POST", "/api/v1/admin/tsdb/snapshot", ""),
        ("GET", "/api/v1/admin/tsdb/snapshot", ""),
        ("GET", "/api/v1/status/tsdb", ""),
        ("GET", "/api/v1/status/tsdb", "limit=3"),
        ("GET", "/api/v1/status/tsdb", "limit=0"),
        ("GET", "/api/v1/status/tsdb", "limit=-1"),
        ("GET", "/api/v1/status/tsdb", "limit=x"),
        ("GET", "/api/v1/status/tsdb", "limit=10000000000000000000000"),
    ] {
        let got = answer(&s, &ours, method, path, form).await;
        let want = answer(&s, &off.url(""), method, path, form).await;
        check(format!("{method} {path} {form}"), got, want);
    }
    let dir = s.stop().await;

    let s = Server::start_in(dir, |o| o.web.enable_admin_api = true).await;
    let ours = format!("http://{}", s.address);
    let everything = ("GET", "/api/v1/query", "query=%7B__name__!%3D%22%22%7D%5B1h%5D&time=1700000000");
    let status = ("GET", "/api/v1/status/tsdb", "limit=20");
    for (method, path, form) in [
        ("POST", "/api/v1/admin/tsdb/delete_series", ""),
        ("POST", "/api/v1/admin/tsdb/delete_series", "match[]="),
        ("POST", "/api/v1/admin/tsdb/delete_series", "match[]={"),
        ("POST", "/api/v1/admin/tsdb/delete_series", "match[]={}"),
        // In the other order upstream deletes before it sees the mistake; here nothing is deleted then.
        ("POST", "/api/v1/admin/tsdb/delete_series", "match[]=1&match[]=up"),
        ("POST", "/api/v1/admin/tsdb/delete_series", "match[]=up&start=x"),
        ("POST", "/api/v1/admin/tsdb/delete_series", "match[]=up&end=y"),
        ("POST", "/api/v1/admin/tsdb/delete_series", "match[]=up&start=10&end=5"),
        ("POST", "/api/v1/admin/tsdb/snapshot", "skip_head=perhaps"),
        ("GET", "/api/v1/admin/tsdb/delete_series", "match[]=up"),
        everything,
        ("POST", "/api/v1/admin/tsdb/delete_series", "match[]=up&start=1699999700&end=1699999800.5"),
        everything,
        ("POST", "/api/v1/admin/tsdb/delete_series", "match[]=go_goroutines&match[]={job=\"job-1\",path=\"/api/v2\"}"),
        everything,
        status,
        ("POST", "/api/v1/admin/tsdb/clean_tombstones", ""),
        everything,
        status,
        ("POST", "/api/v1/admin/tsdb/snapshot", "skip_head=true"),
        ("POST", "/api/v1/admin/tsdb/snapshot", "skip_head=0"),
        ("POST", "/api/v1/admin/tsdb/snapshot", ""),
        everything,
    ] {
        let got = answer(&s, &ours, method, path, form).await;
        let want = answer(&s, &on.url(""), method, path, form).await;
        check(format!("{method} {path} {form}"), got, want);
    }
    s.stop().await;
    assert!(wrong.is_empty(), "{} of {compared} differ:\n{}", wrong.len(), wrong.join("\n"));
    println!("{compared} answers of the admin API and the status pages are the real server's");
}
