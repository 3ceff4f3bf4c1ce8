//! What 10,000 pods cost: resident memory after the first list and through a full re-list.
//!
//! `cargo run --release -p ferula-scraper-discovery --example kubernetes_memory [pods]`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::SystemClock;
use ferula_scraper_discovery::{Discovery, KubernetesSd, SdConfigs};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A number of `/proc/<pid>/status`, in MiB.
fn status(field: &str) -> f64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

/// About what a pod of a busy cluster looks like: managed fields, volumes, conditions, environment.
fn pod(i: usize) -> String {
    let junk: String =
        (0..40).map(|n| format!("{{\"name\":\"VARIABLE_{n}\",\"value\":\"some value {n}\"}},")).collect();
    format!(
        r#"{{"metadata":{{"name":"app-{i}-7d9c6b5f4-x2x{i}","namespace":"team-{ns}","uid":"1f0c{i:08}-aaaa-bbbb-cccc-0123456789ab",
"resourceVersion":"{i}","labels":{{"app":"app-{i}","pod-template-hash":"7d9c6b5f4","team":"team-{ns}","version":"v{i}"}},
"annotations":{{"prometheus.io/scrape":"true","prometheus.io/port":"8080","checksum/config":"0123456789abcdef0123456789abcdef{i}"}},
"managedFields":[{{"manager":"kubelet","operation":"Update","fieldsV1":{{"f:status":{{"f:conditions":{{"k:a":{{}},"k:b":{{}}}},"f:x":"{pad}"}}}}}}],
"ownerReferences":[{{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"app-{i}-7d9c6b5f4","uid":"2","controller":true}}]}},
"spec":{{"nodeName":"node-{node}","containers":[{{"name":"app","image":"registry.example/team-{ns}/app:{i}","env":[{junk}{{}}],
"ports":[{{"name":"http","containerPort":8080,"protocol":"TCP"}},{{"name":"metrics","containerPort":9090,"protocol":"TCP"}}]}},
{{"name":"proxy","image":"registry.example/proxy:1","ports":[{{"name":"admin","containerPort":15000,"protocol":"TCP"}}]}}]}},
"status":{{"phase":"Running","podIP":"10.{a}.{b}.{c}","hostIP":"192.168.0.{node}","conditions":[{{"type":"Ready","status":"True"}}],
"containerStatuses":[{{"name":"app","containerID":"containerd://{i:064}"}},{{"name":"proxy","containerID":"containerd://{i:064}"}}]}}}}"#,
        ns = i % 50,
        node = i % 200,
        a = i / 65536,
        b = i / 256 % 256,
        c = i % 256,
        pad = "x".repeat(600),
    )
}

struct Server {
    pods: usize,
    /// Watches opened so far; the first ones end when told.
    watches: AtomicUsize,
    lists: AtomicUsize,
    end: tokio::sync::Notify,
}

async fn connection(server: Arc<Server>, mut socket: TcpStream) {
    let (mut head, mut chunk) = (Vec::new(), [0u8; 4096]);
    while let Ok(n @ 1..) = socket.read(&mut chunk).await {
        head.extend_from_slice(&chunk[..n]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        head.clear();
        let target = text.split(' ').nth(1).unwrap_or("");
        if target.contains("watch=") {
            server.watches.fetch_add(1, Ordering::SeqCst);
            let start = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
            socket.write_all(start.as_bytes()).await.unwrap();
            server.end.notified().await;
            let gone = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","status":"Failure","code":410,"reason":"Expired","message":"old","metadata":{}}}"#;
            let _ = socket.write_all(format!("{:x}\r\n{gone}\n\r\n0\r\n\r\n", gone.len() + 1).as_bytes()).await;
            continue;
        }
        let from: usize =
            target.split(['?', '&']).find_map(|p| p.strip_prefix("continue=")).map_or(0, |c| c.parse().unwrap());
        let to = (from + 500).min(server.pods);
        let items: Vec<String> = (from..to).map(pod).collect();
        let next = if to < server.pods { to.to_string() } else { String::new() };
        let body = format!(
            r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"9","continue":"{next}"}},"items":[{}]}}"#,
            items.join(",")
        );
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(answer.as_bytes()).await.unwrap();
        if to == server.pods {
            server.lists.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The API server is a process of its own: its memory is not ours.
fn serve(pods: usize) {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let (watches, lists, end) = (AtomicUsize::new(0), AtomicUsize::new(0), tokio::sync::Notify::new());
        let server = Arc::new(Server { pods, watches, lists, end });
        let accepting = Arc::clone(&server);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(connection(Arc::clone(&accepting), socket));
            }
        });
        // Each line that comes in ends the watches.
        loop {
            let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await.unwrap();
            if !read.is_ok_and(|n| n > 0) {
                return;
            }
            server.end.notify_waiters();
        }
    });
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let pods = arguments.last().and_then(|a| a.parse().ok()).unwrap_or(10_000);
    if arguments.first().is_some_and(|a| a == "serve") {
        return serve(pods);
    }
    use std::io::{BufRead, Write};
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["serve", &pods.to_string()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut address = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let mut commands = child.stdin.take().unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (before, heap_before) = (status("VmRSS"), status("RssAnon"));
        let registry = Registry::new();
        let discovery = Discovery::new("scrape", tokio::runtime::Handle::current(), Arc::new(SystemClock), &registry);
        let config =
            KubernetesSd { role: "pod".into(), api_server: format!("http://{}", address.trim()), ..Default::default() };
        let configs = SdConfigs { mechanisms: vec![config.into()], ..SdConfigs::default() };
        discovery.apply(&[("job".to_owned(), configs)].into()).unwrap();
        let mut groups = discovery.subscribe("job").unwrap();
        groups.wait_for(|g| g.as_ref().is_some_and(|g| g.len() >= pods)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (settled, first_peak) = (status("VmRSS"), status("VmHWM"));
        println!(
            "{pods} pods: {:.1} MiB of heap; with the code that was needed {:.1} MiB above {before:.1} MiB; peak of the first \
             list {first_peak:.1} MiB",
            status("RssAnon") - heap_before,
            settled - before
        );
        std::fs::write("/proc/self/clear_refs", "5").unwrap(); // the peak counts from here
        writeln!(commands).unwrap(); // 410 Gone: all of it again
        tokio::time::sleep(Duration::from_secs(8)).await;
        let (after, peak) = (status("RssAnon") - heap_before, status("VmHWM"));
        println!("after a full re-list {after:.1} MiB of heap, its peak {:.2} of what was resident", peak / settled);
    });
    let _ = child.kill();
    let _ = child.wait();
}
