#![doc = include_str!("../README.md")]
mod check;
mod command_line;
mod commands;
mod debug;
mod promql;
mod push;
mod query;
mod server;
mod test;
mod tsdb;

use std::io::{Read, Write};

use ferula_promql_parser::ParseOptions;

use command_line::{Parsed, Stop, parse};

/// Exit code of a command that found something wrong.
const FAILURE: u8 = 1;
/// Exit code of lint findings.
const LINT: u8 = 3;

/// Where a command reads and writes.
pub struct Streams<'a> {
    pub input: &'a mut dyn Read,
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
}

impl Streams<'_> {
    /// A line to standard output. Whoever closed it does not want to know more.
    fn say(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.out, "{line}");
    }
    /// A line to standard error.
    fn complain(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.err, "{line}");
    }
}

/// Runs promtool with the words behind its name; `version` is what `--version` prints. Answers the exit code.
pub fn run(words: &[String], version: &str, streams: &mut Streams<'_>) -> u8 {
    let parsed = match parse(commands::COMMANDS, words) {
        Ok(parsed) => parsed,
        Err(Stop::Error(text)) => {
            streams.complain(text);
            return FAILURE;
        }
        Err(Stop::Help(path)) => {
            let _ = write!(streams.out, "{}", commands::help(&path));
            return 0;
        }
        Err(Stop::Version) => {
            streams.say(version.trim_end());
            return 0;
        }
    };
    if parsed.command.experimental && !parsed.bool("experimental") {
        streams.complain("This command is experimental and requires the --experimental flag to be set.");
        return FAILURE;
    }
    match parsed.command.path {
        ["check", "config"] => check::config::run(&parsed, streams),
        ["check", "rules"] => check::rules::run(&parsed, streams),
        ["check", "web-config"] => check::web_config::run(&parsed, streams),
        ["check", "metrics"] => check::metrics::run(&parsed, streams),
        ["check", _] => outcome(query::status(&parsed, streams), streams),
        ["query", ..] => outcome(query::run(&parsed, streams), streams),
        ["debug", ..] => outcome(debug::run(&parsed, streams), streams),
        ["push", ..] => push::run(&parsed, streams),
        ["test", "rules"] => test::rules(&parsed, streams),
        ["test", _] => test::scripts(&parsed, streams),
        ["tsdb", ..] => outcome(tsdb::run(&parsed, streams), streams),
        _ => outcome(promql::run(&parsed, streams), streams),
    }
}

/// A result of one line: what went wrong goes to standard error.
fn outcome(result: Result<(), String>, streams: &mut Streams<'_>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(e) => {
            streams.complain(e);
            FAILURE
        }
    }
}

/// Gates of `--enable-feature`.
fn parse_options(parsed: &Parsed) -> ParseOptions {
    let on = |name: &str| parsed.flags("enable-feature").iter().flat_map(|f| f.split(',')).any(|f| f == name);
    ParseOptions {
        experimental_functions: on("promql-experimental-functions"),
        extended_range_selectors: on("promql-extended-range-selectors"),
        fill_modifiers: on("promql-binop-fill-modifiers"),
        ..ParseOptions::default()
    }
}
