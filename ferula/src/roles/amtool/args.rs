//! amtool's command line and its configuration files.
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};

use super::Output;

#[derive(Parser)]
#[command(
    name = "amtool",
    about = "View and modify the current Alertmanager state.",
    version,
    arg_required_else_help = true
)]
pub(super) struct Args {
    /// Format of dates, as Go writes layouts
    #[arg(long = "date.format", global = true, value_name = "LAYOUT")]
    pub date_format: Option<String>,
    /// Verbose running information
    #[arg(short, long, global = true)]
    #[allow(dead_code, reason = "accepted for compatibility")]
    pub verbose: bool,
    /// Alertmanager to talk to
    #[arg(long = "alertmanager.url", global = true)]
    pub url: Option<String>,
    /// simple, extended or json
    #[arg(short, long, global = true)]
    pub output: Option<Output>,
    /// Timeout of the command
    #[arg(long, global = true, default_value = "30s")]
    pub timeout: String,
    /// HTTP client configuration file
    #[arg(long = "http.config.file", global = true)]
    pub http_config: Option<PathBuf>,
    #[arg(long = "version-check", global = true, hide = true)]
    #[allow(dead_code, reason = "accepted for compatibility")]
    pub version_check: bool,
    #[arg(long = "no-version-check", global = true, hide = true)]
    #[allow(dead_code, reason = "accepted for compatibility")]
    pub no_version_check: bool,
    /// Experimental features, comma separated
    #[arg(long = "enable-feature", global = true, value_delimiter = ',')]
    pub features: Vec<String>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Alerts: query (the default), add, explain
    #[command(subcommand)]
    Alert(Alert),
    /// Silences: query (the default), add, expire, update, import
    #[command(subcommand)]
    Silence(Silence),
    /// Validate Alertmanager configuration files
    CheckConfig { files: Vec<PathBuf> },
    /// The configuration: show (the default), routes
    #[command(subcommand)]
    Config(Config),
    /// The cluster: show (the default)
    #[command(subcommand)]
    Cluster(Cluster),
    /// Templates: render, preview
    #[command(subcommand)]
    Template(Template),
    /// Receivers: test (ours)
    #[command(subcommand)]
    Receiver(Receiver),
}

#[derive(Subcommand)]
pub(super) enum Alert {
    /// View and search through current alerts
    Query(AlertQuery),
    /// Add a new alert
    Add(AlertAdd),
    /// Why an alert is told or not, and what became of its notifications (ours)
    Explain { matchers: Vec<String> },
}

#[derive(clap::Args)]
pub(super) struct AlertQuery {
    /// Show inhibited alerts
    #[arg(short, long)]
    pub inhibited: bool,
    /// Show silenced alerts
    #[arg(short, long)]
    pub silenced: bool,
    /// Show active alerts
    #[arg(short, long)]
    pub active: bool,
    /// Show unprocessed alerts
    #[arg(short, long)]
    pub unprocessed: bool,
    /// Show alerts matching receiver (a regular expression)
    #[arg(short, long)]
    pub receiver: Option<String>,
    pub matchers: Vec<String>,
}

#[derive(clap::Args)]
pub(super) struct AlertAdd {
    /// URL of the source that generated the alert
    #[arg(long)]
    pub generator_url: Option<String>,
    /// When the alert starts, as in RFC 3339
    #[arg(long)]
    pub start: Option<String>,
    /// When the alert ends, as in RFC 3339
    #[arg(long)]
    pub end: Option<String>,
    /// An annotation of the alert
    #[arg(long)]
    pub annotation: Vec<String>,
    pub labels: Vec<String>,
}

#[derive(Subcommand)]
pub(super) enum Silence {
    /// Query silences
    Query(SilenceQuery),
    /// Add a silence
    Add(SilenceAdd),
    /// Expire silences
    Expire { ids: Vec<String> },
    /// Update silences
    Update(SilenceUpdate),
    /// Import silences from a JSON file or standard input
    Import(SilenceImport),
}

#[derive(clap::Args)]
pub(super) struct SilenceQuery {
    /// Show expired silences instead of active
    #[arg(long)]
    pub expired: bool,
    /// Only show silence ids
    #[arg(short, long)]
    pub quiet: bool,
    /// Show silences of this creator
    #[arg(long)]
    pub created_by: Option<String>,
    /// Get a single silence by its id
    #[arg(long)]
    pub id: Option<String>,
    /// Show silences that will expire, or have expired, within a duration
    #[arg(long)]
    pub within: Option<String>,
    pub matchers: Vec<String>,
}

