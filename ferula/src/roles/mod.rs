//! One file per role: flags in, a running role out.
pub(crate) mod alertmanager;
mod alertmanager_flags;
pub(crate) mod all_in_one;
pub(crate) mod amtool;
pub(crate) mod node_exporter;
pub(crate) mod promtool;
pub(crate) mod server;
mod server_flags;

use std::ffi::OsString;
use std::future::Future;
use std::process::ExitCode;

use ferula_net::listen::{ListenOptions, WebConfig};

use crate::flags::{self, Flag, Values};

/// `prometheus, version 3.14.0 (branch: ..., revision: ...)` and details, in the shape that tools parse.
pub(crate) fn version_text(program: &str) -> String {
    // Tools compare these numbers, so each role names the upstream release whose behaviour it follows.
    let server = ferula_server::info::BuildInfo::default().version;
    let version = match program {
        "prometheus" | "promtool" => server.as_str(),
        "alertmanager" | "amtool" => ferula_alertmanager::VERSION,
        "node_exporter" => ferula_exporters_node::VERSION,
        _ => env!("CARGO_PKG_VERSION"),
    };
    format!(
        "{program}, version {version} (branch: main, revision: ferula-{ours})\n  build user:       ferula\n  \
         build date:       \n  go version:       none (Rust)\n  platform:         {os}/{arch}\n  tags:             \n",
        ours = env!("CARGO_PKG_VERSION"),
        os = std::env::consts::OS,
        arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        },
    )
}

/// Why a role does not start.
pub(crate) enum Stop {
    /// The command line is wrong: exit code 2.
    Usage(String),
    /// Anything else: one line, exit code 1.
    Failed(String),
    /// `--help`, `--version`: what to print, exit code 0.
    Print(String),
}

impl From<String> for Stop {
    fn from(text: String) -> Stop {
        Stop::Failed(text)
    }
}

/// Parses a role's command line by its table.
pub(crate) fn parse(
    program: &'static str,
    about: &'static str,
    table: &[Flag],
    args: Vec<OsString>,
) -> Result<Values, Stop> {
    let command = flags::define(clap::Command::new(program).about(about).no_binary_name(true), table);
    Values::read(table, &matches(program, command, args)?).map_err(|e| Stop::Usage(format!("error: {e}")))
}

/// Runs clap on a role's command; `--help` and `--version` end here.
pub(crate) fn matches(program: &str, command: clap::Command, args: Vec<OsString>) -> Result<clap::ArgMatches, Stop> {
    let command = command
        .arg(clap::Arg::new("version").long("version").action(clap::ArgAction::SetTrue).help("Show the version."))
        .disable_version_flag(true);
    let matches = command.try_get_matches_from(args).map_err(|e| match e.kind() {
        clap::error::ErrorKind::DisplayHelp => Stop::Print(e.to_string()),
        _ => Stop::Usage(e.to_string()),
    })?;
    if matches.get_flag("version") {
        return Err(Stop::Print(version_text(program)));
    }
    Ok(matches)
}

/// The listener's options with what `--web.config.file` says; no file, no change.
pub(crate) fn with_web_config(file: &str, options: ListenOptions) -> Result<ListenOptions, Stop> {
    if file.is_empty() {
        return Ok(options);
    }
    let web = WebConfig::load(file).map_err(|e| Stop::Failed(e.to_string()))?;
    tracing::info!(file, tls = web.is_tls(), "Listening with the web configuration");
    Ok(ListenOptions { web: Some(web), ..options })
}

/// The name of this machine, for links to it; `localhost` when the system does not say.
pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_str().ok().filter(|n| !n.is_empty()).unwrap_or("localhost").to_owned()
}

/// Turns a role's outcome into the exit code, and prints its one line.
pub(crate) fn finish(program: &str, outcome: Result<(), Stop>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Print(text)) => {
            crate::print(&text);
            ExitCode::SUCCESS
        }
        Err(Stop::Usage(text)) => {
            eprintln!("{}", text.trim_end());
            ExitCode::from(2)
        }
        Err(Stop::Failed(text)) => {
            eprintln!("{program}: {text}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a role on a multi-threaded runtime.
pub(crate) fn block_on<F: Future<Output = Result<(), Stop>>>(role: F) -> Result<(), Stop> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("ferula-io")
        .build()
        .map_err(|e| Stop::Failed(format!("the runtime does not start: {e}")))?;
    let outcome = runtime.block_on(role);
    // Whatever still runs (a slow scrape, a client that does not read) does not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    outcome
}

/// Resolves at the first SIGINT or SIGTERM.
pub(crate) async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::error!("signals cannot be received; stop with kill -9");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => tracing::warn!(signal = "interrupt", "Received an OS signal, exiting gracefully..."),
        _ = terminate.recv() => tracing::warn!(signal = "terminated", "Received an OS signal, exiting gracefully..."),
    }
}
