//! Starts the real Alertmanager of the folder that env `PEERS` names.
use std::path::Path;

use ferula_testkit::{Peer, Running, skipped};

/// Debian's build reads its templates below /usr/share: the unpacked ones are bound there in a mount namespace of its own.
pub fn start_real(peer: &Peer, config: &str, data: Option<&Path>) -> Result<Running, String> {
    start_real_with(peer, config, data, &["--cluster.listen-address=".to_owned()])
}

/// With flags for its cluster.
pub fn start_real_with(peer: &Peer, config: &str, data: Option<&Path>, cluster: &[String]) -> Result<Running, String> {
    let share = peer.path.parent().unwrap().join("../share").canonicalize().map_err(|e| e.to_string())?;
    let probe = std::process::Command::new("unshare").args(["-m", "true"]).status();
    if !probe.is_ok_and(|s| s.success()) {
        return Err("unshare -m is not allowed here".to_owned());
    }
    let script = format!("mount --bind {} /usr/share && exec \"$@\"", share.display());
    Ok(Running::start(Path::new("unshare"), "/-/ready", |l| {
        let mut args: Vec<String> = ["-m", "sh", "-c", &script, "sh"].map(str::to_owned).to_vec();
        args.push(peer.path.display().to_string());
        args.push(format!("--config.file={}", l.file("alertmanager.yml", config)));
        args.push(format!("--storage.path={}", data.unwrap_or(l.dir).display()));
        args.push(format!("--web.listen-address={}", l.addr));
        args.push("--web.external-url=http://am.example/".to_owned());
        args.extend_from_slice(cluster);
        args
    }))
}

pub fn peer() -> Option<Peer> {
    match Peer::find("prometheus-alertmanager", (0, 33, 0)) {
        Ok(p) => Some(p),
        Err(why) => {
            skipped("alertmanager peers", &why);
            None
        }
    }
}
