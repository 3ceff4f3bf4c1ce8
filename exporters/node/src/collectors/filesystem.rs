//! Mounts from mountinfo, sizes from statfs(2).
//!
//! A `statfs` on a dead network mount never returns. So the calls run on a thread of their own; when one is slow another
//! thread goes on with the next mounts, and a mount that outlives the timeout is reported as an error and not asked
//! again until its call returns.
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ferula_exporters_shell::CollectError;
use ferula_exposition::family::{Family, Text};

use super::{Collect, Collected, Context};
use crate::filter::Filter;
use crate::parse::{self, Mount};
use crate::source::{Source, reason};
use crate::{DEADLINE, Error};

/// How long the next mounts wait for a slow one.
const PATIENCE: Duration = Duration::from_millis(100);

/// Numbers of one file system, in blocks of `block_bytes`.
#[derive(Clone, Copy, Debug, Default)]
struct Space {
    block_bytes: f64,
    blocks: f64,
    free: f64,
    available: f64,
    files: f64,
    files_free: f64,
}

/// Asks one mount; a test puts something slower here.
type Ask = Arc<dyn Fn(&std::path::Path) -> Result<Space, String> + Send + Sync>;

struct FileSystems {
    source: Arc<Source>,
    mount_points: Filter,
    fs_types: Filter,
    timeout: Duration,
    ask: Ask,
    /// Mounts with a call that was given up and has not returned.
    stuck: Arc<Mutex<HashSet<PathBuf>>>,
}

pub(super) fn build(context: &Context) -> Result<Collect, Error> {
    let flags = &context.flags;
    let flag = "collector.filesystem.mount-timeout";
    let given = flags.value(flag);
    let Some(timeout_ms) = ferula_model::duration::parse_ms(given).ok().and_then(|ms| u64::try_from(ms).ok()) else {
        return Err(Error::Value { flag: flag.to_owned(), value: given.to_owned() });
    };
    let file_systems = FileSystems {
        source: Arc::clone(&context.source),
        mount_points: Filter::from_flags(
            flags,
            "collector.filesystem.mount-points-exclude",
            "collector.filesystem.mount-points-include",
        )?,
        fs_types: Filter::from_flags(
            flags,
            "collector.filesystem.fs-types-exclude",
            "collector.filesystem.fs-types-include",
        )?,
        // Before the whole collector is given up, the mounts that did answer must be told.
        timeout: Duration::from_millis(timeout_ms).min(DEADLINE - Duration::from_millis(500)),
        ask: Arc::new(statfs),
        stuck: Arc::default(),
    };
    Ok(Box::new(move |out| file_systems.collect(out)))
}

fn statfs(path: &std::path::Path) -> Result<Space, String> {
    let s = rustix::fs::statfs(path).map_err(|e| reason(&e.into()))?;
    Ok(Space {
        block_bytes: s.f_bsize as f64,
        blocks: s.f_blocks as f64,
        free: s.f_bfree as f64,
        available: s.f_bavail as f64,
        files: s.f_files as f64,
        files_free: s.f_ffree as f64,
    })
}

impl FileSystems {
    fn collect(&self, out: &mut Vec<Family>) -> Collected {
        let mounts = self.mounts()?;
        let answers = self.ask_all(&mounts);
        out.extend(families(&mounts, &answers));
        Ok(())
    }

    /// PID 1 sees the host's mounts from within a container too; where we may not look, our own must do.
    fn mounts(&self) -> Result<Vec<Mount>, CollectError> {
        let text = self.source.proc("1/mountinfo").or_else(|_| self.source.proc("self/mountinfo"))?;
        let root = self.source.rootfs().to_string_lossy().trim_end_matches('/').to_owned();
        let mut mounts = Vec::new();
        for line in text.lines() {
            let Some(mut mount) = parse::mount(line) else {
                return Err(CollectError::Failed(format!("malformed mount point information: {line:?}")));
            };
            if !root.is_empty()
                && let Some(inside) = mount.mount_point.strip_prefix(&root)
            {
                mount.mount_point = if inside.is_empty() { "/".to_owned() } else { inside.to_owned() };
            }
            if self.mount_points.ignores(&mount.mount_point) || self.fs_types.ignores(&mount.fs_type) {
                tracing::debug!(mount_point = mount.mount_point, fs_type = mount.fs_type, "ignoring mount");
                continue;
            }
            mounts.push(mount);
        }
        Ok(mounts)
    }

