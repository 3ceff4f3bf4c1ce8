//! What became of alerts: when each began and ended, where it was routed, what kept it quiet, what was tried and how that
//! went. The first thing people ask about a page that came, or did not.
//!
//! ```text
//! <storage.path>/history/00000001.jsonl   one event per line, oldest first; readable with any tool
//! ```
//!
//! Nothing of it is held in memory: writing is one append per batch, a question reads the files, latest first. They are
//! bounded: when the newest is full another one is begun and the oldest goes. A line that cannot be read is passed over.
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ferula_fs::{File, Fs, Open};
use ferula_model::Labels;
use serde::Serialize;
use serde_json::Value;

use crate::core::{Delivery, Suppression};
use crate::time;

/// Size at which a file is full, and how many are kept.
const FILE_BYTES: u64 = 8 << 20;
const FILES_KEPT: u64 = 4;

/// Alerts that one event of a delivery names; the others are only counted.
const ALERTS_NAMED: usize = 1_000;

/// One line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Event<'e> {
    /// An alert was heard of for the first time, or again after its end.
    Began { fingerprint: String, labels: Pairs<'e>, receivers: Vec<Arc<str>> },
    /// It was reported as over.
    Ended { fingerprint: String, labels: Pairs<'e> },
    /// From now on it is not told to this receiver, and why: ids of silences, fingerprints, or names of intervals.
    Suppressed { fingerprint: String, group_key: Arc<str>, receiver: Arc<str>, why: &'static str, by: &'e [String] },
    /// What kept it quiet is over.
    Released { fingerprint: String, group_key: Arc<str>, receiver: Arc<str> },
    /// A notification was delivered, or given up.
    Notified {
        group_key: Arc<str>,
        receiver: Arc<str>,
        integration: &'static str,
        index: u32,
        reason: &'static str,
        attempts: u32,
        is_delivered: bool,
        #[serde(skip_serializing_if = "str::is_empty")]
        error: &'e str,
        alert_count: usize,
        alerts: Vec<String>,
    },
    /// A silence was made, changed or ended.
    Silence { id: &'e str, state: &'static str, matchers: String, by: &'e str, comment: &'e str },
}

/// Labels as a JSON object.
#[derive(Debug)]
pub struct Pairs<'e>(pub &'e Labels);
impl Serialize for Pairs<'_> {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(self.0.iter())
    }
}

pub fn fingerprint(f: u64) -> String {
    format!("{f:016x}")
}

