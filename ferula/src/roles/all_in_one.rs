//! `ferula` without arguments: server, Alertmanager and node exporter in one process, with a built-in configuration.
use std::ffi::OsString;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Weak};

use ferula_alertmanager::{Alertmanager, PostableAlert};
use ferula_instrument::Registry;
use ferula_net::listen::{ListenOptions, Listener};
use ferula_server::config::Source;
use ferula_server::notifier::{LocalTransports, SendError, Transport};
use futures::future::BoxFuture;
use tokio::sync::watch;

use super::{Stop, block_on, finish, stop_signal};
use crate::flags::{Flag, Kind, Values};

const PROGRAM: &str = "ferula";

const FLAGS: &[Flag] = &[
    Flag::new("data.path", Kind::Text, "data", "Folder of all data and of the built-in configuration."),
    Flag::new("server.listen-address", Kind::Text, "0.0.0.0:9090", "Address of the server."),
    Flag::new("alertmanager.listen-address", Kind::Text, "0.0.0.0:9093", "Address of the Alertmanager."),
    Flag::new("node-exporter.listen-address", Kind::Text, "0.0.0.0:9100", "Address of the node exporter."),
    Flag::new("log.level", Kind::Text, "warn", "debug, info, warn or error."),
    Flag::new("log.format", Kind::Text, "logfmt", "logfmt or json."),
];

const PROMETHEUS_YML: &str = include_str!("../../builtin/prometheus.yml");
const RULES_YML: &str = include_str!("../../builtin/rules.yml");
const ALERTMANAGER_YML: &str = include_str!("../../builtin/alertmanager.yml");

pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    finish(PROGRAM, start(args))
}

fn start(args: Vec<OsString>) -> Result<(), Stop> {
    let flags = super::parse(PROGRAM, "Everything on this machine, with a built-in configuration.", FLAGS, args)?;
    crate::logging::install(flags.text("log.level"), flags.text("log.format")).map_err(Stop::Usage)?;
    let data = PathBuf::from(flags.text("data.path"));
    let config = write_configuration(&data, &flags)?;
    block_on(run(flags, data, config))
}

/// Writes the built-in configuration, with the addresses in force, where a user can read and copy it.
fn write_configuration(data: &Path, flags: &Values) -> Result<PathBuf, Stop> {
    let dir = data.join("config");
    let local = |flag: &str| {
        let port = flags.text(flag).rsplit_once(':').map_or("", |(_, port)| port);
        format!("127.0.0.1:{port}")
    };
    let prometheus = PROMETHEUS_YML
        .replace("127.0.0.1:9090", &local("server.listen-address"))
        .replace("127.0.0.1:9093", &local("alertmanager.listen-address"))
        .replace("127.0.0.1:9100", &local("node-exporter.listen-address"));
    let files =
        [("prometheus.yml", prometheus.as_str()), ("rules.yml", RULES_YML), ("alertmanager.yml", ALERTMANAGER_YML)];
    let write = || {
        std::fs::create_dir_all(&dir)?;
        files.iter().try_for_each(|(name, text)| std::fs::write(dir.join(name), text))
    };
    write().map_err(|e| Stop::Failed(format!("{}: {e}", dir.display())))?;
    Ok(dir)
}

async fn run(flags: Values, data: PathBuf, config: PathBuf) -> Result<(), Stop> {
    let (stop, stopped) = watch::channel(false);
    let wait = || {
        let mut stopped = stopped.clone();
        async move {
            let _ = stopped.wait_for(|stop| *stop).await; // a dropped sender also means: stop
        }
    };
    let mut server =
        super::server::options(&super::server::default_flags()?, Source::File(config.join("prometheus.yml")))?;
    server.storage_path = data.clone();
    server.listen_addresses = vec![flags.text("server.listen-address").to_owned()];
    server.web.external_url = format!("http://{}:{}", super::hostname(), port(&flags, "server.listen-address"));
    server.web.enable_lifecycle = true;
    server.scrape.first_scrape_at_once = true; // someone is waiting for the first sample
    let alertmanager = ferula_alertmanager::Options {
        config_file: config.join("alertmanager.yml"),
        storage_path: data.join("alertmanager"),
        listen_addresses: vec![flags.text("alertmanager.listen-address").to_owned()],
        external_url: format!("http://{}:{}", super::hostname(), port(&flags, "alertmanager.listen-address")),
        ..ferula_alertmanager::Options::default()
    };
    let alertmanager = super::alertmanager::open(alertmanager, Registry::new()).await?;
    server.local_alertmanagers =
        Some(local_transports(&alertmanager.alertmanager, port(&flags, "alertmanager.listen-address")));
    // The exporter and the Alertmanager first, so that the server's first scrapes find them.
    let node = node_exporter(&flags).await?;
    let tasks = [
        tokio::spawn(node(Box::pin(wait()))),
        tokio::spawn(super::alertmanager::run(alertmanager, wait())),
        tokio::spawn({
            let shutdown = wait();
            async move {
                ferula_server::run(server, Registry::new(), |_| {}, shutdown)
                    .await
                    .map_err(|e| Stop::Failed(e.to_string()))
            }
        }),
    ];
    crate::print(&welcome(&flags, &config));
    supervise(tasks, stop).await
}

