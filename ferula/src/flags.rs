//! Command-line flags as tables: one table per role gives parsing, help, suggestions and `/api/v1/status/flags`.
//!
//! The rules are those of the programs we stand in for: `--flag value`, `--flag=value`, `--flag` and `--no-flag` for
//! booleans, repeated flags where the table says so. Unknown flags end with exit code 2 and the nearest known name.
use std::collections::BTreeMap;

use clap::{Arg, ArgAction, Command};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Text,
    /// May be given several times.
    Repeated,
    /// May be given several times, each a comma-separated list.
    List,
    Int,
    Float,
    /// Prometheus's duration grammar.
    Duration,
    /// `512MB`, `1.5GiB`, or plain bytes.
    Size,
}

#[derive(Clone, Copy, Debug)]
pub struct Flag {
    pub name: &'static str,
    pub kind: Kind,
    pub default: &'static str,
    pub help: &'static str,
    pub hidden: bool,
}

impl Flag {
    pub const fn new(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
        Flag { name, kind, default, help, hidden: false }
    }
    pub const fn hidden(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
        Flag { name, kind, default, help, hidden: true }
    }
}

/// Adds the table's flags to a command.
pub fn define(mut command: Command, flags: &[Flag]) -> Command {
    for f in flags {
        let arg = Arg::new(f.name).long(f.name).help(f.help).hide(f.hidden);
        command = match f.kind {
            Kind::Bool => command.arg(arg.action(ArgAction::SetTrue).overrides_with(f.name)).arg(negation(f)),
            Kind::Repeated | Kind::List => {
                command.arg(arg.action(ArgAction::Append).allow_hyphen_values(true).value_name("VALUE"))
            }
            _ => command.arg(
                arg.action(ArgAction::Set)
                    .allow_hyphen_values(true)
                    .overrides_with(f.name)
                    .value_name(value_name(f.kind)),
            ),
        };
    }
    command
}

fn negation(f: &Flag) -> Arg {
    // Leaked once per flag and process: clap wants names that live as long as the command.
    let name: &'static str = Box::leak(format!("no-{}", f.name).into_boxed_str());
    Arg::new(name).long(name).action(ArgAction::SetTrue).overrides_with(f.name).hide(true)
}

fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Int => "N",
        Kind::Float => "F",
        Kind::Duration => "DURATION",
        Kind::Size => "BYTES",
        _ => "VALUE",
    }
}

/// Every flag of a table with its value, given or default.
#[derive(Clone, Debug, Default)]
pub struct Values {
    values: BTreeMap<&'static str, Vec<String>>,
}

impl Values {
    /// Reads the table's flags out of clap's matches; a value that does not fit its kind is an error naming the flag.
    pub fn read(flags: &[Flag], matches: &clap::ArgMatches) -> Result<Values, String> {
        let mut out = Values::default();
        for f in flags {
            let given = |id: &str| matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
            let values: Vec<String> = match f.kind {
                Kind::Bool => {
                    let negated = format!("no-{}", f.name);
                    if given(f.name) || given(&negated) {
                        vec![matches.get_flag(f.name).to_string()]
                    } else {
                        vec![f.default.to_owned()]
                    }
                }
                _ if given(f.name) => {
                    let all = matches.get_many::<String>(f.name).into_iter().flatten();
                    match f.kind {
                        Kind::List => all.flat_map(|v| v.split(',')).map(str::to_owned).collect(),
                        _ => all.cloned().collect(),
                    }
                }
                Kind::Repeated | Kind::List if f.default.is_empty() => Vec::new(),
                Kind::List => f.default.split(',').map(str::to_owned).collect(),
                _ => vec![f.default.to_owned()],
            };
            for v in &values {
                check(f, v)?;
            }
            out.values.insert(f.name, values);
        }
        Ok(out)
    }

