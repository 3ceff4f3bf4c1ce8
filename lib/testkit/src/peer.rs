//! Real upstream programs, and ours, started on free ports and ended with the test.
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::http::http_get;

pub type Version = (u32, u32, u32);

/// A program found in the folder that env `PEERS` names.
#[derive(Clone, Debug)]
pub struct Peer {
    pub path: PathBuf,
    pub version: Version,
}

impl Peer {
    /// Looks for `name` (Debian's spelling, such as `prometheus-alertmanager`) of at least version `min` and prints
    /// what it found; `Err` says why the test cannot run, for [`crate::skipped`].
    pub fn find(name: &str, min: Version) -> Result<Peer, String> {
        let bin = std::env::var_os("PEERS").ok_or("PEERS is not set")?;
        let path = PathBuf::from(bin).join(name);
        if !path.exists() {
            return Err(format!("{} does not exist", path.display()));
        }
        let output = Command::new(&path).arg("--version").output().map_err(|e| format!("{name} --version: {e}"))?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        let version = parse_version(&text).ok_or_else(|| format!("{name} says no version: {text}"))?;
        if version < min {
            return Err(format!("{name} is {version:?}, older than {min:?}"));
        }
        println!("peer {name} {}.{}.{}", version.0, version.1, version.2);
        Ok(Peer { path, version })
    }

    /// A command of this program, for tools that run and end (`promtool`, `amtool`).
    pub fn command(&self) -> Command {
        Command::new(&self.path)
    }

    /// Starts it as a server.
    pub fn start(&self, arguments: impl Fn(&Launch<'_>) -> Vec<String>) -> Running {
        Running::start(&self.path, "/-/ready", arguments)
    }

    /// As [`Peer::start`], for programs that have another page to ask.
    pub fn start_when(&self, ready_path: &str, arguments: impl Fn(&Launch<'_>) -> Vec<String>) -> Running {
        Running::start(&self.path, ready_path, arguments)
    }
}

/// `prometheus, version 3.5.3+ds1 (branch...` -> (3, 5, 3)
fn parse_version(text: &str) -> Option<Version> {
    let number = text.split("version ").nth(1)?.split([' ', '(', ',']).next()?;
    let mut parts = number.split(['.', '+', '-', '~']).map_while(|p| p.parse().ok());
    Some((parts.next()?, parts.next()?, parts.next().unwrap_or(0)))
}

/// What the arguments of a program may refer to.
pub struct Launch<'a> {
    /// A free loopback address to listen on.
    pub addr: SocketAddr,
    /// An empty folder that goes away with the process.
    pub dir: &'a Path,
}

impl Launch<'_> {
    /// Writes a file into the folder and gives its path.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.join(name);
        std::fs::write(&path, text).expect("a writable folder");
        path.to_string_lossy().into_owned()
    }
}

/// A running program; killed by its id and waited for on drop.
pub struct Running {
    child: Child,
    pub addr: SocketAddr,
    dir: TempDir,
}

impl Running {
    /// Starts `program` and waits until `ready_path` answers 200, at most 30 s. Panics with its output if it does not.
    pub fn start(program: &Path, ready_path: &str, arguments: impl Fn(&Launch<'_>) -> Vec<String>) -> Running {
        let mut last = String::new();
        for _ in 0..3 {
            // Somebody may take the port between our look and the program's start: another port, another try.
            match Running::attempt(program, ready_path, &arguments) {
                Ok(running) => return running,
                Err(log) => last = log,
            }
        }
        panic!("{} did not start:\n{last}", program.display())
    }

    fn attempt(
        program: &Path,
        ready_path: &str,
        arguments: impl Fn(&Launch<'_>) -> Vec<String>,
    ) -> Result<Running, String> {
        let dir = TempDir::new().expect("a temporary folder");
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let log_path = dir.path().join("output.log");
        let log = File::create(&log_path).expect("a log file");
        let data = dir.path().join("data");
        std::fs::create_dir(&data).expect("a data folder");
        let child = Command::new(program)
            .args(arguments(&Launch { addr, dir: &data }))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log file"))
            .stderr(log)
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let mut running = Running { child, addr, dir };
        for _ in 0..1500 {
            if matches!(http_get(addr, ready_path), Ok((200, _))) {
                return Ok(running);
            }
            if running.child.try_wait().is_ok_and(|status| status.is_some()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20)); // polling another process: there is nothing to wait on
        }
        Err(running.output())
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }
    pub fn get(&self, path: &str) -> (u16, String) {
        http_get(self.addr, path).unwrap_or_else(|e| panic!("GET {path}: {e}\n{}", self.output()))
    }
    /// As [`Running::get`], but `None` when nobody answers: for tests that wait for the end.
    pub fn get_if_running(&self, path: &str) -> Option<(u16, String)> {
        http_get(self.addr, path).ok()
    }
    /// The folder the arguments referred to.
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }
    /// Everything it printed so far.
    pub fn output(&self) -> String {
        let bytes = std::fs::read(self.dir.path().join("output.log")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
    /// `kill -9`, at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        assert_eq!(parse_version("prometheus, version 3.5.3+ds1 (branch: debian/sid"), Some((3, 5, 3)));
        assert_eq!(parse_version("amtool, version 0.33.1 (branch"), Some((0, 33, 1)));
        assert_eq!(parse_version("nothing"), None);
    }
}
