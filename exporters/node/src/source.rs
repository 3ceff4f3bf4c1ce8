//! Reading kernel files below the configured roots, bounded and without surprises.
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ferula_exporters_shell::CollectError;
use rustix::fs::{Mode, OFlags};

use crate::flags::Flags;

const PROC_BYTES_MAX: usize = 16 << 20;
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// Where the kernel's files are.
#[derive(Debug)]
pub(crate) struct Source {
    procfs: PathBuf,
    sysfs: PathBuf,
    rootfs: PathBuf,
    udev: PathBuf,
}

impl Source {
    pub fn new(flags: &Flags) -> Source {
        Source {
            procfs: flags.procfs.clone(),
            sysfs: flags.sysfs.clone(),
            rootfs: flags.rootfs.clone(),
            udev: flags.udev_data.clone(),
        }
    }
    pub fn proc_path(&self, relative: &str) -> PathBuf {
        self.procfs.join(relative)
    }
    pub fn sys_path(&self, relative: &str) -> PathBuf {
        self.sysfs.join(relative)
    }
    pub fn root_path(&self, relative: &str) -> PathBuf {
        self.rootfs.join(relative.trim_start_matches('/'))
    }
    pub fn rootfs(&self) -> &Path {
        &self.rootfs
    }

    /// A file of procfs that this kernel must have.
    pub fn proc(&self, relative: &str) -> Result<String, CollectError> {
        let path = self.proc_path(relative);
        read(&path, PROC_BYTES_MAX).map_err(|e| failed("open", &path, &e))
    }
    /// A file of procfs that belongs to an optional part of the kernel: `NoData` without it.
    pub fn proc_or_no_data(&self, relative: &str) -> Result<String, CollectError> {
        self.proc_optional(relative)?.ok_or(CollectError::NoData)
    }
    pub fn proc_optional(&self, relative: &str) -> Result<Option<String>, CollectError> {
        let path = self.proc_path(relative);
        match read(&path, PROC_BYTES_MAX) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("open", &path, &e)),
        }
    }
    /// The directories and links in a folder of sysfs, sorted; `None` if the folder is missing.
    pub fn sys_entries(&self, relative: &str) -> Result<Option<Vec<String>>, CollectError> {
        let path = self.sys_path(relative);
        match entries(&path) {
            Ok(names) => Ok(Some(names)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("open", &path, &e)),
        }
    }
    /// As [`Source::sys_entries`], where a missing folder means that there is nothing of the kind.
    pub fn sys_entries_or_no_data(&self, relative: &str) -> Result<Vec<String>, CollectError> {
        self.sys_entries(relative)?.ok_or(CollectError::NoData)
    }
    /// What udev knows about a block device, as its `KEY=VALUE` lines; empty if nothing.
    pub fn udev_block_device(&self, major: &str, minor: &str) -> String {
        read(&self.udev.join(format!("b{major}:{minor}")), PROC_BYTES_MAX).unwrap_or_default()
    }
}

/// The whole file as text; bytes that are not UTF-8 become replacement characters.
pub(crate) fn read(path: &Path, bytes_max: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::with_capacity(8 << 10);
    // Files of procfs say that they are empty, so `read_to_end`'s probing would cost calls: grow by hand.
    loop {
        let used = bytes.len();
        if used >= bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {bytes_max} bytes")));
        }
        if bytes.capacity() - used < 4 << 10 {
            bytes.reserve(used.max(8 << 10));
        }
        let room = bytes.capacity() - used;
        bytes.resize(used + room, 0);
        let got = file.read(bytes.get_mut(used..).unwrap_or_default());
        match got {
            Ok(n) => {
                bytes.truncate(used + n);
                if n == 0 {
                    break;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => bytes.truncate(used),
            Err(e) => return Err(e),
        }
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// An attribute of sysfs without the surrounding white space. One read is enough: attributes come whole.
pub(crate) fn attribute(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut buffer = [0u8; 4096];
    let n = file.read(&mut buffer)?;
    let first = buffer.get(..n).unwrap_or_default();
    if n < buffer.len() {
        return Ok(String::from_utf8_lossy(first).trim().to_owned());
    }
    Ok(read(path, ATTRIBUTE_BYTES_MAX)?.trim().to_owned())
}

/// An open folder of sysfs. Its attributes are reached in one step each, where a full path walks links every time; this
/// is most of the cost where there are many.
pub(crate) struct Folder(OwnedFd);

impl Folder {
    pub fn open(path: &Path) -> Option<Folder> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).ok().map(Folder)
    }

    /// An attribute without the surrounding white space, cut at 4 KiB, which is a page and the kernel's own limit.
    pub fn text(&self, name: &str) -> Option<String> {
        let file = rustix::fs::openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let mut buffer = [0u8; 4096];
        let n = rustix::io::read(&file, &mut buffer).ok()?;
        Some(String::from_utf8_lossy(buffer.get(..n)?).trim().to_owned())
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        integer(&self.text(name)?).map(|v| v as f64)
    }
}

/// An attribute that is a number: decimal, `0x` hexadecimal or `0` octal, as Go's base 0 reads it.
pub(crate) fn number_attribute(path: &Path) -> Option<f64> {
    integer(&attribute(path).ok()?).map(|v| v as f64)
}

/// Go's `strconv.ParseInt(s, 0, 64)`, with room for unsigned ones.
pub(crate) fn integer(s: &str) -> Option<i128> {
    let (negative, digits) = s.strip_prefix('-').map_or((false, s), |d| (true, d));
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        i128::from_str_radix(hex, 16).ok()?
    } else if digits.len() > 1 && digits.starts_with('0') {
        i128::from_str_radix(digits, 8).ok()?
    } else {
        digits.parse().ok()?
    };
    Some(if negative { -value } else { value })
}

/// Names of the sub-folders and links of a folder, sorted.
pub(crate) fn entries(path: &Path) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = std::fs::read_dir(path)?
        .filter_map(Result::ok)
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort_unstable();
    Ok(names)
}

/// `open /proc/x: no such file or directory`, as Go words it.
pub(crate) fn failed(what: &str, path: &Path, e: &io::Error) -> CollectError {
    CollectError::Failed(format!("{what} {}: {}", path.display(), reason(e)))
}

/// The operating system's words, without Rust's suffix.
pub(crate) fn reason(e: &io::Error) -> String {
    let text = e.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|c| c.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_in_every_base() {
        for (s, want) in
            [("10", Some(10)), ("0x20", Some(32)), ("-1", Some(-1)), ("010", Some(8)), ("0", Some(0)), ("x", None)]
        {
            assert_eq!(integer(s), want);
        }
    }

    #[test]
    fn reads_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "a".repeat(50_000)).unwrap();
        assert_eq!(read(&path, 1 << 20).unwrap().len(), 50_000);
        assert!(read(&path, 10_000).is_err());
        assert_eq!(attribute(&path).unwrap().len(), 50_000);
        let e = failed("open", Path::new("/x"), &read(Path::new("/nothing/here"), 10).unwrap_err());
        assert_eq!(e.to_string(), "open /x: no such file or directory");
    }
}
