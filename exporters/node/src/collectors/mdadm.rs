//! Software RAID: `/proc/mdstat`, and `/sys/block/md*/md` for what is wanted and missing.
use ferula_exporters_shell::CollectError;
use ferula_exposition::family::{Family, Text};

use super::Collected;
use crate::source::{Source, number_attribute};

const STATES: [&str; 5] = ["active", "inactive", "recovering", "resync", "check"];

/// One array of `/proc/mdstat`.
#[derive(Debug, PartialEq)]
struct Array {
    device: String,
    state: &'static str,
    active: f64,
    failed: f64,
    spare: f64,
    required: f64,
    blocks: f64,
    blocks_synced: f64,
}

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let text = source.proc_or_no_data("mdstat")?;
    let mut state = Family::gauge("node_md_state", "Indicates the state of md-device.");
    let mut disks = Family::gauge("node_md_disks", "Number of active/failed/spare disks of device.");
    let mut required = Family::gauge("node_md_disks_required", "Total number of disks of device.");
    let mut blocks = Family::gauge("node_md_blocks", "Total number of blocks on device.");
    let mut synced = Family::gauge("node_md_blocks_synced", "Number of blocks synced on device.");
    for array in arrays(&text)? {
        let device = || Text::Owned(array.device.clone());
        for name in STATES {
            let is_so = f64::from(u8::from(array.state == name));
            state.push_with([("device", device()), ("state", name.into())], is_so);
        }
        for (name, count) in [("active", array.active), ("failed", array.failed), ("spare", array.spare)] {
            disks.push_with([("device", device()), ("state", name.into())], count);
        }
        required.push_with([("device", device())], array.required);
        blocks.push_with([("device", device())], array.blocks);
        synced.push_with([("device", device())], array.blocks_synced);
    }
    let mut degraded = Family::gauge("node_md_degraded", "Number of degraded disks on device.");
    let mut raid_disks = Family::gauge("node_md_raid_disks", "Number of raid disks on device.");
    for device in source.sys_entries("block")?.unwrap_or_default() {
        let file = |name: &str| number_attribute(&source.sys_path(&format!("block/{device}/md/{name}")));
        if let Some(wanted) = file("raid_disks").filter(|_| device.starts_with("md")) {
            raid_disks.push_with([("device", device.clone().into())], wanted);
            // Levels without redundancy have no such file.
            degraded.push_with([("device", device.clone().into())], file("degraded").unwrap_or(0.0));
        }
    }
    out.extend([state, disks, required, blocks, synced, degraded, raid_disks]);
    Ok(())
}

fn arrays(text: &str) -> Result<Vec<Array>, CollectError> {
    let lines: Vec<&str> = text.lines().collect();
    let mut out = Vec::new();
    for (i, line) in lines.iter().enumerate() {
        let skipped = ["Personalities", "unused", " ", "\t"].iter().any(|p| line.starts_with(p));
        if line.trim().is_empty() || skipped {
            continue;
        }
        let following = lines.get(i + 1..).unwrap_or_default();
        let bad = || CollectError::Failed(format!("error parsing mdstatus: {line:?}"));
        out.push(array(line, following).ok_or_else(bad)?);
    }
    Ok(out)
}

fn array(line: &str, following: &[&str]) -> Option<Array> {
    let mut words = line.split_whitespace();
    let (device, ":") = (words.next()?, words.next()?) else { return None };
    let count = |what: &str| line.matches(what).count() as f64;
    let status = following.first()?;
    let blocks: f64 = status.split_whitespace().next()?.parse().ok()?;
    let is_inactive = line.contains("inactive");
    let (required, active) = if line.contains("raid0") || line.contains("linear") {
        (count("["), count("["))
    } else if is_inactive {
        (0.0, 0.0)
    } else {
        working(status)?
    };
    // The line after the status may be about the bitmap; then progress comes one later.
    let progress = following.get(1).filter(|l| !l.contains("bitmap")).or_else(|| following.get(2)).copied();
    let progress = progress.filter(|l| l.starts_with([' ', '\t'])).unwrap_or_default();
    let (mut blocks_synced, mut now) = (blocks, if is_inactive { "inactive" } else { "active" });
    for (word, state) in [("recovery", "recovering"), ("resync", "resync"), ("check", "check")] {
        if progress.contains(word) {
            now = state;
            let is_waiting = progress.contains("PENDING") || progress.contains("DELAYED");
            blocks_synced = if is_waiting { 0.0 } else { synced(progress).unwrap_or(0.0) };
            break;
        }
    }
    Some(Array {
        device: device.to_owned(),
        state: now,
        active,
        failed: count("(F)"),
        spare: count("(S)"),
        required,
        blocks,
        blocks_synced,
    })
}

/// `... [4/3] [U_UU]` -> wanted 4, working 3.
fn working(status: &str) -> Option<(f64, f64)> {
    let pair = |word: &str| {
        let (wanted, working) = word.strip_prefix('[')?.strip_suffix(']')?.split_once('/')?;
        Some((wanted.parse().ok()?, working.parse().ok()?))
    };
    status.split_whitespace().find_map(pair)
}

/// `... recovery =  8.5% (16775552/195310144) finish=...` -> 16775552.
fn synced(progress: &str) -> Option<f64> {
    progress.split_once('(')?.1.split_once('/')?.0.parse().ok()
}
