//! What no Alertmanager has accepted yet, on disk: a restart, or a kill, loses no alert's latest state.
//!
//! ```text
//! <storage.path>/notifications/    a journal of two kinds of records
//!   waiting(url, states)           queued for the Alertmanager of that URL; the later state of an alert rules
//!   settled(url, hash and times)   accepted by it, or given up
//! ```
//!
//! A record is in the file before the send begins (a killed process loses nothing) and synced within a second. When
//! the journal has grown by some MiB it is written anew from the queues. Cost of an alert sent: its bytes, and 24 more.
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferula_fs::Fs;
use ferula_journal::{Journal, Ticket};
use ferula_model::{LabelView, Labels};

use super::Alert;

const WAITING: u8 = 1;
const SETTLED: u8 = 2;

/// Growth after which the journal is written anew.
const REWRITE_BYTES: u64 = 8 << 20;

/// One record is closed when it reaches this size.
const RECORD_BYTES: usize = 1 << 20;

/// The states that wait for each Alertmanager, by URL, oldest first.
pub(super) type ByUrl = HashMap<String, Vec<Alert>>;

#[derive(Debug)]
pub struct Spool {
    journal: Journal,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    bytes: u64,
    unsynced: Option<Ticket>,
    has_failed: bool,
}

impl Spool {
    /// Opens the journal in `dir` and reads what was waiting. Damage is stepped over and kept by the journal.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path) -> Result<(Spool, ByUrl), ferula_journal::Error> {
        let mut waiting: HashMap<String, HashMap<u64, (u64, Alert)>> = HashMap::new();
        let mut order = 0;
        let mut unknown = 0usize;
        let (journal, recovered) = Journal::open(fs, dir, ferula_journal::Options::default(), |record| {
            if replay(record, &mut waiting, &mut order).is_none() {
                unknown += 1;
            }
        })?;
        if unknown > 0 || !recovered.damage.is_empty() {
            tracing::warn!(unknown, damage = recovered.damage.len(), "The journal of notifications was read with gaps");
        }
        let sorted = |states: HashMap<u64, (u64, Alert)>| {
            let mut states: Vec<(u64, Alert)> = states.into_values().collect();
            states.sort_unstable_by_key(|(order, _)| *order);
            states.into_iter().map(|(_, alert)| alert).collect()
        };
        let by_url = waiting.into_iter().filter(|(_, s)| !s.is_empty()).map(|(url, s)| (url, sorted(s))).collect();
        Ok((Spool { journal, written: Mutex::default() }, by_url))
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// States that were put into the queue of `url`.
    pub(super) fn waiting(&self, url: &str, alerts: &[Alert]) {
        let mut written = self.written();
        self.write_waiting(&mut written, url, alerts);
    }

    fn write_waiting(&self, written: &mut Written, url: &str, alerts: &[Alert]) {
        let mut rest = alerts;
        while !rest.is_empty() {
            let mut record = vec![WAITING];
            text(&mut record, url);
            let mut taken = 0;
            while let Some(alert) = rest.get(taken).filter(|_| taken == 0 || record.len() < RECORD_BYTES) {
                encode(&mut record, alert);
                taken += 1;
            }
            rest = rest.get(taken..).unwrap_or(&[]);
            self.append(written, &record);
        }
    }

    /// States that `url` need not be told any more.
    pub(super) fn settled(&self, url: &str, alerts: &[Alert]) {
        if alerts.is_empty() {
            return;
        }
        let mut record = vec![SETTLED];
        text(&mut record, url);
        for alert in alerts {
            for n in [alert.labels.stable_hash(), alert.starts_at_ms as u64, alert.ends_at_ms as u64] {
                record.extend_from_slice(&n.to_le_bytes());
            }
        }
        let mut written = self.written();
        self.append(&mut written, &record);
    }

    fn append(&self, written: &mut Written, record: &[u8]) {
        match self.journal.append(record) {
            Ok(ticket) => {
                written.bytes += record.len() as u64;
                written.unsynced = Some(ticket);
                written.has_failed = false;
            }
            // Said once: the queues themselves go on.
            Err(error) if !written.has_failed => {
                written.has_failed = true;
                tracing::error!(%error, "Notifications are kept in memory only");
            }
            Err(_) => {}
        }
    }

    /// Whether it is time for [`Spool::rewrite`].
    pub(super) fn is_grown(&self) -> bool {
        self.written().bytes >= REWRITE_BYTES
    }

    /// Writes the journal anew from the present content of the queues. Blocks for as long as the disk takes.
    pub(super) fn rewrite(&self, queued: impl FnOnce() -> ByUrl) {
        // Under the lock, so that no state settles between being read here and being written there.
        let mut written = self.written();
        let segment = self.journal.rotate();
        for (url, alerts) in queued() {
            self.write_waiting(&mut written, &url, &alerts);
        }
        written.bytes = 0;
        let ticket = written.unsynced.take();
        let rewritten = segment.and_then(|segment| {
            ticket.map_or(Ok(()), |t| self.journal.sync(t))?;
            self.journal.remove_before(segment)
        });
        if let Err(error) = rewritten {
            tracing::error!(%error, "The journal of notifications could not be written anew");
        }
    }

    /// Makes durable what was written; to be called once a second, off the async threads.
    pub(super) fn sync(&self) {
        let ticket = self.written().unsynced.take();
        if let Some(Err(error)) = ticket.map(|t| self.journal.sync(t)) {
            tracing::error!(%error, "The journal of notifications could not be synced");
        }
    }
}

