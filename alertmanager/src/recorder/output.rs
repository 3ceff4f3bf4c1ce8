//! One destination of events.
use std::io::Write;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::file::LogFile;
use super::webhook::Sender;

/// A destination and its name in metrics: `file:PATH`, `webhook:URL` without secrets, `stdout`.
pub(super) struct Output {
    name: String,
    kind: Kind,
}

enum Kind {
    File(LogFile),
    Webhook(Sender),
    Stdout,
}

impl Output {
    pub(super) fn file(path: &str) -> Output {
        Output { name: format!("file:{path}"), kind: Kind::File(LogFile::new(path.into())) }
    }
    pub(super) fn stdout() -> Output {
        Output { name: "stdout".to_owned(), kind: Kind::Stdout }
    }
    pub(super) fn webhook(name: String, sender: Sender) -> Output {
        Output { name, kind: Kind::Webhook(sender) }
    }
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes one event; answers its bytes there. A webhook only takes it into its queue.
    pub(super) fn write(&mut self, json: &[u8]) -> Result<usize, String> {
        match &mut self.kind {
            Kind::File(file) => file.append(json).map_err(|e| e.to_string()),
            Kind::Webhook(sender) => {
                sender.send(Bytes::copy_from_slice(json));
                Ok(json.len())
            }
            Kind::Stdout => {
                // One write, so that no line of the log comes between.
                let line = [json, b"\n"].concat();
                let mut out = std::io::stdout().lock();
                out.write_all(&line).and_then(|()| out.flush()).map_err(|e| e.to_string())?;
                Ok(line.len())
            }
        }
    }

    /// Takes nothing more; ends when all is out.
    pub(super) fn close(self) -> Option<JoinHandle<()>> {
        match self.kind {
            Kind::Webhook(sender) => Some(sender.close()),
            Kind::File(_) | Kind::Stdout => None,
        }
    }
}
