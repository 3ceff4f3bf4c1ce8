#![doc = include_str!("../README.md")]
mod collectors;
mod filter;
mod flags;
mod parse;
mod platform;
mod source;

use std::sync::Arc;
use std::time::Duration;

use ferula_exporters_shell::{CollectError, Collector, Exporter, Options};
use ferula_exposition::family::Family;
use ferula_instrument::Registry;

pub use flags::Flags;

use collectors::{Collect, Context};
use source::Source;

/// Why the exporter cannot start: a flag's value is of no use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("invalid value for --{flag}: {source}")]
    Regex { flag: String, source: ferula_regex::Error },
    #[error("--{0} and --{1} are mutually exclusive")]
    Exclusive(String, String),
    #[error("invalid value for --{flag}: {value:?}")]
    Value { flag: String, value: String },
}

/// The node_exporter whose metrics these are, as tools that ask for a version see it.
pub const VERSION: &str = "1.11.1";

/// How long one collector may take before the scrape goes on without it.
const DEADLINE: Duration = Duration::from_secs(5);

/// The metrics path, the landing page and the chosen collectors. `registry` holds what else is on the page.
pub fn router(flags: Flags, registry: Registry) -> Result<axum::Router, Error> {
    let options = Options {
        namespace: "node",
        program: "node_exporter",
        title: "Node Exporter",
        version: VERSION.to_owned(),
        metrics_path: flags.telemetry_path.clone(),
        requests_max: flags.requests_max,
        deadline: DEADLINE,
        disable_exporter_metrics: flags.disable_exporter_metrics,
    };
    for flag in &flags.without_effect {
        tracing::warn!(flag, "this flag is accepted and has no effect yet");
    }
    register_build_info(&registry);
    let mut exporter = Exporter::new(options, registry);
    let source = Source::new(&flags);
    let context = Context { flags: Arc::new(flags), source: Arc::new(source) };
    for spec in collectors::ALL {
        if !context.flags.is_enabled(spec) {
            continue;
        }
        match spec.build {
            Some(build) => exporter.collector(Box::new(Named { name: spec.name, collect: build(&context)? })),
            None if context.flags.is_asked_for(spec) => {
                tracing::warn!(collector = spec.name, "this collector is not implemented yet")
            }
            None => {}
        }
    }
    Ok(exporter.router())
}

fn register_build_info(registry: &Registry) {
    let help = "A metric with a constant '1' value labeled by version, revision, branch, goversion from which \
                node_exporter was built, and the goos and goarch for the build.";
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let labels = [
        ("branch", ""),
        ("goarch", arch),
        ("goos", std::env::consts::OS),
        ("goversion", ""),
        ("revision", ""),
        ("tags", "ferula"),
        ("version", VERSION),
    ];
    registry.info("node_exporter_build_info", help, &labels);
}

struct Named {
    name: &'static str,
    collect: Collect,
}

impl Collector for Named {
    fn name(&self) -> &'static str {
        self.name
    }
    fn collect(&self, out: &mut Vec<Family>) -> Result<(), CollectError> {
        (self.collect)(out)
    }
}
