//! `ferula server`: Prometheus's flags turned into the server's options.
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::SystemClock;
use ferula_net::listen::ListenOptions;
use ferula_promql_engine::EngineOptions;
use ferula_promql_parser::ParseOptions;
use ferula_server::app::WebOptions;
use ferula_server::config::{LoadOptions, Source};
use ferula_server::info::BuildInfo;
use ferula_server::notifier::NotifierOptions;
use ferula_server::{ServerOptions, StartTimes, run};

use super::server_flags::{ABSENT_FEATURES, FEATURES, FLAGS};
use super::{Stop, block_on, finish, stop_signal};
use crate::flags::Values;

const PROGRAM: &str = "prometheus";

/// Retention when neither a time nor a size is set.
const DEFAULT_RETENTION_MS: i64 = 15 * 24 * 3_600_000;

pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    finish(PROGRAM, start(args))
}

fn start(args: Vec<OsString>) -> Result<(), Stop> {
    let flags = super::parse(PROGRAM, "Scrapes, stores, answers queries, evaluates rules.", FLAGS, args)?;
    crate::logging::install(flags.text("log.level"), flags.text("log.format")).map_err(Stop::Usage)?;
    if flags.bool("agent") {
        return Err(Stop::Failed("--agent: known, not built in yet".to_owned()));
    }
    warn_of_features(&flags);
    let config = Source::File(PathBuf::from(flags.text("config.file")));
    let options = options(&flags, config)?;
    block_on(async {
        let listening = |addresses: &[std::net::SocketAddr]| {
            for address in addresses {
                tracing::info!(address = %address, "Start listening for connections");
            }
        };
        run(options, Registry::new(), listening, stop_signal()).await.map_err(|e| Stop::Failed(e.to_string()))
    })
}

/// A name nobody knows only warns, as upstream: a typo must not keep monitoring from starting. So does one that promises
/// what is not there.
fn warn_of_features(flags: &Values) {
    for feature in flags.all("enable-feature").iter().filter(|f| !f.is_empty()) {
        if ABSENT_FEATURES.contains(&feature.as_str()) {
            tracing::warn!(option = %feature, "Option of --enable-feature is known, not built in yet: it has no effect");
        } else if !FEATURES.contains(&feature.as_str()) {
            tracing::warn!(option = %feature, "Unknown option for --enable-feature");
        }
    }
}

/// The flags of an empty command line: what all-in-one mode starts from.
pub(super) fn default_flags() -> Result<Values, Stop> {
    super::parse(PROGRAM, "", FLAGS, Vec::new())
}

pub(super) fn options(flags: &Values, config: Source) -> Result<ServerOptions, Stop> {
    let has = |name: &str| flags.all("enable-feature").iter().any(|f| f == name);
    let count = |name: &str| usize::try_from(flags.int(name)).unwrap_or(0);
    let usage = |text: String| Stop::Usage(format!("error: {text}"));
    let external_url = external_url(flags);
    let prefix = match flags.text("web.route-prefix") {
        "" => url::Url::parse(&external_url)
            .map(|u| u.path().to_owned())
            .map_err(|e| usage(format!("--web.external-url={external_url}: {e}")))?,
        given => given.to_owned(),
    };
    let prefix = prefix.trim_matches('/');
    let listen = ListenOptions {
        idle_timeout: Duration::from_millis(flags.duration_ms("web.read-timeout").unsigned_abs()),
        connections_max: count("web.max-connections").max(1),
        ..ListenOptions::default()
    };
    let listen = super::with_web_config(flags.text("web.config.file"), listen)?;
    Ok(ServerOptions {
        config,
        load: LoadOptions {
            prefers_protobuf: start_times(flags).as_zeros || start_times(flags).with_samples,
            extra_scrape_metrics: has("extra-scrape-metrics"),
            ..LoadOptions::default()
        },
        auto_reload: (flags.bool("config.auto-reload") || has("auto-reload-config"))
            .then(|| Duration::from_millis(flags.duration_ms("config.auto-reload-interval").unsigned_abs())),
        storage_path: PathBuf::from(flags.text("storage.tsdb.path")),
        storage: storage_options(flags).map_err(usage)?,
        fs: Arc::new(ferula_fs::Disk),
        clock: Arc::new(SystemClock),
        listen_addresses: flags.all("web.listen-address").to_vec(),
        listen,
        web: WebOptions {
            route_prefix: if prefix.is_empty() { String::new() } else { format!("/{prefix}") },
            external_url,
            page_title: flags.text("web.page-title").to_owned(),
            enable_lifecycle: flags.bool("web.enable-lifecycle"),
            enable_admin_api: flags.bool("web.enable-admin-api"),
            enable_remote_write: flags.bool("web.enable-remote-write-receiver") || has("remote-write-receiver"),
            cors_origin: Some(
                ferula_regex::Regex::anchored(flags.text("web.cors.origin"))
                    .map_err(|e| usage(format!("--web.cors.origin: {e}")))?,
            ),
            flags: flags.to_map(),
            build: BuildInfo::default(),
        },
        engine: EngineOptions {
            samples_max: flags.int("query.max-samples").unsigned_abs(),
            timeout: Duration::from_millis(flags.duration_ms("query.timeout").unsigned_abs()),
            lookback_ms: flags.duration_ms("query.lookback-delta"),
            delayed_name_removal: has("promql-delayed-name-removal"),
            type_and_unit_labels: has("type-and-unit-labels"),
            start_timestamps: has("use-start-timestamps"),
            ..EngineOptions::default()
        },
        parse: ParseOptions {
            experimental_functions: has("promql-experimental-functions"),
            extended_range_selectors: has("promql-extended-range-selectors"),
            fill_modifiers: has("promql-binop-fill-modifiers"),
            ..ParseOptions::default()
        },
        query_concurrency: count("query.max-concurrency").max(1),
        per_step_stats: has("promql-per-step-stats"),
        memory: ferula_model::Budget::root("process", u64::MAX),
        query_memory_bytes_max: query_memory_bytes(),
        remote_write: ferula_server::ingest::remote_write::Limits {
            accepted: flags
                .all("web.remote-write-receiver.accepted-protobuf-messages")
                .iter()
                .map(|name| name.parse())
                .collect::<Result<_, String>>()
                .map_err(|e| usage(format!("--web.remote-write-receiver.accepted-protobuf-messages: {e}")))?,
            ..Default::default()
        },
        notifier: NotifierOptions {
            queue_capacity: count("alertmanager.notification-queue-capacity"),
            batch_max: count("alertmanager.notification-batch-size").max(1),
            seed: fastrand::u64(..),
            ..NotifierOptions::default()
        },
        notifier_drain: flags.bool("alertmanager.drain-notification-queue-on-shutdown"),
        scrape: ferula_server::ScrapeOptions {
            host: super::hostname(),
            start_times: start_times(flags),
            passes_metadata: has("metadata-wal-records"),
            type_and_unit_labels: has("type-and-unit-labels"),
            ..Default::default()
        },
        rules: ferula_server::RuleOptions {
            resend_delay_ms: flags.duration_ms("rules.alert.resend-delay"),
            outage_tolerance_ms: flags.duration_ms("rules.alert.for-outage-tolerance"),
            for_grace_ms: flags.duration_ms("rules.alert.for-grace-period"),
            concurrent_rules: if has("concurrent-rule-eval") { count("rules.max-concurrent-evals").max(1) } else { 1 },
            ..Default::default()
        },
        local_alertmanagers: None,
    })
}

