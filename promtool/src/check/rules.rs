//! `check rules`: everything that is wrong with rule files, and rules that repeat each other.
use ferula_promql_rules::{file, lint};

use super::{Findings, Lint};
use crate::command_line::Parsed;
use crate::{Streams, parse_options};

pub(crate) fn run(parsed: &Parsed, streams: &mut Streams<'_>) -> u8 {
    let how = Lint::read(parsed, streams);
    let mut findings = Findings::default();
    let files = parsed.args("rule-files");
    if files.is_empty() {
        streams.say("Checking standard input");
        let mut text = String::new();
        if let Err(e) = streams.input.read_to_string(&mut text) {
            streams.complain(format_args!("  FAILED:\n{e}"));
            return crate::FAILURE;
        }
        one("stdin", &text, parsed, &how, &mut findings, streams);
    }
    check(files, parsed, &how, &mut findings, streams);
    findings.exit_code(&how)
}

/// Checks files one after the other.
pub(crate) fn check(files: &[String], parsed: &Parsed, how: &Lint, findings: &mut Findings, streams: &mut Streams<'_>) {
    for name in files {
        streams.say(format_args!("Checking {name}"));
        match std::fs::read_to_string(name) {
            Ok(text) => one(name, &text, parsed, how, findings, streams),
            Err(e) => {
                streams.complain(format_args!("  FAILED:\n{name}: {e}"));
                findings.errors = true;
            }
        }
    }
}

fn one(name: &str, text: &str, parsed: &Parsed, how: &Lint, findings: &mut Findings, streams: &mut Streams<'_>) {
    match file::parse_with(name, text, &parse_options(parsed)) {
        Err(errors) => {
            findings.errors = true;
            streams.complain("  FAILED:");
            for e in errors {
                streams.complain(e);
            }
            return;
        }
        Ok(groups) => {
            let repeated = lint::duplicates(&groups);
            if how.duplicates && !repeated.0.is_empty() {
                findings.lint = true;
                streams.complain(format_args!("  FAILED:\nlint error {repeated}"));
            } else {
                let rules: usize = groups.iter().map(|g| g.rules.len()).sum();
                streams.say(format_args!("  SUCCESS: {rules} rules found"));
            }
        }
    }
    streams.say("");
}