#[derive(clap::Args)]
pub(super) struct SilenceAdd {
    /// Who creates it
    #[arg(short, long)]
    pub author: Option<String>,
    /// How long it lasts
    #[arg(short, long, default_value = "1h")]
    pub duration: String,
    /// When it starts, as in RFC 3339
    #[arg(long)]
    pub start: Option<String>,
    /// When it ends, as in RFC 3339; rules over the duration
    #[arg(long)]
    pub end: Option<String>,
    /// What it is for
    #[arg(short, long, default_value = "")]
    pub comment: String,
    /// An annotation of the silence
    #[arg(long)]
    pub annotation: Vec<String>,
    pub matchers: Vec<String>,
}

#[derive(clap::Args)]
pub(super) struct SilenceUpdate {
    /// Only show silence ids
    #[arg(short, long)]
    pub quiet: bool,
    /// How long it lasts
    #[arg(short, long)]
    pub duration: Option<String>,
    /// When it starts, as in RFC 3339
    #[arg(long)]
    pub start: Option<String>,
    /// When it ends, as in RFC 3339; rules over the duration
    #[arg(long)]
    pub end: Option<String>,
    /// What it is for
    #[arg(short, long)]
    pub comment: Option<String>,
    pub ids: Vec<String>,
}

#[derive(clap::Args)]
pub(super) struct SilenceImport {
    /// Add new silences even if they exist
    #[arg(short, long)]
    pub force: bool,
    /// Accepted for compatibility
    #[arg(short, long = "worker", default_value_t = 8)]
    #[allow(dead_code, reason = "one after the other is fast enough")]
    pub worker: u32,
    pub file: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(super) enum Config {
    /// View the current configuration
    Show,
    /// The routing tree: show (the default), test
    Routes(RoutesArgs),
}

#[derive(clap::Args)]
pub(super) struct RoutesArgs {
    /// Configuration file, instead of the Alertmanager's
    #[arg(long = "config.file", global = true)]
    pub config_file: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Routes,
}

#[derive(Subcommand)]
pub(super) enum Routes {
    /// Print the routing tree
    Show,
    /// Which receivers an alert with given labels goes to
    Test(RoutesTest),
}

#[derive(clap::Args)]
pub(super) struct RoutesTest {
    /// Receivers it should go to, comma separated
    #[arg(long = "verify.receivers", default_value = "")]
    pub verify: String,
    /// Print the matching routes
    #[arg(long)]
    pub tree: bool,
    pub labels: Vec<String>,
}

#[derive(Subcommand)]
pub(super) enum Cluster {
    /// View cluster status and peers
    Show,
}

#[derive(Subcommand)]
pub(super) enum Template {
    /// Render a text with template files, without a server
    Render(TemplateRender),
    /// Render a text as the running Alertmanager would (ours)
    Preview {
        #[arg(long = "template.text")]
        text: String,
        /// Escape as for e-mail
        #[arg(long)]
        html: bool,
    },
}

#[derive(clap::Args)]
pub(super) struct TemplateRender {
    /// Paths of template files
    #[arg(long = "template.glob", required = true)]
    pub glob: Vec<String>,
    /// The text to render
    #[arg(long = "template.text")]
    pub text: String,
    /// text or html
    #[arg(long = "template.type", default_value = "text")]
    pub kind: String,
    /// JSON of the data, as a webhook gets it
    #[arg(long = "template.data")]
    pub data: Option<PathBuf>,
}

#[derive(Subcommand)]
pub(super) enum Receiver {
    /// Send a test notification through every integration of a receiver
    Test(ReceiverTest),
}

#[derive(clap::Args)]
pub(super) struct ReceiverTest {
    pub receiver: String,
    /// An annotation of the test alert
    #[arg(long)]
    pub annotation: Vec<String>,
    /// Tell of its end instead
    #[arg(long)]
    pub resolved: bool,
    pub labels: Vec<String>,
}

/// Commands whose subcommand may be left out.
const DEFAULTS: &[(&[&str], &str, &[&str])] = &[
    (&["alert"], "query", &["query", "add", "explain"]),
    (&["silence"], "query", &["query", "add", "expire", "update", "import"]),
    (&["config"], "show", &["show", "routes"]),
    (&["config", "routes"], "show", &["show", "test"]),
    (&["cluster"], "show", &["show"]),
];
const FLAGS_WITH_VALUE: &[&str] = &[
    "--date.format",
    "--alertmanager.url",
    "-o",
    "--output",
    "--timeout",
    "--http.config.file",
    "--enable-feature",
    "--config.file",
];

/// The arguments with a program name before and default subcommands filled in.
pub(super) fn with_defaults(args: Vec<OsString>) -> Vec<OsString> {
    let mut out: Vec<OsString> = vec!["amtool".into()];
    let (mut path, mut is_value): (Vec<String>, bool) = (Vec::new(), false);
    let mut open = true;
    let missing = |path: &[String], next: Option<&str>| {
        let (_, default, all) = DEFAULTS.iter().find(|(p, ..)| p.iter().eq(path.iter()))?;
        let is_given = next.is_some_and(|n| all.contains(&n) || ["-h", "--help", "help"].contains(&n));
        (!is_given).then_some(*default)
    };
    for arg in args {
        let text = arg.to_string_lossy().into_owned();
        if open && !is_value {
            let is_flag = text.starts_with('-') && !["-h", "--help"].contains(&text.as_str());
            let is_global = FLAGS_WITH_VALUE.iter().any(|f| text == *f || text.starts_with(&format!("{f}=")));
            if is_global {
                is_value = !text.contains('=');
                out.push(arg);
                continue;
            }
            if let Some(default) = missing(&path, Some(&text)) {
                out.push(default.into());
                open = false;
            } else if is_flag || path.len() >= 3 {
                open = is_flag && path.is_empty();
            } else {
                path.push(text);
            }
        }
        is_value = false;
        out.push(arg);
    }
    if open {
        out.extend(missing(&path, None).map(OsString::from));
    }
    out
}

/// Flags set in configuration files: the user's before the machine's.
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(super) fn read() -> Result<Settings, String> {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let users = ["amtool/config.yml", "prometheus/amtool.yml"];
        let users = home.iter().flat_map(|h| users.map(|f| h.join(".config").join(f)));
        let machines = ["/etc/amtool/config.yml", "/etc/prometheus/amtool.yml"].map(PathBuf::from);
        let mut all = BTreeMap::new();
        for file in users.chain(machines) {
            let Ok(text) = std::fs::read_to_string(&file) else { continue };
            for (name, value) in parse(&file, &text)? {
                all.entry(name).or_insert(value);
            }
        }
        Ok(Settings(all))
    }
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

fn parse(file: &Path, text: &str) -> Result<BTreeMap<String, String>, String> {
    let map: BTreeMap<String, serde_json::Value> =
        ferula_yaml::from_str(&file.display().to_string(), text).map_err(|e| e.to_string())?;
    let text = |v: serde_json::Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    Ok(map.into_iter().map(|(name, value)| (name, text(value))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subcommands_may_be_left_out() {
        for (given, want) in [
            ("alert", "amtool alert query"),
            ("alert foo a=b", "amtool alert query foo a=b"),
            ("-o json alert add x", "amtool -o json alert add x"),
            ("alert -s", "amtool alert query -s"),
            ("alert -o json foo", "amtool alert -o json query foo"),
            ("config routes", "amtool config routes show"),
            ("config routes --config.file=x test a=b", "amtool config routes --config.file=x test a=b"),
            ("config", "amtool config show"),
            ("silence add query", "amtool silence add query"),
            ("check-config a b c d", "amtool check-config a b c d"),
            ("cluster --help", "amtool cluster --help"),
        ] {
            let got = with_defaults(given.split(' ').map(OsString::from).collect());
            let got: Vec<_> = got.iter().map(|a| a.to_str().unwrap()).collect();
            assert_eq!(got.join(" "), want);
        }
    }

    #[test]
    fn settings_are_words_of_yaml() {
        let got = parse(Path::new("c"), "alertmanager.url: http://x\ncomment_required: false\noutput: json\n").unwrap();
        assert_eq!((got["alertmanager.url"].as_str(), got["comment_required"].as_str()), ("http://x", "false"));
    }
}