/// The server's way to the Alertmanager of this process, taken where the configuration names its address on this machine.
fn local_transports(alertmanager: &Arc<Alertmanager>, port: &str) -> LocalTransports {
    let (weak, port) = (Arc::downgrade(alertmanager), port.parse::<u16>().ok());
    Arc::new(move |url: &url::Url| {
        let is_here = matches!(url.host_str(), Some("127.0.0.1" | "localhost" | "[::1]"));
        let is_it =
            is_here && url.scheme() == "http" && url.port_or_known_default() == port && url.path() == "/api/v2/alerts";
        is_it.then(|| Arc::new(InProcess { url: url.to_string(), alertmanager: weak.clone() }) as Arc<dyn Transport>)
    })
}

/// Hands alerts over as a call: no socket, no JSON. Queue, relabelling, durability and metrics are the notifier's as
/// for any other Alertmanager, which is also why the URL stays what the configuration says.
struct InProcess {
    url: String,
    alertmanager: Weak<Alertmanager>,
}

impl Transport for InProcess {
    fn url(&self) -> &str {
        &self.url
    }
    fn send(&self, batch: Vec<ferula_server::notifier::Alert>) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            let Some(alertmanager) = self.alertmanager.upgrade() else {
                return Err(SendError::Failed("the Alertmanager of this process has stopped".to_owned()));
            };
            let posted = batch.into_iter().map(|a| PostableAlert {
                labels: a.labels,
                annotations: a.annotations,
                starts_at_ms: Some(a.starts_at_ms),
                ends_at_ms: (a.ends_at_ms != 0).then_some(a.ends_at_ms),
                generator_url: a.generator_url,
            });
            let inserted = alertmanager.post_alerts(posted.collect());
            let reasons: Vec<String> = inserted.invalid.iter().map(ToString::to_string).collect();
            // As over HTTP: the valid ones were taken, the others are hopeless.
            if reasons.is_empty() { Ok(()) } else { Err(SendError::Rejected(reasons.join("; "))) }
        })
    }
}

type Serving = std::pin::Pin<Box<dyn Future<Output = Result<(), Stop>> + Send>>;

/// Binds the exporter's port now, so that a taken one is an error before anything runs.
async fn node_exporter(
    flags: &Values,
) -> Result<impl FnOnce(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>) -> Serving, Stop> {
    let router = ferula_exporters_node::router(ferula_exporters_node::Flags::default(), Registry::new())
        .map_err(|e| Stop::Failed(e.to_string()))?;
    let address = flags.text("node-exporter.listen-address").to_owned();
    let listener = Listener::bind(&[address], ListenOptions::default()).await.map_err(|e| e.to_string())?;
    Ok(move |shutdown: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| -> Serving {
        Box::pin(async move {
            listener.serve(router, shutdown).await;
            Ok(())
        })
    })
}

/// Waits for the signal or for the first role that ends, then stops the others.
async fn supervise<const N: usize>(
    tasks: [tokio::task::JoinHandle<Result<(), Stop>>; N],
    stop: watch::Sender<bool>,
) -> Result<(), Stop> {
    let mut tasks: Vec<_> = tasks.into_iter().collect();
    let first = tokio::select! {
        () = stop_signal() => None,
        (ended, at, _) = futures::future::select_all(tasks.iter_mut()) => Some((ended, at)),
    };
    let _ = stop.send(true); // whoever still runs
    let mut outcome = Ok(());
    if let Some((ended, at)) = first {
        outcome = flatten(ended);
        drop(tasks.remove(at));
    }
    for task in tasks {
        let ended = flatten(task.await);
        outcome = outcome.and(ended);
    }
    outcome
}

fn flatten(ended: Result<Result<(), Stop>, tokio::task::JoinError>) -> Result<(), Stop> {
    ended.unwrap_or_else(|e| Err(Stop::Failed(format!("a role failed: {e}"))))
}

fn port<'a>(flags: &'a Values, flag: &str) -> &'a str {
    flags.text(flag).rsplit_once(':').map_or("", |(_, port)| port)
}

fn welcome(flags: &Values, config: &Path) -> String {
    let url = |flag: &str| format!("http://localhost:{}", port(flags, flag));
    let server = url("server.listen-address");
    format!(
        "Ferula watches this machine.\n\n  \
         server          {server}\n  \
         alertmanager    {}\n  \
         node exporter   {}/metrics\n\n  \
         configuration   {server}/api/v1/status/config  (files: {})\n  \
         data            {}\n\n\
         Ctrl-C stops it.",
        url("alertmanager.listen-address"),
        url("node-exporter.listen-address"),
        config.display(),
        flags.text("data.path"),
    )
}
