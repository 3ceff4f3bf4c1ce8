//! From a file, or a text that is built in, to a checked configuration and the files it names.
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferula_scraper_scrape::config::{GlobalConfig, ScrapeConfig};
use ferula_yaml::Error;
use serde::Deserialize;

use super::{Config, Problem, environment, glob, locate, remote};

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    File(PathBuf),
    /// Built in: a name for errors, the text, and the directory its relative paths start from.
    Text {
        name: String,
        text: String,
        directory: PathBuf,
    },
}

impl Source {
    fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Text { name, .. } => name.clone(),
        }
    }
    fn directory(&self) -> PathBuf {
        match self {
            Source::File(path) => path.parent().map(Path::to_path_buf).unwrap_or_default(),
            Source::Text { directory, .. } => directory.clone(),
        }
    }
    fn text(&self) -> Result<String, Error> {
        match self {
            Source::File(path) => read(path),
            Source::Text { text, .. } => Ok(text.clone()),
        }
    }
}

/// Looks a variable up.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What reading depends on besides the files.
#[derive(Clone)]
pub struct LoadOptions {
    /// Values of `$NAME` in external labels.
    pub environment: Environment,
    /// Agent mode forbids alerting, rules and remote read.
    pub agent: bool,
    /// Ask targets for protobuf first unless the file says otherwise: the features around start times do.
    pub prefers_protobuf: bool,
    /// The further report series are written unless the file says otherwise: upstream's `extra-scrape-metrics`.
    pub extra_scrape_metrics: bool,
}

impl Default for LoadOptions {
    /// The process's environment.
    fn default() -> Self {
        LoadOptions {
            environment: Arc::new(|name| std::env::var(name).ok()),
            agent: false,
            prefers_protobuf: false,
            extra_scrape_metrics: false,
        }
    }
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// All scrape jobs, those of `scrape_config_files` included, with everything inherited filled in.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// The effective configuration with secrets hidden, as `/api/v1/status/config` shows it.
    pub yaml: String,
    /// The files that `rule_files` names, in order.
    pub rule_files: Vec<PathBuf>,
    /// Said once in the log: what is configured and will not happen.
    pub warnings: Vec<String>,
    /// The first thing that is valid but that this build cannot do, where leaving it out would lose data or alerts. A
    /// server must not start with it; a checker may.
    pub unbuilt: Option<Error>,
}

/// The text of a file, or why not in one line.
pub(crate) fn read(path: &Path) -> Result<String, Error> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|e| {
        let why = match e.kind() {
            std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
            _ => e.to_string(),
        };
        Error::invalid("", "", format!("open {name}: {why}"))
    })?;
    String::from_utf8(bytes).map_err(|_| Error::invalid(&name, "", "the file is not valid UTF-8"))
}

fn join(dir: &Path, path: &str) -> String {
    if path.is_empty() || Path::new(path).is_absolute() {
        return path.to_owned();
    }
    dir.join(path).to_string_lossy().into_owned()
}

/// Reads and checks everything. Nothing is half accepted: the first problem is the result, with file, line and field.
pub fn load(source: &Source, options: &LoadOptions) -> Result<Loaded, Error> {
    let main = Document { name: source.name(), text: source.text()?, dir: source.directory() };
    let mut config: Config = ferula_yaml::from_str(&main.name, &main.text)?;
    let mut warnings = Vec::new();
    for value in config.global.external_labels.values_mut() {
        *value = environment::expand(value, &options.environment, &mut warnings);
    }
    config.global.prefers_protobuf = options.prefers_protobuf;
    if options.extra_scrape_metrics {
        config.global.extra_scrape_metrics.get_or_insert(true);
    }
    config.global = config.global.resolve().map_err(|e| main.located(&Problem::below("global", &e)))?;
    check(&config, options).map_err(|p| main.located(&p))?;

    let mut jobs = Jobs::default();
    let own = std::mem::take(&mut config.scrape_configs);
    jobs.add(own, &main, "main config file", &config.global)?;
    config.scrape_configs = jobs.configs.iter().cloned().map(Some).collect();
    set_directory(&mut config, &main.dir);
    for pattern in &config.scrape_config_files {
        for path in glob::files(Path::new(pattern)) {
            let name = path.display().to_string();
            let dir = path.parent().map(Path::to_path_buf).unwrap_or_default();
            let file = Document { text: read(&path)?, dir, name };
            let parsed: ScrapeConfigFile = ferula_yaml::from_str(&file.name, &file.text)?;
            let label = format!("{:?}", file.name);
            jobs.add(parsed.scrape_configs, &file, &label, &config.global)?;
        }
    }
    let mut rule_files = Vec::new();
    for pattern in &config.rule_files {
        rule_files.extend(glob::files(Path::new(pattern)));
    }
    let unbuilt = not_built_in(&config).map_err(|p| main.located(&p)).err();
    let yaml = ferula_yaml::to_string(&config)?;
    Ok(Loaded { config, scrape_configs: jobs.configs, yaml, rule_files, warnings, unbuilt: unbuilt.or(jobs.unbuilt) })
}

