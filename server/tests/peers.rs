//! The real promtool against this server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::PathBuf;

use support::{NOW_MS, Server, with_data};

fn promtool() -> Option<PathBuf> {
    let path = std::env::var_os("PEERS").map(|dir| PathBuf::from(dir).join("promtool"));
    let found = path.filter(|p| p.exists());
    if found.is_none() {
        println!("SKIPPED promtool: PEERS is not set, or has no promtool");
    }
    found
}

async fn run(promtool: &std::path::Path, args: Vec<String>) -> String {
    let promtool = promtool.to_owned();
    let output = tokio::task::spawn_blocking(move || std::process::Command::new(promtool).args(args).output());
    let output = output.await.unwrap().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn promtool_asks_and_understands() {
    let Some(promtool) = promtool() else { return };
    let version = run(&promtool, vec!["--version".into()]).await;
    println!("promtool: {}", version.lines().next().unwrap_or(""));
    let s: Server = with_data().await;
    let url = format!("http://{}", s.address);
    let (start, end) = (((NOW_MS - 60_000) / 1000).to_string(), (NOW_MS / 1000).to_string());
    for (args, expect) in [
        (
            vec!["query", "instant", "--time", &end, &url, "sum by (job) (up)"],
            "{job=\"a\"} => 1 @[1700000000]\n".to_owned(),
        ),
        (
            vec!["query", "range", "--start", &start, "--end", &end, "--step", "30s", &url, "c_total"],
            "c_total{job=\"b\"} =>\n0 @[1699999940]\n30 @[1699999970]\n60 @[1700000000]\n".to_owned(),
        ),
        (
            vec!["query", "series", "--match", "up", "--start", &start, "--end", &end, &url],
            "{__name__=\"up\", instance=\"h1\", job=\"a\"}\n{__name__=\"up\", instance=\"h2\", job=\"a\"}\n".to_owned(),
        ),
        (vec!["query", "labels", "--start", &start, "--end", &end, &url, "instance"], "h1\nh2\n".to_owned()),
        (vec!["check", "healthy", "--url", &url], "  SUCCESS:  Prometheus Server is Healthy.\n\n".to_owned()),
        (vec!["check", "ready", "--url", &url], "  SUCCESS:  Prometheus Server is Ready.\n\n".to_owned()),
    ] {
        let got = run(&promtool, args.iter().map(|a| (*a).to_owned()).collect()).await;
        assert_eq!(got, expect, "promtool {args:?}");
    }
    let refused = run(&promtool, vec!["query".into(), "instant".into(), url.clone(), "up{".into()]).await;
    assert!(
        refused.contains("bad_data: invalid parameter \"query\": 1:4: parse error: unexpected end of input"),
        "{refused}"
    );
    s.stop().await;
}