/// What scraping does with the start times that targets expose.
fn start_times(flags: &Values) -> StartTimes {
    let has = |name: &str| flags.all("enable-feature").iter().any(|f| f == name);
    StartTimes { as_zeros: has("created-timestamp-zero-ingestion"), with_samples: has("st-storage") }
}

/// As given, or this machine's name and the port we listen on; without a slash at the end.
fn external_url(flags: &Values) -> String {
    let given = flags.text("web.external-url");
    if !given.is_empty() {
        let with_scheme = if given.contains("://") { given.to_owned() } else { format!("http://{given}") };
        return with_scheme.trim_end_matches('/').to_owned();
    }
    let first = flags.all("web.listen-address").first().map_or("", String::as_str);
    let port = first.rsplit_once(':').map_or("9090", |(_, port)| port);
    format!("http://{}:{port}", super::hostname())
}

fn storage_options(flags: &Values) -> Result<ferula_tsdb::Options, String> {
    use ferula_tsdb::wal::Compression;
    let compression = match flags.text("storage.tsdb.wal-compression-type") {
        _ if !flags.bool("storage.tsdb.wal-compression") => Compression::None,
        "snappy" => Compression::Snappy,
        "zstd" => Compression::Zstd,
        other => return Err(format!("--storage.tsdb.wal-compression-type: must be snappy or zstd; got {other:?}")),
    };
    let features = flags.all("enable-feature");
    let has = |name: &str| features.iter().any(|f| f == name);
    if has("st-storage") && !has("xor2-encoding") {
        return Err(
            "--enable-feature=st-storage: start timestamps need XOR2 chunks, enable xor2-encoding too".to_owned()
        );
    }
    let retention_ms = flags.duration_ms("storage.tsdb.retention.time");
    let retention_size_bytes = flags.size_bytes("storage.tsdb.retention.size");
    Ok(ferula_tsdb::Options {
        retention_ms: if retention_ms == 0 && retention_size_bytes == 0 { DEFAULT_RETENTION_MS } else { retention_ms },
        retention_size_bytes,
        strict_recovery: flags.bool("storage.strict-recovery"),
        delay_compact_file: Some(flags.text("storage.tsdb.delay-compact-file.path"))
            .filter(|p| !p.is_empty())
            .map(PathBuf::from),
        wal_segment_size_bytes: flags.size_bytes("storage.tsdb.wal-segment-size"),
        wal_compression: compression,
        block_range_ms: flags.duration_ms("storage.tsdb.min-block-duration"),
        max_block_range_ms: flags.duration_ms("storage.tsdb.max-block-duration"),
        samples_per_chunk: u16::try_from(flags.int("storage.tsdb.samples-per-chunk")).unwrap_or(120),
        // Upstream's default; the feature flag switches exemplars on.
        max_exemplars: if has("exemplar-storage") { 100_000 } else { 0 },
        start_times: has("st-storage"),
        xor2: has("xor2-encoding"),
        histogram_starts: has("histograms-st-encoding"),
        metadata_records: has("metadata-wal-records"),
        ..ferula_tsdb::Options::default()
    })
}

/// A third of the machine's memory for all queries together: the rest is the head's and the page cache's.
fn query_memory_bytes() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total_kib =
        meminfo.lines().find_map(|l| l.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    total_kib.map_or(2 << 30, |kib| kib * 1024 / 3)
}
