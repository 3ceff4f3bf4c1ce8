//! A file of lines that others may move away: it is opened again when its path leads elsewhere (`logrotate`).
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

pub(super) struct LogFile {
    path: PathBuf,
    open: Option<(File, (u64, u64))>,
}

/// What makes a file the same file.
fn identity(m: &Metadata) -> (u64, u64) {
    (m.dev(), m.ino())
}

impl LogFile {
    pub(super) fn new(path: PathBuf) -> LogFile {
        LogFile { path, open: None }
    }

    /// Appends the line and its end in one write; answers how many bytes that were.
    pub(super) fn append(&mut self, line: &[u8]) -> io::Result<usize> {
        let at_path = std::fs::metadata(&self.path).ok().map(|m| identity(&m));
        if self.open.as_ref().is_none_or(|(_, opened)| at_path != Some(*opened)) {
            let file = OpenOptions::new().create(true).append(true).open(&self.path)?;
            let opened = identity(&file.metadata()?);
            self.open = Some((file, opened));
        }
        let Some((file, _)) = &mut self.open else { return Ok(0) };
        let bytes = [line, b"\n"].concat();
        file.write_all(&bytes)?;
        Ok(bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_moved_or_removed_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (path, moved) = (dir.path().join("events.jsonl"), dir.path().join("events.1"));
        let mut log = LogFile::new(path.clone());
        assert_eq!(log.append(b"a").unwrap(), 2);
        log.append(b"b").unwrap();
        std::fs::rename(&path, &moved).unwrap();
        log.append(b"c").unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "a\nb\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "c\n");
        std::fs::remove_file(&path).unwrap();
        log.append(b"d").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "d\n");
        assert!(LogFile::new(dir.path().join("none/x")).append(b"x").is_err());
    }
}
