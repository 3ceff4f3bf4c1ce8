//! `debug metrics` beside the real one: the same lines, the same archive. A test binary of its own, since the archive is
//! written into the current directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use ferula_testkit::{Peer, skipped};

/// Answers every request with these bytes, so many times.
fn serve(body: &'static [u8], times: usize) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        for _ in 0..times {
            let (mut stream, _) = listener.accept().unwrap();
            let (mut seen, mut byte) = (Vec::new(), [0]);
            while !seen.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
                seen.push(byte[0]);
            }
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(body).unwrap();
        }
    });
    (url, thread)
}

/// Names and contents of a tar archive's files.
fn files(gz: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut tar = Vec::new();
    flate2::read::MultiGzDecoder::new(gz).read_to_end(&mut tar).unwrap();
    let (mut rest, mut found) = (&tar[..], Vec::new());
    while rest[0] != 0 {
        let text = |range: std::ops::Range<usize>| {
            let field = &rest[range];
            let end = field.iter().position(|b| *b == 0).unwrap_or(field.len());
            String::from_utf8(field[..end].to_vec()).unwrap()
        };
        let (name, mode) = (text(0..100), text(100..108));
        assert_eq!(mode, "0000666", "{name}");
        let size = usize::from_str_radix(&text(124..136), 8).unwrap();
        found.push((name, rest[512..512 + size].to_vec()));
        rest = &rest[512 + size.next_multiple_of(512)..];
    }
    found
}

#[test]
fn an_archive_of_what_the_server_says() {
    let dir = tempfile::tempdir().unwrap();
    std::env::set_current_dir(dir.path()).unwrap();
    let body = b"# HELP up Is it.\nup 1\n";
    let peer = Peer::find("promtool", (3, 0, 0)).map_err(|why| skipped("promtool/debug", &why)).ok();
    for (command, code, requests) in [("metrics", 0, 1), ("pprof", 1, 1)] {
        let (url, thread) = serve(body, requests + if peer.is_some() { requests } else { 0 });
        let words: Vec<String> = ["debug", command, &url].iter().map(|w| (*w).to_owned()).collect();
        let (mut out, mut err, mut input) = (Vec::new(), Vec::new(), std::io::empty());
        let mut streams = ferula_promtool::Streams { input: &mut input, out: &mut out, err: &mut err };
        let got = ferula_promtool::run(&words, "promtool, version test", &mut streams);
        let (out, err) = (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap());
        assert_eq!(got, code, "{command}: {out}{err}");
        let archive = std::fs::read("debug.tar.gz").unwrap();
        if code == 0 {
            assert_eq!(files(&archive), vec![("metrics.txt".to_owned(), body.to_vec())]);
        }
        if let Some(peer) = &peer {
            let theirs = Command::new(&peer.path).args(&words).output().unwrap();
            assert_eq!(theirs.status.code(), Some(i32::from(code)));
            assert_eq!(String::from_utf8_lossy(&theirs.stderr), err);
            if code == 0 {
                assert_eq!(String::from_utf8_lossy(&theirs.stdout), out);
                assert_eq!(files(&std::fs::read("debug.tar.gz").unwrap()), files(&archive));
            }
        }
        thread.join().unwrap();
    }
}
