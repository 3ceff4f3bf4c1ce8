//! Shared by the tests: ask our exporter without a socket, take pages apart, unpack ttar archives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code)]
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use axum::Router;
use clap::{Args, Command, FromArgMatches};
use ferula_exporters_node::{Flags, router};
use ferula_instrument::Registry;
use http_body_util::BodyExt;
use tempfile::TempDir;
use tower::ServiceExt;

pub fn flags(arguments: &[String]) -> Flags {
    let command = Flags::augment_args(Command::new("node_exporter").no_binary_name(true));
    let matches = command.try_get_matches_from(arguments).unwrap_or_else(|e| panic!("{e}"));
    Flags::from_arg_matches(&matches).unwrap()
}

/// Our exporter for these flags.
pub fn exporter(arguments: &[String]) -> Router {
    router(flags(arguments), Registry::new()).unwrap_or_else(|e| panic!("{e}"))
}

/// Its page for a query.
pub async fn ask(exporter: &Router, query: &str) -> String {
    let request = http::Request::get(format!("/metrics?{query}")).body(axum::body::Body::empty()).unwrap();
    let response = exporter.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap();
    assert_eq!(status, 200, "{body}");
    body
}

/// Our page for these flags and this query.
pub async fn page(arguments: &[String], query: &str) -> String {
    ask(&exporter(arguments), query).await
}

/// The name a line of the page is about, followed by a blank.
fn family_of(line: &str) -> String {
    let rest = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE ")).unwrap_or(line);
    format!("{} ", rest.split([' ', '{']).next().unwrap_or_default())
}

pub fn lines_of_families(page: &str, families: &[&str]) -> BTreeSet<String> {
    let belongs = |l: &&str| {
        let name = family_of(l);
        let (mut inside, mut outside) = (false, false);
        for f in families {
            match f.strip_prefix('!') {
                Some(f) => outside |= name.starts_with(f),
                None => inside |= name.starts_with(f),
            }
        }
        inside && !outside
    };
    page.lines().filter(belongs).map(str::to_owned).collect()
}

/// Per family: type, help, and the set of its label names.
pub fn shape(page: &str) -> BTreeMap<String, (String, String, BTreeSet<String>)> {
    let mut out: BTreeMap<String, (String, String, BTreeSet<String>)> = BTreeMap::new();
    for line in page.lines() {
        let name = family_of(line).trim_end().to_owned();
        let entry = out.entry(name.clone()).or_default();
        if let Some(help) = line.strip_prefix("# HELP ") {
            entry.1 = help.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            entry.0 = kind.to_owned();
        } else if let Some((_, labels)) = line.split_once('{') {
            // Label values of these pages hold no `="`.
            let names = labels.split("=\"").map(|part| part.rsplit([',', '{', '"']).next().unwrap_or_default());
            let names: Vec<&str> = names.collect();
            let count = names.len() - 1;
            entry.2.extend(names.into_iter().take(count).map(str::to_owned));
        }
    }
    out
}

/// Upstream's trees of kernel files, in a folder of their own.
pub struct Fixtures {
    corpus: PathBuf,
    dir: TempDir,
}

impl Fixtures {
    /// `None`, and a line that says so, without the corpus.
    pub fn unpack(suite: &str) -> Option<Fixtures> {
        let corpus = ferula_testkit::corpus(suite, "fixtures/node_exporter")?;
        let dir = tempfile::tempdir().unwrap();
        for tree in ["proc", "usr", "textfile"] {
            copy(&corpus.join(tree), &dir.path().join(tree));
        }
        std::os::unix::fs::symlink("10", dir.path().join("proc/self")).unwrap();
        for archive in ["sys.ttar", "udev.ttar"] {
            unpack_ttar(&std::fs::read(corpus.join(archive)).unwrap(), dir.path());
        }
        Some(Fixtures { corpus, dir })
    }

    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Some labels hold paths; upstream's are relative to its checkout.
    pub fn root(&self) -> String {
        self.dir.path().to_string_lossy().into_owned()
    }

    /// The page upstream's end-to-end test expects.
    pub fn expected(&self) -> String {
        std::fs::read_to_string(self.corpus.join("e2e-output.txt")).unwrap()
    }

    pub fn flags(&self) -> Vec<String> {
        let flag = |name: &str, path: &str| format!("--{name}={}", self.path(path).to_string_lossy());
        vec![
            flag("path.procfs", "proc"),
            flag("path.sysfs", "sys"),
            flag("path.rootfs", ""),
            flag("path.udev.data", "udev/data"),
            flag("collector.textfile.directory", "textfile/two_metric_files"),
        ]
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Unpacks the text archive format of upstream's fixtures: headers `Directory:`, `Path:`, `SymlinkTo:`, `Lines:`; `EOF`
/// at the end of a file's last line means that no newline follows, `NULLBYTE` stands for a zero byte.
pub fn unpack_ttar(archive: &[u8], root: &Path) {
    let mut lines = archive.split(|b| *b == b'\n');
    let mut path = root.to_path_buf();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    while let Some(line) = lines.next() {
        if let Some(name) = line.strip_prefix(b"Directory: ") {
            std::fs::create_dir_all(root.join(text(name))).unwrap();
        } else if let Some(name) = line.strip_prefix(b"Path: ") {
            path = root.join(text(name));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        } else if let Some(target) = line.strip_prefix(b"SymlinkTo: ") {
            std::os::unix::fs::symlink(text(target), &path).unwrap();
        } else if let Some(count) = line.strip_prefix(b"Lines: ") {
            let count: usize = text(count).parse().unwrap();
            let mut body = Vec::new();
            for _ in 0..count {
                body.extend_from_slice(lines.next().unwrap());
                body.push(b'\n');
            }
            if body.ends_with(b"EOF\n") {
                body.truncate(body.len() - 4);
            }
            std::fs::write(&path, body).unwrap();
        }
    }
}
