//! Side by side with the real node exporter on this machine: the same families, types, help texts and label names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use ferula_testkit::{Launch, Peer, skipped};
use support::{page, shape};

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
