//! `check config`: the configuration, and the files it names.
use std::path::{Path, PathBuf};

use ferula_model::labels::quoted;
use ferula_scraper_discovery::{Mechanism, StaticGroup};
use ferula_scraper_scrape::config::ScrapeConfig;
use ferula_server::config::{LoadOptions, Loaded, Source, files_of, load};

use super::{Findings, Lint, rules};
use crate::Streams;
use crate::command_line::Parsed;

pub(crate) fn run(parsed: &Parsed, streams: &mut Streams<'_>) -> u8 {
    let how = Lint::read(parsed, streams);
    let syntax_only = parsed.bool("syntax-only");
    let lookback_ms = ferula_model::duration::parse_ms(parsed.flag("query.lookback-delta")).unwrap_or(300_000);
    let mut findings = Findings::default();
    for name in parsed.args("config-files") {
        streams.say(format_args!("Checking {name}"));
        let options = LoadOptions { agent: parsed.bool("agent"), ..LoadOptions::default() };
        let checked = load(&Source::File(PathBuf::from(name)), &options)
            .map_err(|e| e.to_string())
            .and_then(|loaded| Ok((files(&loaded, syntax_only, streams)?, loaded)));
        let (rule_files, jobs) = match checked {
            Ok((rule_files, loaded)) => {
                if !rule_files.is_empty() {
                    streams.say(format_args!("  SUCCESS: {} rule files found", rule_files.len()));
                }
                streams.say(format_args!(" SUCCESS: {name} is valid prometheus config file syntax"));
                (rule_files, loaded.scrape_configs)
            }
            Err(e) => {
                streams.complain(format_args!("  FAILED: {e}"));
                findings.errors = true;
                (Vec::new(), Vec::new())
            }
        };
        streams.say("");
        if how.long_interval && !syntax_only {
            // Samples further apart than the lookback have gaps between them. One job is enough for upstream.
            if let Some(job) = jobs.iter().find(|j| interval_ms(j) >= lookback_ms) {
                findings.lint = true;
                let (name, interval) = (&job.job_name, ferula_model::duration::format_ms(interval_ms(job)));
                let what = "too long scrape interval found, data point will be marked as stale";
                streams.complain(format_args!("  FAILED: {what} - job: {name}, interval: {interval}"));
            }
        }
        rules::check(&rule_files, parsed, &how, &mut findings, streams);
    }
    findings.exit_code(&how)
}

fn interval_ms(job: &ScrapeConfig) -> i64 {
    job.scrape_interval.ms()
}

/// The rule files; an error where something that is named is not there.
fn files(loaded: &Loaded, syntax_only: bool, streams: &mut Streams<'_>) -> Result<Vec<String>, String> {
    let mut rule_files = Vec::new();
    if syntax_only {
        return Ok(rule_files);
    }
    for path in &loaded.rule_files {
        let name = path.display().to_string();
        if !path.exists() {
            return Err(format!("{} does not point to an existing file", quoted(&name)));
        }
        rule_files.push(name);
    }
    for job in &loaded.scrape_configs {
        let http = job.http_config();
        if let Some(auth) = &http.authorization {
            exists(&auth.credentials_file, "authorization credentials or bearer token file")?;
        }
        let tls = &http.tls_config;
        exists(&tls.cert_file, "client cert file")?;
        exists(&tls.key_file, "client key file")?;
        for mechanism in &job.discovery().mechanisms {
            let Mechanism::File(config) = mechanism else { continue };
            for pattern in &config.files {
                discovered(pattern, &job.job_name, streams)?;
            }
        }
    }
    Ok(rule_files)
}

fn exists(file: &str, what: &str) -> Result<(), String> {
    if file.is_empty() || Path::new(file).exists() {
        return Ok(());
    }
    Err(format!("error checking {what} {}: stat {file}: no such file or directory", quoted(file)))
}

/// Files of `file_sd_configs` hold lists of target groups. That there is none yet is no error.
fn discovered(pattern: &str, job: &str, streams: &mut Streams<'_>) -> Result<(), String> {
    let files: Vec<PathBuf> = files_of(Path::new(pattern)).into_iter().filter(|f| f.exists()).collect();
    if files.is_empty() {
        let (pattern, job) = (quoted(pattern), quoted(job));
        streams.say(format_args!("  WARNING: file {pattern} for file_sd in scrape job {job} does not exist"));
    }
    for file in files {
        let failed = |e: String| format!("checking SD file {}: {e}", quoted(pattern));
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or("");
        if !matches!(extension, "json" | "yml" | "yaml") {
            return Err(failed(format!("invalid file extension: {}", quoted(&format!(".{extension}")))));
        }
        let text = std::fs::read_to_string(&file).map_err(|e| failed(e.to_string()))?;
        let groups: Vec<Option<StaticGroup>> =
            ferula_yaml::from_str(&file.display().to_string(), &text).map_err(|e| failed(e.to_string()))?;
        if let Some(i) = groups.iter().position(Option::is_none) {
            return Err(failed(format!("nil target group item found (index {i})")));
        }
    }
    Ok(())
}
