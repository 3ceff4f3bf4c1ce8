//! Prints what the segments of a log folder hold, record by record.
use ferula_tsdb::{record, wal::reader::SegmentReader};
fn main() {
    for path in std::env::args().skip(1) {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        let mut r = SegmentReader::new(&bytes);
        let mut rec = Vec::new();
        while r.next(&mut rec) {
            let k = record::kind(&rec);
            let mut list = Vec::new();
            match k {
                2 => drop(record::samples::decode(&rec, |s| list.push(format!("{}@{}={}", s.series, s.t_ms, s.value)))),
                7..=10 => drop(record::histograms::decode(&rec, |s| list.push(format!("{}@{}", s.series, s.t_ms)))),
                1 => drop(record::series::decode(&rec, |s, l| list.push(format!("{s}={l:?}")))),
                _ => {}
            }
            println!("{path} {k} n={} {}", list.len(), list.join(" "));
        }
        println!("{:?}", r.damages);
    }
}
