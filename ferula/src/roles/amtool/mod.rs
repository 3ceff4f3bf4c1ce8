//! `ferula amtool`: amtool's commands, flags, output and exit codes, and what only our Alertmanager answers.
//!
//! Source followed: the help and the output of amtool 0.33; the suite `ferula/tests/amtool.rs` runs both side by side.
mod alerts;
mod args;
mod client;
mod config;
mod extras;
mod silences;
mod table;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use args::{Alert, Args, Cluster, Command, Config, Routes, Silence, Template};
use client::Client;

/// What a command failed with: one line after `amtool: error: `.
pub(super) type Outcome<T = ()> = Result<T, String>;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    #[default]
    Simple,
    Extended,
    Json,
}

/// What every command needs.
pub(super) struct Tool {
    client: Client,
    output: Output,
    date_format: String,
}

impl Tool {
    /// A time as `--date.format` wants it, in UTC.
    fn date(&self, text: &str) -> String {
        match text.parse::<jiff::Timestamp>() {
            Ok(t) => ferula_template::time::format(&t.to_zoned(jiff::tz::TimeZone::UTC), &self.date_format),
            Err(_) => text.to_owned(),
        }
    }
}

pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    match start(args) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("amtool: error: {reason}\n");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout)] // a tool's output
fn start(args: Vec<OsString>) -> Result<ExitCode, String> {
    use clap::error::ErrorKind;
    let args = match Args::try_parse_from(args::with_defaults(args)) {
        Ok(args) => args,
        Err(e) => match e.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                print!("{e}");
                return Ok(ExitCode::SUCCESS);
            }
            ErrorKind::DisplayVersion => {
                print!("{}", super::version_text("amtool"));
                return Ok(ExitCode::SUCCESS);
            }
            _ => {
                let text = e.to_string();
                let first = text.lines().next().unwrap_or("").trim_start_matches("error: ").to_owned();
                return Err(format!("{first}, try --help"));
            }
        },
    };
    if args.features.iter().any(|f| f == "classic-mode") {
        ferula_alertmanager::matcher::Mode::Classic.set();
    } else if args.features.iter().any(|f| f == "utf8-strict-mode") {
        ferula_alertmanager::matcher::Mode::Utf8.set();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    runtime.block_on(run(args))
}

async fn run(args: Args) -> Result<ExitCode, String> {
    let settings = args::Settings::read()?;
    let url = args.url.clone().or(settings.get("alertmanager.url"));
    let http = args.http_config.clone().or(settings.get("http.config.file").map(PathBuf::from));
    let output = match settings.get("output").filter(|_| args.output.is_none()) {
        Some(word) => <Output as clap::ValueEnum>::from_str(&word, true)
            .map_err(|_| format!("enum value must be one of simple,extended,json, got '{word}'"))?,
        None => args.output.unwrap_or_default(),
    };
    let tool = Tool {
        client: Client::new(url.as_deref().unwrap_or("http://localhost:9093/"), http.as_deref(), &args.timeout)?,
        output,
        date_format: args.date_format.or(settings.get("date.format")).unwrap_or("2006-01-02 15:04:05 MST".to_owned()),
    };
    let done = ExitCode::SUCCESS;
    match args.command {
        Command::Alert(Alert::Query(q)) => tool.query_alerts(q).await?,
        Command::Alert(Alert::Add(a)) => tool.add_alert(a).await?,
        Command::Alert(Alert::Explain { matchers }) => tool.explain(&matchers).await?,
        Command::Silence(Silence::Query(q)) => tool.query_silences(q).await?,
        Command::Silence(Silence::Add(a)) => tool.add_silence(a, &settings).await?,
        Command::Silence(Silence::Expire { ids }) => tool.expire_silences(&ids).await?,
        Command::Silence(Silence::Update(u)) => tool.update_silences(u).await?,
        Command::Silence(Silence::Import(i)) => tool.import_silences(i).await?,
        Command::CheckConfig { files } => config::check(&files)?,
        Command::Config(Config::Show) => tool.show_config().await?,
        Command::Config(Config::Routes(r)) => match r.command {
            Routes::Show => tool.show_routes(r.config_file.as_deref()).await?,
            Routes::Test(t) => return tool.test_routes(r.config_file.as_deref(), t).await,
        },
        Command::Cluster(Cluster::Show) => tool.show_cluster().await?,
        Command::Template(Template::Render(r)) => config::render(r)?,
        Command::Template(Template::Preview { text, html }) => tool.preview(&text, html).await?,
        Command::Receiver(args::Receiver::Test(t)) => return tool.test_receiver(t).await,
    }
    Ok(done)
}
