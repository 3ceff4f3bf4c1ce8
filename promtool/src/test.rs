//! `promtool test ...`: unit tests of rules, and scripts of the promqltest language.
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use ferula_promql_engine::test_language::{self, MemoryStore};
use ferula_promql_rules::unit_test::{FileResult, UnitTestOptions, run};

use crate::command_line::Parsed;
use crate::{FAILURE, Streams, parse_options};

pub(crate) fn rules(parsed: &Parsed, streams: &mut Streams<'_>) -> u8 {
    let options = UnitTestOptions {
        parse: parse_options(parsed),
        only: parsed.flags("run").to_vec(),
        as_difference: parsed.bool("diff"),
        debug: parsed.bool("debug"),
    };
    let mut results = Vec::new();
    for file in parsed.args("test-rule-file") {
        let result = run(Path::new(file), &options, &|| Arc::new(MemoryStore::new()));
        result.debug.lines().for_each(|line| streams.say(line));
        if result.is_success() {
            streams.say("  SUCCESS");
        } else {
            let _ = write!(streams.err, "{}", result.report());
            // Upstream ends every failure with a blank line on the other stream.
            let failures = result.errors.len() + result.tests.iter().map(|t| t.failures.len()).sum::<usize>();
            (0..failures).for_each(|_| streams.say(""));
        }
        streams.say("");
        results.push(result);
    }
    let junit = parsed.flag("junit");
    if !junit.is_empty()
        && let Err(e) = std::fs::write(junit, report(&results))
    {
        streams.complain(format_args!("failed to write JUnit report: {e}"));
    }
    if results.iter().all(FileResult::is_success) { 0 } else { FAILURE }
}

/// The results as JUnit reads them.
fn report(results: &[FileResult]) -> String {
    let mut out = String::from("<testsuites>\n");
    for r in results {
        let failed: usize = r.tests.iter().map(|t| usize::from(!t.failures.is_empty())).sum();
        let (tests, errors) = (r.tests.len(), r.errors.len());
        let file = escaped(&r.file.display().to_string());
        let _ =
            writeln!(out, "\t<testsuite name=\"{file}\" tests=\"{tests}\" failures=\"{failed}\" errors=\"{errors}\">");
        for t in &r.tests {
            let _ = writeln!(out, "\t\t<testcase name=\"{}\">", escaped(&t.name));
            for f in &t.failures {
                let _ = writeln!(out, "\t\t\t<failure>{}</failure>", escaped(f));
            }
            out.push_str("\t\t</testcase>\n");
        }
        for e in &r.errors {
            let _ = writeln!(out, "\t\t<error>{}</error>", escaped(e));
        }
        out.push_str("\t</testsuite>\n");
    }
    out + "</testsuites>\n"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

pub(crate) fn scripts(parsed: &Parsed, streams: &mut Streams<'_>) -> u8 {
    let engine = test_language::test_engine();
    let (mut passed, mut failed) = (0, 0);
    for file in parsed.args("script") {
        let outcomes = std::fs::read_to_string(file).map_err(|e| e.to_string()).and_then(|text| {
            test_language::run(&text, &engine, &|| Arc::new(MemoryStore::new())).map_err(|e| e.to_string())
        });
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(e) => {
                streams.complain(format_args!("{file}: {e}"));
                failed += 1;
                continue;
            }
        };
        let bad: Vec<_> = outcomes.iter().filter_map(|o| o.failure.as_ref().map(|f| (o, f))).collect();
        streams.say(format_args!("{file}: {} of {}", outcomes.len() - bad.len(), outcomes.len()));
        passed += outcomes.len() - bad.len();
        failed += bad.len();
        for (o, why) in bad {
            streams.complain(format_args!("{file}:{}: {}: {why}", o.line, o.expr));
        }
    }
    streams.say(format_args!("{passed} passed, {failed} failed"));
    if failed == 0 { 0 } else { FAILURE }
}
