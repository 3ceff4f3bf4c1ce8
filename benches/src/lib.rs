#![doc = include_str!("../README.md")]
//! The workload: series that are a pure function of their index, values a pure function of (series, step).

use std::fmt::Write;

use ferula_model::Labels;

/// Labels of series `i`: a third node-shaped, a third container-shaped with long ids, a third histogram buckets.
pub fn labels(i: usize) -> Labels {
    let instance = format!("10.0.{}.{}:9100", i / 1000 % 256, i / 256_000);
    let n = i % 1000;
    let mut pairs: Vec<(String, String)> = vec![("instance".into(), instance), ("job".into(), "bench".into())];
    let mut add = |name: &str, value: String| pairs.push((name.to_owned(), value));
    match n % 3 {
        0 => {
            add("__name__", "node_cpu_seconds_total".into());
            add("cpu", (n / 24).to_string());
            add("mode", ["idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user"][n / 3 % 8].into());
        }
        1 => {
            add("__name__", "container_cpu_usage_seconds_total".into());
            add("namespace", format!("team-{}", n % 20));
            add("pod", format!("api-server-{:08x}-{:05}", n.wrapping_mul(2_654_435_761) & 0xffff_ffff, n));
            add("id", format!("/kubepods/burstable/pod{n:08x}-5f2c-4b8e-9a1d-{n:012x}/{n:064x}"));
            add("image", format!("registry.example.org/team/api@sha256:{n:064x}"));
        }
        _ => {
            add("__name__", "http_request_duration_seconds_bucket".into());
            add("handler", format!("/api/v1/resource-{}", n / 36));
            add(
                "le",
                ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"][n / 3 % 12]
                    .into(),
            );
        }
    }
    Labels::from_pairs(pairs)
}

/// Value of series `i` at step `step`: a fifth never changes, half are integer counters, the rest gauges with noise.
pub fn value(i: usize, step: i64) -> f64 {
    let noise = |salt: u64| {
        let x =
            (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (step as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ salt;
        (x ^ (x >> 31)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 40
    };
    match i % 10 {
        0 | 1 => i as f64,
        2..=6 => (step * 40 + (noise(1) % 30) as i64) as f64,
        7 | 8 => (step as f64) * 1.25 + (noise(2) % 100) as f64 / 100.0,
        _ => ((noise(3) % 100_000) * 4096) as f64,
    }
}

/// An exposition of series `from..to` at one step, as a target would serve it.
pub fn exposition(from: usize, to: usize, step: i64) -> String {
    let mut out = String::new();
    for i in from..to {
        let l = labels(i);
        out.push_str(l.metric_name());
        let mut sep = '{';
        for (n, v) in &l {
            if n != "__name__" && n != "job" && n != "instance" {
                let _ = write!(out, "{sep}{n}=\"{v}\"");
                sep = ',';
            }
        }
        let _ = writeln!(out, "}} {}", value(i, step));
    }
    out
}