/// A number that changes when the configuration, or any file it names, changes: for `--config.auto-reload`. A
/// configuration that cannot be read as one counts with its text alone.
pub(crate) fn checksum(source: &Source) -> Result<u64, Error> {
    let text = source.text()?;
    let mut sum = std::hash::DefaultHasher::new();
    text.hash(&mut sum);
    if let Ok(config) = ferula_yaml::from_str::<Config>(&source.name(), &text) {
        let dir = source.directory();
        for pattern in config.rule_files.iter().chain(&config.scrape_config_files) {
            for path in glob::files(Path::new(&join(&dir, pattern))) {
                path.hash(&mut sum);
                read(&path)?.hash(&mut sum);
            }
        }
    }
    Ok(sum.finish())
}

/// One file being read.
struct Document {
    name: String,
    text: String,
    dir: PathBuf,
}

impl Document {
    fn located(&self, problem: &Problem) -> Error {
        locate::error(&self.name, &self.text, &problem.path, problem.message.clone())
    }
}

/// What a file of `scrape_config_files` holds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ScrapeConfigFile {
    scrape_configs: Vec<Option<ScrapeConfig>>,
}

/// The scrape jobs of all files.
#[derive(Default)]
struct Jobs {
    configs: Vec<ScrapeConfig>,
    /// Where each name was first seen.
    names: BTreeMap<String, String>,
    unbuilt: Option<Error>,
}

impl Jobs {
    fn add(
        &mut self,
        list: Vec<Option<ScrapeConfig>>,
        from: &Document,
        label: &str,
        global: &GlobalConfig,
    ) -> Result<(), Error> {
        for (i, entry) in list.into_iter().enumerate() {
            let at = format!("scrape_configs[{i}]");
            let Some(entry) = entry else {
                return Err(from.located(&Problem::new(at, "empty or null scrape config section")));
            };
            let mut job = entry.resolve(global).map_err(|e| from.located(&Problem::below(&at, &e)))?;
            if let Some(first) = self.names.insert(job.job_name.clone(), label.to_owned()) {
                let name = ferula_model::labels::quoted(&job.job_name);
                let elsewhere = if first == label { String::new() } else { format!(", first found in {first}") };
                let why = format!("found multiple scrape configs with job name {name}{elsewhere}");
                return Err(from.located(&Problem::new(format!("{at}.job_name"), why)));
            }
            if let Err(e) = job.require_built() {
                self.unbuilt.get_or_insert_with(|| from.located(&Problem::below(&at, &e)));
            }
            job.set_directory(&from.dir);
            self.configs.push(job);
        }
        Ok(())
    }
}

fn check(config: &Config, options: &LoadOptions) -> Result<(), Problem> {
    for (i, pattern) in config.rule_files.iter().enumerate() {
        if !glob::is_valid(pattern) {
            let why = format!("invalid rule file path {}", ferula_model::labels::quoted(pattern));
            return Err(Problem::new(format!("rule_files[{i}]"), why));
        }
    }
    for (i, pattern) in config.scrape_config_files.iter().enumerate() {
        if !glob::is_valid(pattern) {
            let why = format!("invalid scrape config file path {}", ferula_model::labels::quoted(pattern));
            return Err(Problem::new(format!("scrape_config_files[{i}]"), why));
        }
    }
    config.alerting.validate()?;
    remote::validate_writes(&config.remote_write)?;
    remote::validate_reads(&config.remote_read)?;
    config.storage.validate()?;
    config.otlp.validate(config.global.metric_name_validation_scheme == "legacy")?;
    if let Some(tracing) = &config.tracing {
        tracing.validate()?;
    }
    if options.agent {
        let forbidden = [
            (!config.alerting.alertmanagers.is_empty(), "alerting"),
            (!config.alerting.alert_relabel_configs.is_empty(), "alerting"),
            (!config.rule_files.is_empty(), "rule_files"),
            (!config.remote_read.is_empty(), "remote_read"),
        ];
        if let Some((_, what)) = forbidden.iter().find(|(set, _)| *set) {
            return Err(Problem::new(*what, format!("field {what} is not allowed in agent mode")));
        }
    }
    Ok(())
}

fn set_directory(config: &mut Config, dir: &Path) {
    for list in [&mut config.rule_files, &mut config.scrape_config_files] {
        for path in list {
            *path = join(dir, path);
        }
    }
    let global = &mut config.global;
    for path in [&mut global.query_log_file, &mut global.scrape_failure_log_file] {
        *path = join(dir, path);
    }
    config.alerting.set_directory(dir);
    remote::set_directory(&mut config.remote_write, &mut config.remote_read, dir);
    if let Some(tracing) = &mut config.tracing {
        tracing.set_directory(dir);
    }
}

/// What would lose data or alerts if it were silently left out is an error until it is built.
fn not_built_in(config: &Config) -> Result<(), Problem> {
    let missing = |path: String, what: &str| Err(Problem::new(path, format!("{what} is known, but not built in yet")));
    if !config.remote_write.is_empty() {
        return missing("remote_write[0]".to_owned(), "remote_write");
    }
    if !config.remote_read.is_empty() {
        return missing("remote_read[0]".to_owned(), "remote_read");
    }
    for (i, am) in config.alerting.alertmanagers.iter().flatten().enumerate() {
        let at = format!("alerting.alertmanagers[{i}]");
        am.discovery().require_built().map_err(|e| Problem::new(&at, e.to_string()))?;
        ferula_net::client::Client::new(&am.http_config()).map_err(|e| Problem::new(&at, e.to_string()))?;
        if am.sigv4.is_some() {
            return missing(format!("{at}.sigv4"), "sigv4");
        }
    }
    Ok(())
}
