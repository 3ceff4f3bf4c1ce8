//! The table of commands, and the help that is made of it.
use std::fmt::Write;

use crate::command_line::{Arg, Command, EVERYWHERE, Flag, Kind};

const LINT_RULES: Flag = Flag::new(
    "lint",
    Kind::Text,
    "duplicate-rules",
    "Linting checks to apply. Available options are: all, duplicate-rules, none.",
);
const LINT_CONFIG: Flag = Flag::new(
    "lint",
    Kind::Text,
    "duplicate-rules",
    "Linting checks to apply to the rules and scrape configs of the config: all, duplicate-rules, none, too-long-scrape-interval.",
);
const LINT_FATAL: Flag = Flag::new("lint-fatal", Kind::Bool, "false", "Make lint errors exit with exit code 3.");
const UNKNOWN_FIELDS: Flag =
    Flag::new("ignore-unknown-fields", Kind::Bool, "false", "Ignore unknown fields in the rule files.");
const LOOKBACK: Flag =
    Flag::new("query.lookback-delta", Kind::Text, "5m", "The server's maximum query lookback duration.");
const HTTP_CONFIG: Flag = Flag::new(
    "http.config.file",
    Kind::Text,
    "",
    "HTTP client configuration file for promtool to connect to Prometheus.",
);
const URL: Flag = Flag::new("url", Kind::Text, "http://localhost:9090", "The URL for the Prometheus server.");
const FORMAT: Flag =
    Flag::new("format", Kind::Enum(&["promql", "json"]), "promql", "Output format of the query.").short('o');
const START: Flag = Flag::new("start", Kind::Text, "", "Start time (RFC3339 or Unix timestamp).");
const END: Flag = Flag::new("end", Kind::Text, "", "End time (RFC3339 or Unix timestamp).");
const TIME: Flag = Flag::new("time", Kind::Text, "", "Query evaluation time (RFC3339 or Unix timestamp).");
const HEADER: Flag = Flag::new("header", Kind::Pairs, "", "Extra headers to send to the server.");
const MATCH: Flag = Flag::new("match", Kind::Repeated, "", "Series selector. Can be specified multiple times.");
const MATCH_ALL: Flag =
    Flag::new("match", Kind::Repeated, "{__name__=~'(?s:.*)'}", "Series selector. Can be specified multiple times.");
const MIN_TIME: Flag = Flag::new(
    "min-time",
    Kind::Text,
    "-9223372036854775808",
    "Minimum timestamp to dump, in milliseconds since the Unix epoch.",
);
const MAX_TIME: Flag = Flag::new(
    "max-time",
    Kind::Text,
    "9223372036854775807",
    "Maximum timestamp to dump, in milliseconds since the Unix epoch.",
);
const SANDBOX: Flag = Flag::new(
    "sandbox-dir-root",
    Kind::Text,
    "",
    "Where a copy of the write-ahead log is opened (default: the system's temporary directory).",
);

const fn command(
    path: &'static [&'static str],
    flags: &'static [Flag],
    args: &'static [Arg],
    help: &'static str,
) -> Command {
    Command { path, flags, args, help, experimental: false }
}

const fn experimental(mut c: Command) -> Command {
    c.experimental = true;
    c
}

