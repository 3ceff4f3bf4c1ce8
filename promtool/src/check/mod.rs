//! `promtool check ...`
pub(crate) mod config;
pub(crate) mod metrics;
pub(crate) mod rules;
mod second_opinion;
pub(crate) mod web_config;

use crate::Streams;
use crate::command_line::Parsed;

/// What `--lint` asks for.
pub(crate) struct Lint {
    pub duplicates: bool,
    pub long_interval: bool,
    pub is_fatal: bool,
}

impl Lint {
    fn read(parsed: &Parsed, streams: &mut Streams<'_>) -> Lint {
        let mut lint = Lint { duplicates: false, long_interval: false, is_fatal: parsed.bool("lint-fatal") };
        for option in parsed.flag("lint").split(',') {
            match option {
                "all" => (lint.duplicates, lint.long_interval) = (true, true),
                "duplicate-rules" => lint.duplicates = true,
                "too-long-scrape-interval" => lint.long_interval = true,
                "none" | "" => {}
                other => {
                    streams.complain(format_args!(
                        "WARNING: unknown lint option: {}",
                        ferula_model::labels::quoted(other)
                    ));
                }
            }
        }
        lint
    }
}

/// What was found in all files together.
#[derive(Default)]
pub(crate) struct Findings {
    pub errors: bool,
    pub lint: bool,
}

impl Findings {
    fn exit_code(&self, lint: &Lint) -> u8 {
        match (self.errors, self.lint && lint.is_fatal) {
            (true, _) => crate::FAILURE,
            (_, true) => crate::LINT,
            _ => 0,
        }
    }
}