fn replay(record: &[u8], waiting: &mut HashMap<String, HashMap<u64, (u64, Alert)>>, order: &mut u64) -> Option<()> {
    let (kind, mut rest) = record.split_first()?;
    let states = waiting.entry(read_text(&mut rest)?.to_owned()).or_default();
    match *kind {
        WAITING => {
            while !rest.is_empty() {
                let alert = decode(&mut rest)?;
                *order += 1;
                // Keeps its place in the queue, as a waiting alert does whose state changes.
                let state = states.entry(alert.labels.stable_hash()).or_insert((*order, alert.clone()));
                state.1 = alert;
            }
        }
        SETTLED => {
            while !rest.is_empty() {
                let (hash, starts, ends) = (number(&mut rest)?, number(&mut rest)?, number(&mut rest)?);
                let is_that = |a: &Alert| a.starts_at_ms == starts as i64 && a.ends_at_ms == ends as i64;
                if states.get(&hash).is_some_and(|(_, a)| is_that(a)) {
                    states.remove(&hash);
                }
            }
        }
        _ => return None,
    }
    Some(())
}

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend_from_slice(&(s.len() as u32).to_le_bytes());
    out.extend_from_slice(s.as_bytes());
}

fn read_text<'b>(rest: &mut &'b [u8]) -> Option<&'b str> {
    let (n, tail) = rest.split_first_chunk::<4>()?;
    let n = u32::from_le_bytes(*n) as usize;
    let s = std::str::from_utf8(tail.get(..n)?).ok()?;
    *rest = tail.get(n..)?;
    Some(s)
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let (n, tail) = rest.split_first_chunk::<8>()?;
    *rest = tail;
    Some(u64::from_le_bytes(*n))
}

fn encode(out: &mut Vec<u8>, alert: &Alert) {
    out.extend_from_slice(&alert.starts_at_ms.to_le_bytes());
    out.extend_from_slice(&alert.ends_at_ms.to_le_bytes());
    text(out, &alert.generator_url);
    for labels in [&alert.labels, &alert.annotations] {
        for (n, v) in labels {
            text(out, n);
            text(out, v);
        }
        text(out, ""); // no name is empty
    }
}

fn decode(rest: &mut &[u8]) -> Option<Alert> {
    let (starts, ends) = (number(rest)?, number(rest)?);
    let generator_url = read_text(rest)?.to_owned();
    let mut labels = || -> Option<Labels> {
        let mut pairs = Vec::new();
        loop {
            match read_text(rest)? {
                "" => return Some(Labels::from_pairs(pairs)),
                name => pairs.push((name, read_text(rest)?)),
            }
        }
    };
    let (labels, annotations) = (labels()?, labels()?);
    Some(Alert { labels, annotations, starts_at_ms: starts as i64, ends_at_ms: ends as i64, generator_url })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferula_fs::Faulty;

    fn alert(name: &str, ends_at_ms: i64) -> Alert {
        Alert {
            labels: Labels::from_pairs([("alertname", name), ("x", "y")]),
            annotations: Labels::from_pairs([("summary", "s")]),
            starts_at_ms: -5,
            ends_at_ms,
            generator_url: "http://p".into(),
        }
    }
    fn open(fs: &Faulty) -> (Spool, ByUrl) {
        Spool::open(Arc::new(fs.clone()), Path::new("/p/notifications")).unwrap()
    }

    #[test]
    fn the_latest_unsettled_states_come_back_in_order() {
        let fs = Faulty::new(1);
        let (spool, none) = open(&fs);
        assert!(none.is_empty());
        spool.waiting("http://1", &[alert("a", 0), alert("b", 0), alert("c", 0)]);
        spool.waiting("http://2", &[alert("a", 0)]);
        spool.waiting("http://1", &[alert("a", 9)]);
        spool.settled("http://1", &[alert("a", 0), alert("b", 0)]); // the end of `a` came while its begin was sent
        spool.settled("http://2", &[alert("a", 0)]);
        spool.sync();
        let (_, got) = open(&fs.crash_image(3));
        assert_eq!(got, HashMap::from([("http://1".to_owned(), vec![alert("a", 9), alert("c", 0)])]));
    }

    #[test]
    fn a_grown_journal_is_written_anew_from_the_queues() {
        let fs = Faulty::new(1);
        let (spool, _) = open(&fs);
        let big = Alert { generator_url: "u".repeat(3 << 20), ..alert("big", 0) };
        for _ in 0..3 {
            spool.waiting("http://1", std::slice::from_ref(&big));
            spool.settled("http://1", std::slice::from_ref(&big));
        }
        spool.sync();
        assert!(spool.is_grown());
        spool.rewrite(|| HashMap::from([("http://1".to_owned(), vec![alert("a", 0), alert("b", 0)])]));
        let image = fs.crash_image(3);
        let total: u64 = image
            .list(Path::new("/p/notifications"))
            .unwrap()
            .iter()
            .map(|e| image.metadata(&Path::new("/p/notifications").join(&e.name)).unwrap().len)
            .sum();
        assert!(total < 4_096, "{total} bytes");
        assert_eq!(open(&image).1["http://1"], [alert("a", 0), alert("b", 0)]);
    }

    #[test]
    fn foreign_bytes_are_stepped_over() {
        let mut whole = vec![WAITING];
        text(&mut whole, "http://1");
        encode(&mut whole, &alert("a", 1));
        let read = |bytes: &[u8]| replay(bytes, &mut HashMap::new(), &mut 0);
        assert!(read(&whole).is_some());
        for cut in 0..whole.len() {
            assert!(read(&whole[..cut]).is_none() || cut == 13, "{cut}");
        }
        assert!(read(&[7, 0, 0, 0, 0]).is_none());
    }
}
