//! `tsdb list`: one line for each block.
use std::path::Path;
use std::sync::Arc;

use ferula_tsdb::Block;

use crate::Streams;
use crate::command_line::Parsed;

const HEADINGS: [&str; 8] =
    ["BLOCK ULID", "MIN TIME", "MAX TIME", "DURATION", "NUM SAMPLES", "NUM CHUNKS", "NUM SERIES", "SIZE"];
/// Narrower columns are widened to this.
const WIDTH_MIN: usize = 13;

pub(super) fn run(parsed: &Parsed, streams: &mut Streams<'_>) -> Result<(), String> {
    let dir = super::folder(parsed)?;
    print(&super::blocks(&dir)?, parsed.bool("human-readable"), streams);
    Ok(())
}

/// Prints the table; columns are as wide as their widest cell and two spaces.
pub(super) fn print(blocks: &[Arc<Block>], readable: bool, streams: &mut Streams<'_>) {
    let mut rows = vec![HEADINGS.map(str::to_owned)];
    for b in blocks {
        let (m, s) = (&b.meta, &b.meta.stats);
        let time = |ms: i64| if readable { utc(ms) } else { ms.to_string() };
        let size = size_bytes(&b.dir);
        rows.push([
            m.ulid.clone(),
            time(m.min_time_ms),
            time(m.max_time_ms),
            go_duration(m.max_time_ms - m.min_time_ms),
            s.num_samples.to_string(),
            s.num_chunks.to_string(),
            s.num_series.to_string(),
            if readable { base2(size) } else { size.to_string() },
        ]);
    }
    let last = HEADINGS.len() - 1;
    let widths: Vec<usize> = (0..last)
        .map(|i| rows.iter().filter_map(|r| r.get(i)).map(|c| c.len() + 2).max().unwrap_or(0).max(WIDTH_MIN))
        .collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}"));
        }
        streams.say(format_args!("{line}{}", row.last().map_or("", String::as_str)));
    }
}

/// What a block takes on disk: chunks, index, tombstones and meta file.
fn size_bytes(dir: &Path) -> u64 {
    let files = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().collect::<Vec<_>>();
    let own = files(dir).into_iter().chain(files(&dir.join("chunks")));
    own.filter_map(|f| f.metadata().ok()).filter(std::fs::Metadata::is_file).map(|m| m.len()).sum()
}

fn utc(ms: i64) -> String {
    let Ok(t) = jiff::Timestamp::from_millisecond(ms.div_euclid(1000) * 1000) else { return ms.to_string() };
    t.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string()
}

/// A duration as Go prints it: `2h0m0s`, `1m40.001s`, `1ms`.
pub(super) fn go_duration(ms: i64) -> String {
    if ms.abs() < 1000 {
        return if ms == 0 { "0s".to_owned() } else { format!("{ms}ms") };
    }
    let (sign, ms) = if ms < 0 { ("-", -ms) } else { ("", ms) };
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    let mut seconds = format!("{}.{:03}", ms / 1000 % 60, ms % 1000);
    seconds.truncate(seconds.trim_end_matches('0').trim_end_matches('.').len());
    match (hours, minutes) {
        (0, 0) => format!("{sign}{seconds}s"),
        (0, m) => format!("{sign}{m}m{seconds}s"),
        (h, m) => format!("{sign}{h}h{m}m{seconds}s"),
    }
}

/// `1KiB43B`
fn base2(mut bytes: u64) -> String {
    if bytes == 0 {
        return "0B".to_owned();
    }
    let mut out = String::new();
    for (unit, shift) in [("EiB", 60), ("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)] {
        let n = bytes >> shift;
        if n > 0 {
            out.push_str(&format!("{n}{unit}"));
            bytes -= n << shift;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_as_go() {
        for (ms, text) in
            [(0, "0s"), (1, "1ms"), (1500, "1.5s"), (100_001, "1m40.001s"), (7_200_000, "2h0m0s"), (60_000, "1m0s")]
        {
            assert_eq!(go_duration(ms), text);
        }
        assert_eq!((base2(1067), base2(513), base2(1 << 20)), ("1KiB43B".into(), "513B".into(), "1MiB".into()));
        assert_eq!(utc(1_609_954_736_001), "2021-01-06 17:38:56 +0000 UTC");
    }
}
