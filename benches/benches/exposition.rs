//! Parsing a target's body, cold and warm.
#![allow(clippy::unwrap_used)]
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ferula_benches::exposition;
use ferula_exposition::parse::{Entry, Limits, Parser, Syntax};

fn benches(c: &mut Criterion) {
    let (first, second) = (exposition(0, 1000, 1), exposition(0, 1000, 2));
    let mut known: Vec<Vec<u8>> = Vec::new();
    let mut parser = Parser::new(first.as_bytes(), Syntax::Text, Limits::default());
    while let Some(entry) = parser.next() {
        if let Entry::Sample(s) = entry.unwrap() {
            known.push(s.series.to_vec());
        }
    }
    let mut group = c.benchmark_group("exposition");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("cold, no labels", |b| {
        b.iter(|| {
            let mut parser = Parser::new(black_box(second.as_bytes()), Syntax::Text, Limits::default());
            let mut sum = 0.0;
            while let Some(entry) = parser.next() {
                if let Entry::Sample(s) = entry.unwrap() {
                    sum += s.value;
                }
            }
            sum
        })
    });
    group.bench_function("warm, every line expected", |b| {
        b.iter(|| {
            let mut parser = Parser::new(black_box(second.as_bytes()), Syntax::Text, Limits::default());
            let (mut sum, mut i) = (0.0, 0);
            while let Some(entry) =
                parser.next_known(&mut |line: &[u8]| known.get(i).filter(|k| line.starts_with(k)).map(Vec::len))
            {
                if let Entry::Sample(s) = entry.unwrap() {
                    assert!(s.expected);
                    sum += s.value;
                    i += 1;
                }
            }
            sum
        })
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
