//! `scrape_failure_log_file`: one line of JSON for every scrape that fails.
use std::io::Write;
use std::path::PathBuf;

/// Where a job's failures go. The file is opened for every line: failures are few, and one that was moved away by a log
/// rotation begins anew by itself.
#[derive(Debug)]
pub(crate) struct FailureLog {
    path: PathBuf,
}

impl FailureLog {
    /// Fails where the file cannot be written.
    pub(crate) fn open(path: &str) -> std::io::Result<FailureLog> {
        let log = FailureLog { path: path.into() };
        log.file()?;
        Ok(log)
    }

    fn file(&self) -> std::io::Result<std::fs::File> {
        std::fs::OpenOptions::new().append(true).create(true).open(&self.path)
    }

    /// Blocks for one write.
    pub(crate) fn write(&self, t_ms: i64, job: &str, url: &str, error: &str) {
        let time = jiff::Timestamp::from_millisecond(t_ms).map_or_else(|_| String::new(), |t| t.to_string());
        let line = serde_json::json!({
            "time": time, "level": "ERROR", "msg": error, "job_name": job, "target": url,
        });
        let written = self.file().and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        if let Err(e) = written {
            tracing::warn!(path = %self.path.display(), error = %e, "The scrape failure log cannot be written");
        }
    }
}
