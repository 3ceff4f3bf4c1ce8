//! Processes by state, and threads: a walk over `/proc/<pid>/stat`. Off by default because of its cost.
use std::collections::BTreeMap;

use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use super::Collected;
use crate::source::{Source, entries, failed, read};

pub(super) fn collect(source: &Source, out: &mut Vec<Family>) -> Collected {
    let root = source.proc_path("");
    let names = entries(&root).map_err(|e| failed("open", &root, &e))?;
    let (mut processes, mut threads) = (0u64, 0.0);
    let mut states: BTreeMap<String, u64> = BTreeMap::new();
    let mut thread_states: BTreeMap<String, u64> = BTreeMap::new();
    for pid in names.iter().filter(|n| n.bytes().all(|b| b.is_ascii_digit())) {
        // A process may be gone by the time we look.
        let Some((state, count)) = stat(source, &format!("{pid}/stat")) else { continue };
        processes += 1;
        threads += count;
        *states.entry(state).or_default() += 1;
        for thread in entries(&source.proc_path(&format!("{pid}/task"))).unwrap_or_default() {
            if let Some((state, _)) = stat(source, &format!("{pid}/task/{thread}/stat")) {
                *thread_states.entry(state).or_default() += 1;
            }
        }
    }
    out.push(Family::gauge("node_processes_threads", "Allocated threads in system").with(threads));
    out.push(Family::gauge("node_processes_pids", "Number of PIDs").with(processes as f64));
    let mut by_state = Family::gauge("node_processes_state", "Number of processes in each state.");
    for (state, count) in states {
        by_state.push_with([("state", state.into())], count as f64);
    }
    let mut threads_by_state = Family::gauge("node_processes_threads_state", "Number of threads in each state.");
    for (state, count) in thread_states {
        threads_by_state.push_with([("thread_state", state.into())], count as f64);
    }
    out.extend([by_state, threads_by_state]);
    for (file, name, help) in [
        ("sys/kernel/threads-max", "node_processes_max_threads", "Limit of threads in the system"),
        ("sys/kernel/pid_max", "node_processes_max_processes", "Number of max PIDs limit"),
    ] {
        let text = source.proc(file)?;
        let value = text.trim().parse().map_err(|_| CollectError::Failed(format!("invalid {file}: {text:?}")))?;
        out.push(Family::gauge(name, help).with(value));
    }
    Ok(())
}

/// State letter and number of threads (fields 3 and 20 of proc_pid_stat(5)).
fn stat(source: &Source, file: &str) -> Option<(String, f64)> {
    let text = read(&source.proc_path(file), 1 << 16).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    let mut words = rest.split_whitespace();
    let state = words.next()?.to_owned();
    Some((state, words.nth(16)?.parse().ok()?))
}
