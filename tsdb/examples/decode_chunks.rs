//! What decoding costs: reads every float chunk of a `chunks_head` folder and decodes it several times over.
//!
//! ```text
//! cargo run --release -p ferula-tsdb --example decode_chunks -- DATA/chunks_head [REPS [TOGETHER]]
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use ferula_tsdb::chunk::{Encoding, sample_count, xor};

/// CPU time of this thread, in seconds.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn main() {
    let folder = std::env::args().nth(1).expect("a chunks_head folder");
    let reps: usize = std::env::args().nth(2).map_or(5, |n| n.parse().unwrap());
    let only: Option<usize> = std::env::args().nth(3).map(|n| n.parse().unwrap());
    let mut chunks: Vec<(u64, i64, Vec<u8>)> = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let mut at = 8;
        while at + 26 < bytes.len() {
            let series = u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
            let mint = i64::from_be_bytes(bytes[at + 8..at + 16].try_into().unwrap());
            let encoding = bytes[at + 24];
            if encoding == 0 {
                break;
            }
            at += 25;
            let (mut len, mut shift) = (0usize, 0);
            loop {
                let b = bytes[at];
                at += 1;
                len |= usize::from(b & 0x7f) << shift;
                shift += 7;
                if b < 0x80 {
                    break;
                }
            }
            if encoding == Encoding::Xor as u8 {
                chunks.push((series, mint, bytes[at..at + len].to_vec()));
            }
            at += len + 4;
        }
    }
    chunks.sort_by_key(|(series, mint, _)| (*series, *mint));
    let samples: usize = chunks.iter().map(|c| usize::from(sample_count(&c.2))).sum();
    let bytes: usize = chunks.iter().map(|c| c.2.len()).sum();
    println!("{} chunks, {samples} samples, {:.2} bytes each", chunks.len(), bytes as f64 / samples as f64);
    let (mut t, mut v) = (Vec::new(), Vec::new());
    for together in only.map_or(vec![1, 2, 7, 8], |n| vec![n]) {
        let mut least = f64::MAX;
        let mut sum = 0u64;
        for _ in 0..reps {
            let began = cpu();
            sum = 0;
            for some in chunks.chunks(together) {
                t.clear();
                v.clear();
                let some: Vec<_> = some.iter().map(|c| (&c.2[..], usize::MAX)).collect();
                xor::decode_all(&some, &mut t, &mut v).unwrap();
                sum = v.iter().step_by(97).fold(sum, |sum, v| sum.wrapping_mul(31).wrapping_add(v.to_bits()));
                sum = t.iter().step_by(97).fold(sum, |sum, t| sum.wrapping_mul(31).wrapping_add(*t as u64));
            }
            least = least.min(cpu() - began);
        }
        println!(
            "{together} at a time: {:.2} ns a sample ({:.0} M/s), {sum:x}",
            least * 1e9 / samples as f64,
            samples as f64 / least / 1e6
        );
    }
}
