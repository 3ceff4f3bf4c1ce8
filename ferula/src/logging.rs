//! Log lines as Prometheus 3 prints them: logfmt or JSON on standard error.
use std::fmt;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Logfmt,
    Json,
}

/// Installs the process's subscriber. `level` and `format` are the flags' words; anything else is an error text.
pub fn install(level: &str, format: &str) -> Result<(), String> {
    let level = match level {
        "debug" => Level::DEBUG,
        "info" => Level::INFO,
        "warn" => Level::WARN,
        "error" => Level::ERROR,
        other => return Err(format!("--log.level: must be one of debug, info, warn, error; got {other:?}")),
    };
    let format = match format {
        "logfmt" => Format::Logfmt,
        "json" => Format::Json,
        other => return Err(format!("--log.format: must be one of logfmt, json; got {other:?}")),
    };
    let layer = tracing_subscriber::fmt::layer().event_format(Lines(format)).with_writer(std::io::stderr);
    let filter = tracing_subscriber::filter::filter_fn(move |m| {
        // Libraries below us speak up only for warnings and worse; their chatter is not the user's.
        let ours = m.target().starts_with("ferula");
        *m.level() <= if ours { level } else { level.min(Level::WARN) }
    });
    // A second installation in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(filter).with(layer).try_init();
    Ok(())
}

struct Lines(Format);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let meta = event.metadata();
        let file = meta.file().map_or("", |f| f.rsplit('/').next().unwrap_or(f));
        let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
        let mut line = Line { json: self.0 == Format::Json, out: String::with_capacity(160) };
        line.pair("time", &time);
        line.pair("level", meta.level().as_str());
        line.pair("source", &format!("{file}:{}", meta.line().unwrap_or(0)));
        line.pair("msg", &fields.message);
        for (name, value) in &fields.rest {
            line.pair(name, value);
        }
        line.finish(&mut out)
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    rest: Vec<(&'static str, String)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.rest.push((field.name(), value));
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.to_owned());
    }
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.put(field, value.to_string());
    }
}

struct Line {
    json: bool,
    out: String,
}

impl Line {
    fn pair(&mut self, name: &str, value: &str) {
        if self.json {
            self.out.push(if self.out.is_empty() { '{' } else { ',' });
            self.out.push_str(&serde_json::Value::from(name).to_string());
            self.out.push(':');
            self.out.push_str(&serde_json::Value::from(value).to_string());
            return;
        }
        if !self.out.is_empty() {
            self.out.push(' ');
        }
        self.out.push_str(name);
        self.out.push('=');
        let plain =
            !value.is_empty() && value.chars().all(|c| c > ' ' && c != '"' && c != '=' && c != '\\' && !c.is_control());
        if plain {
            self.out.push_str(value);
        } else {
            self.out.push_str(&ferula_model::labels::quoted(value));
        }
    }
    fn finish(mut self, out: &mut Writer<'_>) -> fmt::Result {
        if self.json {
            self.out.push('}');
        }
        self.out.push('\n');
        out.write_str(&self.out)
    }
}