    /// One answer per mount, after `timeout` at the latest.
    fn ask_all(&self, mounts: &[Mount]) -> Vec<Result<Space, String>> {
        let mut answers: Vec<Option<Result<Space, String>>> = mounts.iter().map(|_| None).collect();
        let mut questions = Vec::with_capacity(mounts.len());
        {
            let stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
            for (i, (mount, answer)) in mounts.iter().zip(&mut answers).enumerate() {
                let path = self.source.root_path(&mount.mount_point);
                if stuck.contains(&path) {
                    *answer = Some(Err("mountpoint timeout".to_owned()));
                } else {
                    questions.push((i, path));
                }
            }
        }
        let end = Instant::now() + self.timeout;
        let mut missing = questions.len();
        let states = questions.iter().map(|_| AtomicU8::new(WAITING)).collect();
        let round = Arc::new(Round { questions, states, next: AtomicUsize::new(0) });
        let (sender, inbox) = channel();
        let start_thread = || {
            let (round, sender) = (Arc::clone(&round), sender.clone());
            let (ask, stuck) = (Arc::clone(&self.ask), Arc::clone(&self.stuck));
            let name = "statfs".to_owned();
            std::thread::Builder::new().name(name).spawn(move || round.walk(&ask, &stuck, &sender)).is_ok()
        };
        if missing > 0 && !start_thread() {
            missing = 0;
        }
        while missing > 0 {
            let left = end.saturating_duration_since(Instant::now());
            let all_taken = round.next.load(Ordering::Acquire) >= round.questions.len();
            match inbox.recv_timeout(if all_taken { left } else { left.min(PATIENCE) }) {
                Ok((i, answer)) => {
                    missing -= 1;
                    if let Some(place) = answers.get_mut(i) {
                        *place = Some(answer);
                    }
                }
                Err(RecvTimeoutError::Timeout) if left.is_zero() => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = all_taken || start_thread(); // without another thread the slow one goes on alone
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        round.give_up(&self.stuck);
        answers.into_iter().map(|a| a.unwrap_or_else(|| Err("mountpoint timeout".to_owned()))).collect()
    }
}

const WAITING: u8 = 0;
const RUNNING: u8 = 1;
const GIVEN_UP: u8 = 2;

/// The mounts of one scrape that are to be asked.
struct Round {
    /// Position among all mounts, and the path.
    questions: Vec<(usize, PathBuf)>,
    /// Of each question; changed under the lock of `stuck` only, so that a mount is marked exactly while it hangs.
    states: Vec<AtomicU8>,
    next: AtomicUsize,
}

impl Round {
    fn walk(&self, ask: &Ask, stuck: &Mutex<HashSet<PathBuf>>, answers: &Sender<(usize, Result<Space, String>)>) {
        loop {
            let n = self.next.fetch_add(1, Ordering::AcqRel);
            let (Some((i, path)), Some(state)) = (self.questions.get(n), self.states.get(n)) else { return };
            {
                let _guard = stuck.lock().unwrap_or_else(PoisonError::into_inner);
                if state.load(Ordering::Relaxed) == GIVEN_UP {
                    return;
                }
                state.store(RUNNING, Ordering::Relaxed);
            }
            let answer = ask(path);
            {
                let mut stuck = stuck.lock().unwrap_or_else(PoisonError::into_inner);
                if state.swap(WAITING, Ordering::Relaxed) == GIVEN_UP {
                    stuck.remove(path);
                }
            }
            if answers.send((*i, answer)).is_err() {
                return;
            }
        }
    }

    /// Nobody begins another mount, and what hangs is marked.
    fn give_up(&self, stuck: &Mutex<HashSet<PathBuf>>) {
        let mut stuck = stuck.lock().unwrap_or_else(PoisonError::into_inner);
        self.next.store(self.questions.len(), Ordering::Release);
        for (state, (_, path)) in self.states.iter().zip(&self.questions) {
            if state.swap(GIVEN_UP, Ordering::Relaxed) == RUNNING {
                stuck.insert(path.clone());
            }
        }
    }
}

fn families(mounts: &[Mount], answers: &[Result<Space, String>]) -> Vec<Family> {
    let gauge = |name: &'static str, help: &'static str| Family::gauge(name, help);
    let mut size = gauge("node_filesystem_size_bytes", "Filesystem size in bytes.");
    let mut free = gauge("node_filesystem_free_bytes", "Filesystem free space in bytes.");
    let mut available = gauge("node_filesystem_avail_bytes", "Filesystem space available to non-root users in bytes.");
    let mut files = gauge("node_filesystem_files", "Filesystem total file nodes.");
    let mut files_free = gauge("node_filesystem_files_free", "Filesystem total free file nodes.");
    let mut purgeable = gauge(
        "node_filesystem_purgeable_bytes",
        "Filesystem space available including purgeable space (MacOS specific).",
    );
    let mut read_only = gauge("node_filesystem_readonly", "Filesystem read-only status.");
    let mut error = gauge(
        "node_filesystem_device_error",
        "Whether an error occurred while getting statistics for the given device.",
    );
    let mut info = gauge("node_filesystem_mount_info", "Filesystem mount information.");
    // One path can be mounted over: upstream keeps the first of equal labels.
    let mut seen: HashMap<(&str, &str, &str), ()> = HashMap::new();
    for (mount, answer) in mounts.iter().zip(answers) {
        if seen.insert((&mount.source, &mount.mount_point, &mount.fs_type), ()).is_some() {
            continue;
        }
        let labels = |device_error: &str| {
            [
                ("device", Text::Owned(mount.source.clone())),
                ("device_error", device_error.to_owned().into()),
                ("fstype", mount.fs_type.clone().into()),
                ("mountpoint", mount.mount_point.clone().into()),
            ]
        };
        let is_read_only = |options: &str| options.split(',').any(|o| o == "ro");
        let ro = f64::from(u8::from(is_read_only(&mount.options) || is_read_only(&mount.super_options)));
        match answer {
            Ok(s) => {
                error.push_with(labels(""), 0.0);
                read_only.push_with(labels(""), ro);
                size.push_with(labels(""), s.blocks * s.block_bytes);
                free.push_with(labels(""), s.free * s.block_bytes);
                available.push_with(labels(""), s.available * s.block_bytes);
                files.push_with(labels(""), s.files);
                files_free.push_with(labels(""), s.files_free);
                purgeable.push_with(labels(""), 0.0);
                info.push_with(
                    [
                        ("device", Text::Owned(mount.source.clone())),
                        ("major", mount.major.clone().into()),
                        ("minor", mount.minor.clone().into()),
                        ("mountpoint", mount.mount_point.clone().into()),
                    ],
                    1.0,
                );
            }
            Err(why) => {
                error.push_with(labels(why), 1.0);
                read_only.push_with(labels(why), ro);
            }
        }
    }
    vec![size, free, available, files, files_free, purgeable, read_only, error, info]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::Flags;
    use std::sync::mpsc::Receiver;

    fn mounts(names: &[&str]) -> Vec<Mount> {
        let line = |n: &&str| parse::mount(&format!("1 2 8:1 / {n} rw - ext4 /dev{n} rw")).unwrap();
        names.iter().map(line).collect()
    }

    fn with(timeout: Duration, ask: Ask) -> FileSystems {
        FileSystems {
            source: Arc::new(Source::new(&Flags::default())),
            mount_points: Filter::default(),
            fs_types: Filter::default(),
            timeout,
            ask,
            stuck: Arc::default(),
        }
    }

    #[test]
    fn a_dead_mount_is_reported_once_asked_once_and_comes_back() {
        let (open, gate) = channel::<()>();
        let gate: Mutex<Receiver<()>> = Mutex::new(gate);
        let calls = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&calls);
        let ask: Ask = Arc::new(move |path| {
            if path.ends_with("dead") {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = gate.lock().unwrap().recv();
            }
            Ok(Space { blocks: 1.0, ..Space::default() })
        });
        let fs = with(Duration::from_millis(500), ask);
        let list = mounts(&["/a", "/dead", "/b"]);
        for _ in 0..3 {
            let answers = fs.ask_all(&list);
            assert!(answers[0].is_ok() && answers[2].is_ok());
            assert_eq!(answers[1].as_ref().unwrap_err(), "mountpoint timeout");
        }
        assert_eq!(calls.load(Ordering::SeqCst), 1);
        let page = families(&list, &fs.ask_all(&list));
        let error = page.iter().find(|f| f.name == "node_filesystem_device_error").unwrap();
        assert_eq!(error.metrics.len(), 3);
        drop(open);
        while !fs.stuck.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        assert!(fs.ask_all(&list).iter().all(Result::is_ok));
    }

    #[test]
    fn this_machines_root_answers() {
        let fs = with(Duration::from_secs(4), Arc::new(statfs));
        let answers = fs.ask_all(&mounts(&["/", "/no/such/folder"]));
        assert!(answers[0].as_ref().unwrap().blocks > 0.0);
        assert_eq!(answers[1].as_ref().unwrap_err(), "no such file or directory");
    }
}
