//! Side by side with the real node exporter on this machine: the same families, types, help texts and label names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::net::SocketAddr;

use ferula_exporters_node::router;
use ferula_instrument::Registry;
use ferula_testkit::{Launch, Peer, http_get, skipped};
use support::{flags, page, shape};

const COLLECTORS: &[&str] = &[
    "arp",
    "bonding",
    "btrfs",
    "conntrack",
    "cpu",
    "cpufreq",
    "diskstats",
    "dmi",
    "edac",
    "entropy",
    "filefd",
    "filesystem",
    "kernel_hung",
    "loadavg",
    "mdadm",
    "meminfo",
    "netclass",
    "netdev",
    "netstat",
    "os",
    "powersupplyclass",
    "pressure",
    "schedstat",
    "selinux",
    "sockstat",
    "softnet",
    "stat",
    "tapestats",
    "textfile",
    "thermal_zone",
    "time",
    "timex",
    "udp_queues",
    "uname",
    "vmstat",
    "watchdog",
    "xfs",
];

/// Debian builds other defaults in than upstream, so both get the same.
const FLAGS: &[&str] = &["--collector.filesystem.mount-points-exclude=^/(dev|proc|sys)($|/)"];

#[tokio::test(flavor = "multi_thread")]
async fn the_real_node_exporter_agrees() {
    let suite = "node exporter peer";
    let peer = match Peer::find("prometheus-node-exporter", (1, 10, 0)) {
        Ok(peer) => peer,
        Err(why) => return skipped(suite, why),
    };
    let flags: Vec<String> = FLAGS.iter().map(|f| (*f).to_owned()).collect();
    let arguments = |l: &Launch<'_>| {
        let mut all = flags.clone();
        all.push(format!("--web.listen-address={}", l.addr));
        all
    };
    let real = peer.start_when("/", arguments);
    let query: Vec<String> = COLLECTORS.iter().map(|c| format!("collect[]={c}")).collect();
    let query = query.join("&");
    let theirs = real.get(&format!("/metrics?{query}")).1;
    let ours = page(&flags, &query).await;
    let ours_only = ["node_exporter_build_info"]; // its labels name Go's version and Debian's build
    let (ours, theirs) = (shape(&ours), shape(&theirs));
    let relevant = |name: &&String| {
        (name.starts_with("node_") || name.starts_with("process_") || name.starts_with("promhttp_"))
            && !ours_only.contains(&name.as_str())
    };
    let mut wrong = Vec::new();
    let mut compared = 0;
    for name in theirs.keys().filter(relevant) {
        compared += 1;
        match ours.get(name) {
            None => wrong.push(format!("missing {name}: {:?}", theirs[name])),
            Some(shape) if *shape != theirs[name] => {
                wrong.push(format!("{name}:\n  ours   {shape:?}\n  theirs {:?}", theirs[name]))
            }
            Some(_) => {}
        }
    }
    for name in ours.keys().filter(relevant).filter(|n| !theirs.contains_key(*n)) {
        wrong.push(format!("unexpected {name}: {:?}", ours[name]));
    }
    println!("{suite}: {} collectors, {compared} families, {} differ", COLLECTORS.len(), wrong.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// User and system time of this process in seconds.
fn own_cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<f64> =
        stat.rsplit_once(')').unwrap().1.split_whitespace().skip(1).map(|f| f.parse().unwrap_or(0.0)).collect();
    (fields[10] + fields[11]) / 100.0
}

fn scrape(addr: SocketAddr, times: u32) {
    for _ in 0..times {
        assert_eq!(http_get(addr, "/metrics").unwrap().0, 200);
    }
}

/// What a scrape costs, ours and theirs, with the default collectors of each. Says, does not judge: this is a shared
/// machine, and only a release build means anything.
#[tokio::test(flavor = "multi_thread")]
async fn cost_of_a_scrape() {
    let suite = "node exporter cost";
    let peer = match Peer::find("prometheus-node-exporter", (1, 10, 0)) {
        Ok(peer) => peer,
        Err(why) => return skipped(suite, why),
    };
    const SCRAPES: u32 = 300;
    let real = peer.start_when("/", |l| vec![format!("--web.listen-address={}", l.addr)]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = router(flags(&[]), Registry::new()).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let (ours, client, theirs) = tokio::task::spawn_blocking(move || {
        let theirs = || {
            let page = real.get("/metrics?collect[]=loadavg").1;
            let line = page.lines().find_map(|l| l.strip_prefix("process_cpu_seconds_total ")).unwrap().to_owned();
            line.parse::<f64>().unwrap()
        };
        scrape(real.addr, 10);
        scrape(addr, 10);
        let (own, their) = (own_cpu_seconds(), theirs());
        scrape(real.addr, SCRAPES);
        let (client, their) = (own_cpu_seconds() - own, theirs() - their);
        let own = own_cpu_seconds();
        scrape(addr, SCRAPES);
        (own_cpu_seconds() - own - client, client, their)
    })
    .await
    .unwrap();
    let last = http_get(addr, "/metrics").unwrap().1;
    let mut slowest: Vec<(f64, &str)> = last
        .lines()
        .filter_map(|l| l.strip_prefix("node_scrape_collector_duration_seconds{collector=\"")?.split_once("\"} "))
        .map(|(name, seconds)| (seconds.parse().unwrap(), name))
        .collect();
    slowest.sort_by(|a, b| b.0.total_cmp(&a.0));
    let slowest: Vec<String> = slowest.iter().take(8).map(|(s, n)| format!("{n} {:.0}", s * 1e6)).collect();
    println!("{suite}: slowest collectors, microseconds: {}", slowest.join(", "));
    let ms = |seconds: f64| seconds * 1000.0 / f64::from(SCRAPES);
    let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
    println!(
        "{suite}: ours {:.2} ms CPU per scrape ({profile} build), theirs {:.2} ms, the client's {:.2} ms apart",
        ms(ours),
        ms(theirs),
        ms(client)
    );
}

/// The same collectors find something, or nothing, on the same machine.
#[tokio::test(flavor = "multi_thread")]
async fn success_agrees() {
    let suite = "node exporter success";
    let peer = match Peer::find("prometheus-node-exporter", (1, 10, 0)) {
        Ok(peer) => peer,
        Err(why) => return skipped(suite, why),
    };
    let real = peer.start_when("/", |l| vec![format!("--web.listen-address={}", l.addr)]);
    let success = |page: &str| -> std::collections::BTreeMap<String, String> {
        let line = |l: &str| {
            let (name, value) = l.strip_prefix("node_scrape_collector_success{collector=\"")?.split_once("\"} ")?;
            Some((name.to_owned(), value.to_owned()))
        };
        page.lines().filter_map(line).collect()
    };
    let (theirs, ours) = (success(&real.get("/metrics").1), success(&page(&[], "").await));
    let both: Vec<&String> = ours.keys().filter(|k| theirs.contains_key(*k)).collect();
    let differ: Vec<String> = both
        .iter()
        .filter(|k| ours[**k] != theirs[**k])
        .map(|k| format!("{k}: ours {} theirs {}", ours[*k], theirs[*k]))
        .collect();
    println!("{suite}: {} collectors on both pages, {} differ: {differ:?}", both.len(), differ.len());
    assert!(both.len() > 40);
    assert!(differ.is_empty(), "{differ:?}");
}
