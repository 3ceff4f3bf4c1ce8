//! Whether SELinux is on, and how.
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::{Source, attribute, read};

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let mount = source.sys_path("fs/selinux");
    let is_enabled = mount.join("enforce").exists();
    let help = "SELinux is enabled, 1 is true, 0 is false";
    out.push(Family::gauge("node_selinux_enabled", help).with(f64::from(u8::from(is_enabled))));
    if !is_enabled {
        return Ok(());
    }
    let config = read(&source.root_path("etc/selinux/config"), 1 << 20).unwrap_or_default();
    let mode = config.lines().find_map(|l| l.trim().strip_prefix("SELINUX=")).map(str::trim);
    let mode = match mode {
        Some("enforcing") => 1.0,
        Some("permissive") => 0.0,
        _ => -1.0,
    };
    out.push(Family::gauge("node_selinux_config_mode", "Configured SELinux enforcement mode").with(mode));
    let enforce = attribute(&mount.join("enforce")).ok().and_then(|v| v.parse().ok()).unwrap_or(-1.0);
    out.push(Family::gauge("node_selinux_current_mode", "Current SELinux enforcement mode").with(enforce));
    Ok(())
}
