//! The query log (`global.query_log_file`): one JSON line for every query of the API and of the rules.
//!
//! Source followed: the lines that Prometheus 3.5 writes. Set anew at every load of the configuration, so that a rotated
//! file is let go then.
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferula_instrument::{Counter, Gauge, Registry};

use crate::api::json::Json;

/// Where lines go, if anywhere.
pub struct QueryLog {
    file: Mutex<Option<File>>,
    enabled: Gauge,
    failures: Counter,
}

/// One query as it ended.
pub(crate) struct Line<'a> {
    pub now_ms: i64,
    pub query: &'a str,
    pub start_ms: i64,
    pub end_ms: i64,
    /// 0 for an instant query.
    pub step_ms: i64,
    pub error: Option<String>,
    /// The `stats` object.
    pub stats: Option<Vec<u8>>,
    pub origin: Origin<'a>,
}

/// Who asked.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Origin<'a> {
    Request { client: &'a str, method: &'a str, path: &'a str },
    RuleGroup { file: &'a str, name: &'a str },
}

impl QueryLog {
    pub fn new(registry: &Registry) -> QueryLog {
        QueryLog {
            file: Mutex::default(),
            enabled: registry.gauge("prometheus_engine_query_log_enabled", "State of the query log."),
            failures: registry
                .counter("prometheus_engine_query_log_failures_total", "The number of query log failures."),
        }
    }

    fn file(&self) -> MutexGuard<'_, Option<File>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens `path` for the lines from now on; "" ends the log.
    pub fn set(&self, path: &str) -> Result<(), String> {
        let file = match path {
            "" => None,
            path => {
                let opened = OpenOptions::new().create(true).append(true).open(path);
                Some(opened.map_err(|e| format!("can't create json log file: open {path}: {e}"))?)
            }
        };
        self.enabled.set(f64::from(u8::from(file.is_some())));
        *self.file() = file;
        Ok(())
    }

    pub fn is_on(&self) -> bool {
        self.file().is_some()
    }

    /// Writes a line; one that cannot be written is counted.
    pub(crate) fn write(&self, line: &Line<'_>) {
        let bytes = line.bytes();
        if let Some(Err(error)) = self.file().as_mut().map(|f| f.write_all(&bytes)) {
            self.failures.inc();
            tracing::error!(%error, "can't log query");
        }
    }
}

impl Line<'_> {
    fn bytes(&self) -> Vec<u8> {
        let time =
            |ms: i64| jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| format!("{t:.3}"));
        let mut j = Json::new();
        j.raw("{\"time\":").string(&time(self.now_ms)).raw(",\"level\":\"INFO\",\"source\":\"query_log.rs\"");
        j.raw(",\"msg\":\"promql query logged\",\"params\":{\"end\":").string(&time(self.end_ms));
        j.raw(",\"query\":").string(self.query).raw(",\"start\":").string(&time(self.start_ms));
        j.raw(",\"step\":").integer(self.step_ms / 1000).raw("}");
        if let Some(error) = &self.error {
            j.raw(",\"error\":").string(error);
        }
        if let Some(stats) = &self.stats {
            j.raw(",\"stats\":").raw_bytes(stats);
        }
        match self.origin {
            Origin::Request { client, method, path } => {
                j.raw(",\"httpRequest\":{\"clientIP\":").string(client).raw(",\"method\":").string(method);
                j.raw(",\"path\":").string(path);
            }
            Origin::RuleGroup { file, name } => {
                j.raw(",\"ruleGroup\":{\"file\":").string(file).raw(",\"name\":").string(name);
            }
        }
        j.raw("}}\n");
        j.into_bytes()
    }
}