    pub fn all(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }
    /// The (last) value as text; empty when there is none.
    pub fn text(&self, name: &str) -> &str {
        self.all(name).last().map_or("", String::as_str)
    }
    pub fn bool(&self, name: &str) -> bool {
        self.text(name) == "true"
    }
    pub fn int(&self, name: &str) -> i64 {
        self.text(name).parse().unwrap_or(0)
    }
    pub fn duration_ms(&self, name: &str) -> i64 {
        ferula_model::duration::parse_ms(self.text(name)).unwrap_or(0)
    }
    pub fn size_bytes(&self, name: &str) -> u64 {
        parse_size(self.text(name)).unwrap_or(0)
    }
    /// What `/api/v1/status/flags` shows: every flag, hidden ones included, lists joined by commas.
    pub fn to_map(&self) -> BTreeMap<String, String> {
        self.values.iter().map(|(n, v)| ((*n).to_owned(), v.join(","))).collect()
    }
}

fn check(f: &Flag, value: &str) -> Result<(), String> {
    if value.is_empty() && value == f.default {
        return Ok(());
    }
    let fine = match f.kind {
        Kind::Int => value.parse::<i64>().is_ok(),
        Kind::Float => value.parse::<f64>().is_ok(),
        Kind::Duration => match ferula_model::duration::parse_ms(value) {
            Ok(_) => true,
            Err(e) => return Err(format!("--{}: {e}", f.name)),
        },
        Kind::Size => parse_size(value).is_some(),
        _ => true,
    };
    if fine { Ok(()) } else { Err(format!("--{}: not a valid value: {value:?}", f.name)) }
}

/// Bytes of `512MB`: units are powers of 1024, as upstream reads them, with or without the `i`.
pub fn parse_size(text: &str) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let shift = match unit.trim_end_matches('B').trim_end_matches('i') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        "P" => 50,
        "E" => 60,
        _ => return None,
    };
    let bytes = number.parse::<f64>().ok()? * (1u64 << shift) as f64;
    (bytes.is_finite() && bytes >= 0.0 && bytes <= u64::MAX as f64).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Flag] = &[
        Flag::new("config.file", Kind::Text, "prometheus.yml", ""),
        Flag::new("web.listen-address", Kind::Repeated, "0.0.0.0:9090", ""),
        Flag::new("enable-feature", Kind::List, "", ""),
        Flag::new("web.enable-lifecycle", Kind::Bool, "false", ""),
        Flag::new("storage.tsdb.wal-compression", Kind::Bool, "true", ""),
        Flag::new("query.timeout", Kind::Duration, "2m", ""),
        Flag::hidden("storage.tsdb.wal-segment-size", Kind::Size, "128MB", ""),
    ];

    fn read(args: &[&str]) -> Result<Values, String> {
        let command = define(Command::new("t").no_binary_name(true), TABLE);
        let matches = command.try_get_matches_from(args).map_err(|e| e.to_string())?;
        Values::read(TABLE, &matches)
    }

    #[test]
    fn reads_flags_as_upstream_does() {
        let v = read(&[
            "--config.file=a.yml",
            "--web.enable-lifecycle",
            "--no-storage.tsdb.wal-compression",
            "--web.listen-address=:1",
            "--web.listen-address",
            ":2",
            "--enable-feature=a,b",
            "--enable-feature=c",
        ])
        .unwrap();
        assert_eq!(v.text("config.file"), "a.yml");
        assert!(v.bool("web.enable-lifecycle") && !v.bool("storage.tsdb.wal-compression"));
        assert_eq!(
            (v.all("web.listen-address"), v.all("enable-feature")),
            (&[":1".to_owned(), ":2".to_owned()][..], &["a".to_owned(), "b".to_owned(), "c".to_owned()][..])
        );
        assert_eq!(
            (v.duration_ms("query.timeout"), v.size_bytes("storage.tsdb.wal-segment-size")),
            (120_000, 128 << 20)
        );
        let map = read(&[]).unwrap().to_map();
        assert_eq!((map.len(), map["web.enable-lifecycle"].as_str(), map["enable-feature"].as_str()), (7, "false", ""));
        assert!(!read(&["--web.enable-lifecycle", "--no-web.enable-lifecycle"]).unwrap().bool("web.enable-lifecycle"));
    }

    #[test]
    fn errors_name_the_flag_or_the_nearest_one() {
        assert!(read(&["--query.timeout=5x"]).unwrap_err().contains("--query.timeout: not a valid duration string"));
        let e = read(&["--web.enable-lifecycles"]).unwrap_err();
        assert!(e.contains("--web.enable-lifecycle'"), "{e}");
    }
}