impl<'e> Event<'e> {
    pub(crate) fn of_delivery(delivery: &Delivery, attempts: u32, error: Option<&'e str>) -> Event<'e> {
        let n = &delivery.notification;
        Event::Notified {
            group_key: n.group_key.clone(),
            receiver: n.receiver.clone(),
            integration: delivery.integration.name(),
            index: delivery.integration.index,
            reason: n.reason.as_str(),
            attempts,
            is_delivered: error.is_none(),
            error: error.unwrap_or(""),
            alert_count: n.alerts.len(),
            alerts: n.alerts.iter().take(ALERTS_NAMED).map(|a| fingerprint(a.alert.fingerprint)).collect(),
        }
    }
    pub(crate) fn of_suppression(s: &'e Suppression) -> Event<'e> {
        let (group_key, receiver, fingerprint) = (s.group_key.clone(), s.receiver.clone(), fingerprint(s.fingerprint));
        match s.why {
            Some(why) => Event::Suppressed { fingerprint, group_key, receiver, why, by: &s.by },
            None => Event::Released { fingerprint, group_key, receiver },
        }
    }
}

/// What is asked for; empty fields ask for everything.
#[derive(Clone, Debug, Default)]
pub struct Question {
    pub fingerprints: Option<Vec<String>>,
    pub receiver: String,
    /// `began`, `ended`, `suppressed`, `released`, `notified`, `silence`
    pub kind: String,
    /// Only notifications that were not delivered.
    pub is_failed: bool,
    /// Not before; RFC 3339 in UTC, compared as text.
    pub since: String,
    pub limit: usize,
}

#[derive(Debug)]
pub struct History {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    open: Mutex<Option<Current>>,
}

#[derive(Debug)]
struct Current {
    number: u64,
    file: Arc<dyn File>,
    size_bytes: u64,
}

impl History {
    pub fn new(fs: Arc<dyn Fs>, dir: PathBuf) -> History {
        History { fs, dir, open: Mutex::default() }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:08}.jsonl"))
    }

    /// Numbers of the files, oldest first.
    fn files(&self) -> Vec<u64> {
        let entries = self.fs.list(&self.dir).unwrap_or_default();
        entries.iter().filter_map(|e| e.name.strip_suffix(".jsonl")?.parse().ok()).collect()
    }

    /// Writes events of one moment. A disk that refuses costs the events and is said once.
    pub fn write(&self, now_ms: i64, events: &[Event<'_>]) {
        if events.is_empty() {
            return;
        }
        #[derive(Serialize)]
        struct Line<'l> {
            at: &'l str,
            #[serde(flatten)]
            event: &'l Event<'l>,
        }
        let at = time::format_api(now_ms);
        let mut bytes = Vec::new();
        for event in events {
            if serde_json::to_writer(&mut bytes, &Line { at: &at, event }).is_ok() {
                bytes.push(b'\n');
            }
        }
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.append(&mut open, &bytes) {
            tracing::warn!(%error, "The history could not be written");
            *open = None;
        }
    }

    fn append(&self, open: &mut Option<Current>, bytes: &[u8]) -> std::io::Result<()> {
        if open.as_ref().is_none_or(|c| c.size_bytes >= FILE_BYTES) {
            *open = Some(self.begin(open.as_ref().map(|c| c.number))?);
        }
        let Some(current) = open else { return Ok(()) };
        current.file.append(bytes)?;
        current.size_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Goes on with the newest file, or begins another one after `full`; the oldest go.
    fn begin(&self, full: Option<u64>) -> std::io::Result<Current> {
        self.fs.create_dir_all(&self.dir)?;
        let last = full.or(self.files().last().copied()).unwrap_or(1);
        let number = if full.is_some() { last + 1 } else { last };
        for old in self.files().into_iter().filter(|n| n + FILES_KEPT <= number) {
            self.fs.remove_file(&self.path(old))?;
        }
        let file = self.fs.open(&self.path(number), Open::Append)?;
        let size_bytes = file.size_bytes()?;
        if full.is_none() && size_bytes > 0 {
            file.append(b"\n")?; // a line that a crash tore ends here
        }
        Ok(Current { number, file, size_bytes })
    }

    /// The events that fit, latest first. Reads up to all files; not for the threads that answer.
    pub fn ask(&self, question: &Question) -> Vec<Value> {
        let mut out = Vec::new();
        for number in self.files().into_iter().rev() {
            let Ok(bytes) = self.fs.map(&self.path(number)) else { continue };
            for line in bytes.rsplit(|b| *b == b'\n').filter(|l| !l.is_empty()) {
                if out.len() >= question.limit {
                    return out;
                }
                out.extend(question.answer(line));
            }
        }
        out
    }

    /// Fingerprints of alerts whose labels fit, as far as the history goes back.
    pub fn fingerprints(&self, fits: impl Fn(&serde_json::Map<String, Value>) -> bool) -> Vec<String> {
        let mut out = std::collections::BTreeSet::new();
        for number in self.files() {
            let Ok(bytes) = self.fs.map(&self.path(number)) else { continue };
            for line in bytes.split(|b| *b == b'\n').filter(|l| contains(l, b"\"labels\"")) {
                let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
                if let (Some(labels), Some(f)) = (event["labels"].as_object(), event["fingerprint"].as_str())
                    && fits(labels)
                {
                    out.insert(f.to_owned());
                }
            }
        }
        out.into_iter().collect()
    }
}

fn contains(line: &[u8], word: &[u8]) -> bool {
    line.windows(word.len()).any(|w| w == word)
}

impl Question {
    fn answer(&self, line: &[u8]) -> Option<Value> {
        // Parsing is what costs, so one fingerprint is looked for in the bytes first.
        if let Some([one]) = self.fingerprints.as_deref()
            && !contains(line, one.as_bytes())
        {
            return None;
        }
        let event: Value = serde_json::from_slice(line).ok()?;
        let names = |f: &String| {
            event["fingerprint"] == f.as_str()
                || event["alerts"].as_array().is_some_and(|a| a.iter().any(|x| x == f.as_str()))
        };
        let fits = self.fingerprints.as_ref().is_none_or(|f| f.iter().any(names))
            && (self.receiver.is_empty() || event["receiver"] == self.receiver.as_str())
            && (self.kind.is_empty() || event["kind"] == self.kind.as_str())
            && (!self.is_failed || event["isDelivered"] == false)
            && event["at"].as_str().is_some_and(|at| at >= self.since.as_str());
        fits.then_some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferula_fs::Faulty;

    fn open(fs: &Faulty) -> History {
        History::new(Arc::new(fs.clone()), "/am/history".into())
    }
    fn ask(h: &History, question: Question) -> Vec<String> {
        h.ask(&Question { limit: 100, ..question })
            .iter()
            .map(|e| format!("{}@{}", e["kind"].as_str().unwrap(), e["at"].as_str().unwrap()))
            .collect()
    }

    #[test]
    fn events_survive_and_are_found() {
        let fs = Faulty::new(1);
        let h = open(&fs);
        let labels = Labels::from_pairs([("alertname", "A"), ("team", "x")]);
        h.write(
            1_000,
            &[Event::Began { fingerprint: fingerprint(10), labels: Pairs(&labels), receivers: vec!["r".into()] }],
        );
        let s = Suppression {
            group_key: "{}".into(),
            receiver: "r".into(),
            fingerprint: 10,
            why: Some("silence"),
            by: vec!["id".into()],
        };
        h.write(
            2_000,
            &[
                Event::of_suppression(&s),
                Event::of_suppression(&Suppression { fingerprint: 11, why: None, ..s.clone() }),
            ],
        );
        // A crash tears the last line; the next process goes on behind it.
        fs.open(std::path::Path::new("/am/history/00000001.jsonl"), Open::Append).unwrap().append(b"{\"at\":").unwrap();
        let h = open(&fs);
        h.write(3_000, &[Event::Ended { fingerprint: fingerprint(10), labels: Pairs(&labels) }]);
        let ten = Question { fingerprints: Some(vec![fingerprint(10)]), ..Question::default() };
        assert_eq!(
            ask(&h, ten.clone()),
            ["ended@1970-01-01T00:00:03.000Z", "suppressed@1970-01-01T00:00:02.000Z", "began@1970-01-01T00:00:01.000Z"]
        );
        assert_eq!(ask(&h, Question { kind: "released".into(), ..Question::default() }).len(), 1);
        assert_eq!(ask(&h, Question { since: "1970-01-01T00:00:03".into(), ..Question::default() }).len(), 1);
        assert_eq!(h.fingerprints(|l| l["team"] == "x"), [fingerprint(10)]);
        assert!(h.fingerprints(|l| l["team"] == "y").is_empty());
    }

    #[test]
    fn it_is_bounded() {
        let fs = Faulty::new(1);
        let h = open(&fs);
        let big = Labels::from_pairs([("a", "x".repeat(1 << 20))]);
        for t in 0..60 {
            h.write(t, &[Event::Ended { fingerprint: fingerprint(t as u64), labels: Pairs(&big) }]);
        }
        assert_eq!(h.files().len() as u64, FILES_KEPT);
        assert!(ask(&h, Question { limit: 1, ..Question::default() })[0].ends_with("00.059Z"));
    }
}
