//! `ferula alertmanager`: Alertmanager's flags, one listener, reload on SIGHUP.
use std::ffi::OsString;
use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use ferula_alertmanager::{Alertmanager, ClusterOptions, Options};
use ferula_instrument::{Registry, register_process};
use ferula_model::SystemClock;
use ferula_net::listen::{ListenOptions, Listener};
use tokio::sync::watch;

use super::alertmanager_flags::FLAGS;
use super::{Stop, block_on, finish, stop_signal};
use crate::flags::Values;

const PROGRAM: &str = "alertmanager";

pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    finish(PROGRAM, start(args))
}

fn start(args: Vec<OsString>) -> Result<(), Stop> {
    let flags = super::parse(PROGRAM, "Routes, groups and delivers alerts.", FLAGS, args)?;
    crate::logging::install(flags.text("log.level"), flags.text("log.format")).map_err(Stop::Usage)?;
    block_on(async { run(open(options(&flags), Registry::new()).await?, stop_signal()).await })
}

fn options(flags: &Values) -> Options {
    let size = flags.int("silences.max-silence-size-bytes").max(flags.int("silences.max-per-silence-bytes"));
    let listen_addresses = flags.all("web.listen-address").to_vec();
    let external_url = match flags.text("web.external-url") {
        "" => {
            let port = listen_addresses.first().and_then(|a| a.rsplit_once(':')).map_or("9093", |(_, port)| port);
            format!("http://{}:{port}", super::hostname())
        }
        given => given.trim_end_matches('/').to_owned(),
    };
    let count = |name: &str| usize::try_from(flags.int(name)).unwrap_or(0);
    Options {
        config_file: PathBuf::from(flags.text("config.file")),
        storage_path: PathBuf::from(flags.text("storage.path")),
        retention_ms: flags.duration_ms("data.retention"),
        maintenance_interval_ms: flags.duration_ms("data.maintenance-interval"),
        silences_max: count("silences.max-silences"),
        silence_size_bytes_max: usize::try_from(size).unwrap_or(0),
        log_silences: flags.bool("log.silences"),
        alerts_gc_interval_ms: flags.duration_ms("alerts.gc-interval"),
        alerts_per_alertname_limit: count("alerts.per-alertname-limit"),
        dispatch_maintenance_interval_ms: flags.duration_ms("dispatch.maintenance-interval"),
        dispatch_start_delay_ms: flags.duration_ms("dispatch.start-delay"),
        listen_addresses,
        web_config_file: flags.text("web.config.file").to_owned(),
        external_url,
        route_prefix: flags.text("web.route-prefix").to_owned(),
        get_concurrency: count("web.get-concurrency"),
        timeout_ms: flags.duration_ms("web.timeout"),
        cluster: cluster_options(flags),
        instance: super::hostname(),
        features: flags.all("enable-feature").to_vec(),
        ..Options::default()
    }
}

fn cluster_options(flags: &Values) -> ClusterOptions {
    let ms = |name: &str| flags.duration_ms(&format!("cluster.{name}"));
    let text = |name: &str| flags.text(&format!("cluster.{name}")).to_owned();
    ClusterOptions {
        listen_address: text("listen-address"),
        advertise_address: text("advertise-address"),
        peers: flags.all("cluster.peer").to_vec(),
        peer_name: text("peer-name"),
        peer_timeout_ms: ms("peer-timeout"),
        peers_resolve_timeout_ms: ms("peers-resolve-timeout"),
        gossip_interval_ms: ms("gossip-interval"),
        pushpull_interval_ms: ms("pushpull-interval"),
        tcp_timeout_ms: ms("tcp-timeout"),
        probe_timeout_ms: ms("probe-timeout"),
        probe_interval_ms: ms("probe-interval"),
        settle_timeout_ms: ms("settle-timeout"),
        reconnect_interval_ms: ms("reconnect-interval"),
        reconnect_timeout_ms: ms("reconnect-timeout"),
        label: text("label"),
        tls_config_file: text("tls-config"),
    }
}

/// An Alertmanager with its address bound and its state read; nothing is sent yet.
pub(crate) struct Ready {
    pub alertmanager: Arc<Alertmanager>,
    listener: Listener,
}

/// Binds and reads everything that can fail, in a process of its own or beside other roles.
pub(crate) async fn open(options: Options, registry: Registry) -> Result<Ready, Stop> {
    register_process(&registry);
    let listen = super::with_web_config(&options.web_config_file, ListenOptions::default())?;
    let listener = Listener::bind(&options.listen_addresses, listen).await.map_err(|e| e.to_string())?;
    let alertmanager = Alertmanager::new(options, Arc::new(SystemClock), registry).map_err(|e| e.to_string())?;
    alertmanager.join().await.map_err(|e| e.to_string())?;
    Ok(Ready { alertmanager, listener })
}

/// Runs it until `shutdown`.
pub(crate) async fn run(ready: Ready, shutdown: impl Future<Output = ()>) -> Result<(), Stop> {
    let Ready { alertmanager, listener } = ready;
    for address in listener.local_addrs() {
        tracing::info!(address = %address, "Listening on");
    }
    let (stop, stopped) = watch::channel(false);
    let wait = |mut stopped: watch::Receiver<bool>| async move {
        // A dropped sender also means: stop.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let reloads = tokio::spawn(reload_on_hangup(alertmanager.clone()));
    let serving = tokio::spawn(listener.serve(alertmanager.router(), wait(stopped.clone())));
    let sending = {
        let alertmanager = alertmanager.clone();
        let stopped = wait(stopped);
        tokio::spawn(async move { alertmanager.run(stopped).await })
    };
    shutdown.await;
    let _ = stop.send(true);
    reloads.abort();
    for task in [serving, sending] {
        if let Err(e) = task.await {
            tracing::error!(err = %e, "a task of the alertmanager failed");
        }
    }
    Ok(())
}

async fn reload_on_hangup(alertmanager: Arc<Alertmanager>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        match alertmanager.reload() {
            Ok(()) => tracing::info!("Completed loading of configuration file"),
            Err(e) => tracing::error!(err = %e, "Loading configuration file failed"),
        }
    }
}
