//! From the wire to the store: what one million scraped samples cost in CPU, memory and bytes written.
//!
//! `cargo run --release -p ferula-benches --example ingest ADDRESS TARGETS INTERVAL_S SECONDS` against anything that answers
//! `/x/t/N/metrics` at ADDRESS for every N below TARGETS; three intervals pass before it counts. Nothing is asserted.
use std::sync::Arc;
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::{Labels, SystemClock};
use ferula_scraper_scrape::config::{GlobalConfig, ScrapeConfig};
use ferula_scraper_scrape::{ScrapeManager, ScrapeOptions};
use ferula_tsdb::{Compression, Db, Options};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One number after `name` in a file below /proc/self.
fn proc_number(file: &str, name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with(name)).unwrap_or("");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(f64::NAN)
}

fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().ok_or("usage: ingest ADDRESS TARGETS INTERVAL_S SECONDS")?;
    let mut number = || args.next().and_then(|a| a.parse::<u64>().ok()).ok_or("a number is missing");
    let (targets, interval_s, seconds) = (number()?, number()?, number()?);
    let path =
        |i| format!("{{targets: ['{address}'], labels: {{__metrics_path__: /x/t/{i}/metrics, instance: 'node-{i}'}}}}");
    let list: Vec<String> = (0..targets).map(path).collect();
    let yaml = format!(
        "{{job_name: lab, scrape_interval: {interval_s}s, scrape_timeout: {interval_s}s, static_configs: [{}]}}",
        list.join(",")
    );
    let config: ScrapeConfig = ferula_yaml::from_str("", &yaml)?;
    let config = config.resolve(&GlobalConfig::default().resolve()?)?;
    let dir = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let registry = Registry::new();
        let options = Options { wal_compression: Compression::Zstd, ..Options::default() };
        let db = Db::open(dir.path(), options, Arc::new(ferula_fs::Disk), Arc::new(SystemClock), &registry)?;
        let company = std::env::var("COMPANY").ok().and_then(|c| c.parse().ok()).unwrap_or(8);
        let scrape = ScrapeOptions { company, ..ScrapeOptions::default() };
        let manager = ScrapeManager::new(scrape, db, Arc::new(SystemClock), &registry)?;
        manager.apply(vec![config], &Labels::empty())?;
        tokio::time::sleep(Duration::from_secs(3 * interval_s)).await;
        let count = || manager.targets().iter().flat_map(|p| &p.active).map(|t| t.series).sum::<u64>();
        let (cpu, written) = (cpu_seconds(), proc_number("io", "write_bytes"));
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let samples = count() as f64 * seconds as f64 / interval_s as f64;
        let (cpu, written) = (cpu_seconds() - cpu, proc_number("io", "write_bytes") - written);
        println!(
            "{samples:.0} samples: {:.3} s of CPU per million, {:.2} bytes written per sample, {:.0} MB resident",
            cpu / samples * 1e6,
            written / samples,
            proc_number("status", "VmRSS") / 1024.0
        );
        manager.stop().await;
        Ok(())
    })
}