/// All commands, in the order of promtool's help.
#[rustfmt::skip]
pub(crate) const COMMANDS: &[Command] = &[
    command(&["check", "config"], &[LOOKBACK, LINT_CONFIG, LINT_FATAL, UNKNOWN_FIELDS,
            Flag::new("syntax-only", Kind::Bool, "false", "Only check the config file syntax, ignoring file and content validation referenced in the config"),
            Flag::new("agent", Kind::Bool, "false", "Check config file for Prometheus in Agent mode.")],
        &[Arg::new("config-files").files()], "Check if the config files are valid or not."),
    command(&["check", "web-config"], &[], &[Arg::new("web-config-files").files()], "Check if the web config files are valid or not."),
    command(&["check", "healthy"], &[HTTP_CONFIG, URL], &[], "Check if the Prometheus server is healthy."),
    command(&["check", "ready"], &[HTTP_CONFIG, URL], &[], "Check if the Prometheus server is ready."),
    command(&["check", "rules"], &[LOOKBACK, LINT_RULES, LINT_FATAL, UNKNOWN_FIELDS],
        &[Arg::new("rule-files").files().optional("")], "Check if the rule files are valid or not."),
    command(&["check", "metrics"],
        &[Flag::new("extended", Kind::Bool, "false", "Print extended information related to the cardinality of the metrics.")],
        &[], "Pass Prometheus metrics over stdin to lint them for consistency and correctness."),
    command(&["query", "instant"], &[FORMAT, HTTP_CONFIG, TIME], &[Arg::new("server"), Arg::new("expr")], "Run instant query."),
    command(&["query", "range"], &[FORMAT, HTTP_CONFIG, HEADER, START, END,
            Flag::new("step", Kind::Text, "", "Query step size (duration).")],
        &[Arg::new("server"), Arg::new("expr")], "Run range query."),
    command(&["query", "series"], &[FORMAT, HTTP_CONFIG, MATCH.required(), START, END], &[Arg::new("server")], "Run series query."),
    command(&["query", "labels"], &[FORMAT, HTTP_CONFIG, START, END, MATCH], &[Arg::new("server"), Arg::new("name")], "Run labels query."),
    command(&["debug", "pprof"], &[], &[Arg::new("server")], "Fetch profiling debug information."),
    command(&["debug", "metrics"], &[], &[Arg::new("server")], "Fetch metrics debug information."),
    command(&["debug", "all"], &[], &[Arg::new("server")], "Fetch all debug information."),
    command(&["push", "metrics"], &[HTTP_CONFIG, HEADER,
            Flag::new("label", Kind::Pairs, "job=promtool", "Label to attach to metrics. Can be specified multiple times."),
            Flag::new("timeout", Kind::Text, "30s", "The time to wait for pushing metrics.")],
        &[Arg::new("remote-write-url"), Arg::new("metric-files").files().optional("")],
        "Push metrics to a prometheus remote write (for testing purpose only)."),
    command(&["test", "rules"], &[UNKNOWN_FIELDS,
            Flag::new("run", Kind::Repeated, "", "Only run test groups whose names match the regular expression. Can be specified multiple times."),
            Flag::new("junit", Kind::Text, "", "File path to store JUnit XML test results."),
            Flag::new("debug", Kind::Bool, "false", "Enable unit test debugging."),
            Flag::new("diff", Kind::Bool, "false", "[Experimental] Print colored differential output between expected & received output.")],
        &[Arg::new("test-rule-file").files()], "Unit tests for rules."),
    command(&["test", "promql"], &[], &[Arg::new("script").files()],
        "Run scripts of the promqltest language: load series, evaluate, compare."),
    command(&["tsdb", "list"], &[Flag::new("human-readable", Kind::Bool, "false", "Print human readable values.").short('r')],
        &[Arg::new("db path").optional("data/")], "List tsdb blocks."),
    command(&["tsdb", "analyze"], &[
            Flag::new("limit", Kind::Text, "20", "How many items to show in each list."),
            Flag::new("match", Kind::Text, "", "Series selector to analyze. Only 1 set of matchers is supported now.")],
        &[Arg::new("db path").optional("data/"), Arg::new("block id").optional("")],
        "Analyze churn and label pair cardinality."),
    command(&["tsdb", "dump"], &[SANDBOX, MIN_TIME, MAX_TIME, MATCH_ALL], &[Arg::new("db path").optional("data/")],
        "Dump samples from a TSDB."),
    command(&["tsdb", "dump-openmetrics"], &[SANDBOX, MIN_TIME, MAX_TIME, MATCH_ALL], &[Arg::new("db path").optional("data/")],
        "[Experimental] Dump samples from a TSDB into OpenMetrics text format, excluding native histograms and staleness markers."),
    command(&["tsdb", "create-blocks-from", "openmetrics"], &[
            Flag::new("label", Kind::Pairs, "", "Label to attach to metrics. Can be specified multiple times.")],
        &[Arg::new("input file"), Arg::new("output directory").optional("data/")],
        "Import samples from OpenMetrics input and produce TSDB blocks."),
    experimental(command(&["promql", "format"], &[], &[Arg::new("query")], "Format PromQL query to pretty printed form.")),
    experimental(command(&["promql", "label-matchers", "set"],
        &[Flag::new("type", Kind::Enum(&["=", "!=", "=~", "!~"]), "=", "Type of the label matcher to set.").short('t')],
        &[Arg::new("query"), Arg::new("name"), Arg::new("value")], "Set a label matcher in the query.")),
    experimental(command(&["promql", "label-matchers", "delete"], &[], &[Arg::new("query"), Arg::new("name")],
        "Delete a label from the query.")),
];

/// Help for the commands that begin with `path`; for all of them where there are none.
pub(crate) fn help(path: &[String]) -> String {
    let fits = |c: &&Command| c.path.iter().zip(path).all(|(a, b)| a == b) && c.path.len() >= path.len();
    let mut chosen: Vec<&Command> = COMMANDS.iter().filter(fits).collect();
    if chosen.is_empty() {
        chosen = COMMANDS.iter().collect();
    }
    let mut out = String::new();
    let single = chosen.len() == 1;
    let words = if single { "[<flags>]" } else { "[<flags>] <command> [<args> ...]" };
    let _ = writeln!(out, "usage: promtool {words}\n\nTooling for the Prometheus monitoring system.\n\n\nFlags:");
    let own = if single { chosen.first().map_or(&[][..], |c| c.flags) } else { &[] };
    for f in EVERYWHERE.iter().chain(own) {
        let name = if f.kind == Kind::Bool { format!("[no-]{}", f.name) } else { f.name.to_owned() };
        let short = f.short.map_or_else(String::new, |s| format!("-{s}, "));
        let default =
            if f.default.is_empty() || f.kind == Kind::Bool { String::new() } else { format!("={:?}", f.default) };
        let _ = writeln!(out, "  {short:>4}--{name}{default}\n          {}", f.help);
    }
    let _ = writeln!(out, "\nCommands:");
    for c in chosen {
        let args: Vec<String> = c.args.iter().map(argument).collect();
        let flags = if c.flags.is_empty() { "" } else { " [<flags>]" };
        let _ = writeln!(out, "{}{flags} {}\n    {}\n", c.path.join(" "), args.join(" "), c.help);
    }
    out
}

fn argument(a: &Arg) -> String {
    let name = format!("<{}>{}", a.name, if a.repeated { "..." } else { "" });
    if a.default.is_some() { format!("[{name}]") } else { name }
}
