//! `promtool debug pprof|metrics|all`: what a running server says of itself, in one archive.
//!
//! Followed: promtool 3.5's lines, file names and headers of the archive. It asks in random order, this in a fixed one.
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::Streams;
use crate::command_line::Parsed;
use crate::server::Server;

const ARCHIVE: &str = "debug.tar.gz";
/// What a profile may inflate to.
const PROFILE_BYTES_MAX: u64 = 1 << 30;
const BLOCK: usize = 512;

/// Path, file name, and whether it is a profile: those are stored inflated.
const PROFILES: [(&str, &str, bool); 7] = [
    ("/debug/pprof/block", "block.pb", true),
    ("/debug/pprof/goroutine", "goroutine.pb", true),
    ("/debug/pprof/heap", "heap.pb", true),
    ("/debug/pprof/mutex", "mutex.pb", true),
    ("/debug/pprof/profile?seconds=30", "cpu.pb", true),
    ("/debug/pprof/threadcreate", "threadcreate.pb", true),
    ("/debug/pprof/trace?seconds=30", "trace.pb", false),
];
const METRICS: [(&str, &str, bool); 1] = [("/metrics", "metrics.txt", false)];

pub(crate) fn run(parsed: &Parsed, streams: &mut Streams<'_>) -> Result<(), String> {
    let wanted: Vec<_> = match parsed.command.path {
        [_, "pprof"] => PROFILES.to_vec(),
        [_, "metrics"] => METRICS.to_vec(),
        _ => PROFILES.into_iter().chain(METRICS).collect(),
    };
    let base = parsed.arg("server");
    let server = Server::new(base, parsed)?;
    collect(&server, base, &wanted, Path::new(ARCHIVE), streams)
        .map_err(|e| format!("error completing debug command: {e}"))?;
    streams.say(format_args!("Compiling debug information complete, all files written in \"{ARCHIVE}\"."));
    Ok(())
}

fn collect(
    server: &Server,
    base: &str,
    wanted: &[(&str, &str, bool)],
    archive: &Path,
    streams: &mut Streams<'_>,
) -> Result<(), String> {
    let cannot = |what: &'static str| move |e: std::io::Error| format!("{what} archive {ARCHIVE:?}: {e}");
    let file = File::create(archive).map_err(cannot("error creating"))?;
    let mut out = GzEncoder::new(file, flate2::Compression::default());
    for (path, name, is_profile) in wanted {
        streams.say(format_args!("collecting: {}{path}", base.trim_end_matches('/')));
        let answer = server.get(path).map_err(|e| format!("error executing HTTP request: {e}"))?;
        let body = match is_profile {
            true => inflated(answer.body).map_err(|e| format!("error post-processing HTTP response body: {e}"))?,
            false => answer.body,
        };
        out.write_all(&header(name, body.len())).map_err(cannot("error writing"))?;
        out.write_all(&body).map_err(cannot("error writing"))?;
        let padding = body.len().next_multiple_of(BLOCK) - body.len();
        out.write_all(&[0; BLOCK][..padding]).map_err(cannot("error writing"))?;
    }
    out.write_all(&[0; 2 * BLOCK]).map_err(cannot("error writing"))?;
    out.finish().map_err(cannot("error writing"))?;
    Ok(())
}

/// A profile as it is without its compression.
fn inflated(body: Vec<u8>) -> Result<Vec<u8>, String> {
    if !body.starts_with(&[0x1f, 0x8b]) {
        return Err("parsing profile: unrecognized profile format".to_owned());
    }
    let mut profile = Vec::new();
    let mut reader = MultiGzDecoder::new(&*body).take(PROFILE_BYTES_MAX);
    reader.read_to_end(&mut profile).map_err(|e| format!("decompressing profile: {e}"))?;
    Ok(profile)
}

/// The header of a file of mode 0666 and no time, as tar (POSIX.1-1988) has it.
fn header(name: &str, bytes: usize) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| {
        if let Some(to) = block.get_mut(at..at + text.len()) {
            to.copy_from_slice(text.as_bytes());
        }
    };
    put(0, name);
    put(100, "0000666\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{bytes:011o}\0"));
    put(136, "00000000000\0");
    put(148, "        "); // the sum is made with blanks in its place
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
    if let Some(to) = block.get_mut(148..156) {
        to.copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_tars() {
        let h = header("metrics.txt", 10);
        assert_eq!(&h[..12], b"metrics.txt\0");
        assert_eq!(&h[124..136], b"00000000012\0");
        // Worked out by hand: bytes of the name, modes, size, times, type, magic and version, and eight blanks.
        let sum = u32::from_str_radix(std::str::from_utf8(&h[148..154]).unwrap(), 8).unwrap();
        let blank: u32 =
            h.iter().enumerate().map(|(i, b)| if (148..156).contains(&i) { 32 } else { u32::from(*b) }).sum();
        assert_eq!(sum, blank);
    }

    #[test]
    fn profiles_are_inflated() {
        assert_eq!(inflated(b"up 1\n".to_vec()).unwrap_err(), "parsing profile: unrecognized profile format");
        let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(b"profile").unwrap();
        assert_eq!(inflated(gz.finish().unwrap()).unwrap(), b"profile");
    }
}
