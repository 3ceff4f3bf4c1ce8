//! The command line as promtool's own parser reads it: nested commands, flags anywhere behind the word that has them,
//! `--flag value`, `--flag=value`, `--no-flag`. Errors have its words.
use std::collections::BTreeMap;
use std::path::Path;

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Text,
    /// May be given several times.
    Repeated,
    /// `KEY=VALUE`, several times.
    Pairs,
    /// One of these.
    Enum(&'static [&'static str]),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Flag {
    pub name: &'static str,
    pub short: Option<char>,
    pub kind: Kind,
    pub default: &'static str,
    pub required: bool,
    pub help: &'static str,
}

impl Flag {
    pub const fn new(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Flag {
        Flag { name, short: None, kind, default, required: false, help }
    }
    pub const fn short(mut self, short: char) -> Flag {
        self.short = Some(short);
        self
    }
    pub const fn required(mut self) -> Flag {
        self.required = true;
        self
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Arg {
    pub name: &'static str,
    pub default: Option<&'static str>,
    pub repeated: bool,
    /// Must name a file that is there.
    pub file: bool,
}

impl Arg {
    pub const fn new(name: &'static str) -> Arg {
        Arg { name, default: None, repeated: false, file: false }
    }
    pub const fn optional(mut self, default: &'static str) -> Arg {
        self.default = Some(default);
        self
    }
    pub const fn files(mut self) -> Arg {
        (self.repeated, self.file) = (true, true);
        self
    }
}

/// A command: the words that name it, flags of every word along the way, and arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Command {
    pub path: &'static [&'static str],
    pub flags: &'static [Flag],
    pub args: &'static [Arg],
    pub help: &'static str,
    pub experimental: bool,
}

/// A command line that was understood.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub command: &'static Command,
    flags: BTreeMap<&'static str, Vec<String>>,
    args: BTreeMap<&'static str, Vec<String>>,
}

impl Parsed {
    pub fn flag(&self, name: &str) -> &str {
        self.flags.get(name).and_then(|v| v.last()).map_or("", String::as_str)
    }
    pub fn bool(&self, name: &str) -> bool {
        self.flag(name) == "true"
    }
    pub fn flags(&self, name: &str) -> &[String] {
        self.flags.get(name).map_or(&[], Vec::as_slice)
    }
    /// `KEY=VALUE` flags as pairs.
    pub fn pairs(&self, name: &str) -> Vec<(String, String)> {
        let pair = |f: &String| f.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()));
        self.flags(name).iter().filter_map(pair).collect()
    }
    pub fn arg(&self, name: &str) -> &str {
        self.args.get(name).and_then(|v| v.last()).map_or("", String::as_str)
    }
    pub fn args(&self, name: &str) -> &[String] {
        self.args.get(name).map_or(&[], Vec::as_slice)
    }
}

/// What is wrong, or what is asked for instead of a command.
#[derive(Debug)]
pub(crate) enum Stop {
    Error(String),
    /// Help for the commands that begin with these words.
    Help(Vec<String>),
    Version,
}

/// Flags that every command has.
pub(crate) const EVERYWHERE: &[Flag] = &[
    Flag::new("help", Kind::Bool, "false", "Show context-sensitive help.").short('h'),
    Flag::new("version", Kind::Bool, "false", "Show application version."),
    Flag::new("experimental", Kind::Bool, "false", "Enable experimental commands."),
    Flag::new("enable-feature", Kind::Repeated, "", "Comma separated feature names to enable."),
];

/// Reads a command line by the table of commands.
pub(crate) fn parse(commands: &'static [Command], words: &[String]) -> Result<Parsed, Stop> {
    let error = |text: String| Stop::Error(format!("promtool: error: {text}, try --help"));
    let mut path: Vec<&str> = Vec::new();
    let mut positional: Vec<String> = Vec::new();
    let mut given: Vec<(String, Option<String>)> = Vec::new();
    let mut words = words.iter().peekable();
    let mut flags_end = false;
    while let Some(word) = words.next() {
        let open = || commands.iter().filter(|c| c.path.starts_with(&path)).collect::<Vec<_>>();
        if !flags_end && word == "--" {
            flags_end = true;
            continue;
        }
        if !flags_end && word.len() > 1 && word.starts_with('-') {
            let (name, value) = match word.split_once('=') {
                Some((n, v)) => (n, Some(v.to_owned())),
                None => (word.as_str(), None),
            };
            let known = |f: &&Flag| match name.strip_prefix("--") {
                Some(long) => f.name == long || (f.kind == Kind::Bool && Some(f.name) == long.strip_prefix("no-")),
                None => f.short.is_some_and(|s| name == format!("-{s}")),
            };
            let flag = EVERYWHERE.iter().chain(open().iter().flat_map(|c| c.flags)).find(known);
            let Some(flag) = flag else {
                let long = if name.starts_with("--") { "long" } else { "short" };
                return Err(error(format!("unknown {long} flag '{name}'")));
            };
            if flag.kind == Kind::Bool {
                let on = !name.starts_with("--no-") || flag.name.starts_with("no-");
                given.push((flag.name.to_owned(), Some(value.unwrap_or_else(|| on.to_string()))));
                continue;
            }
            let value = match value {
                Some(v) => v,
                None => match words.next() {
                    Some(v) => v.clone(),
                    None => return Err(error(format!("expected argument for flag '{name}'"))),
                },
            };
            match flag.kind {
                Kind::Enum(of) if !of.contains(&value.as_str()) => {
                    return Err(error(format!("enum value must be one of {}, got '{value}'", of.join(","))));
                }
                Kind::Pairs if !value.contains('=') => {
                    return Err(error(format!("expected KEY=VALUE got '{value}'")));
                }
                _ => given.push((flag.name.to_owned(), Some(value))),
            }
            continue;
        }
        let next =
            open().into_iter().filter(|c| c.path.len() > path.len()).find(|c| c.path[path.len()] == word.as_str());
        match next {
            Some(c) if positional.is_empty() => path.push(c.path[path.len()]),
            _ if open().iter().all(|c| c.path.len() > path.len()) => {
                let is_help = path.is_empty() && word == "help";
                if is_help {
                    return Err(Stop::Help(words.cloned().collect()));
                }
                return Err(error(format!("expected command but got {}", ferula_model::labels::quoted(word))));
            }
            _ => positional.push(word.clone()),
        }
    }
    let is_given = |name: &str| given.iter().any(|(n, v)| n == name && v.as_deref() == Some("true"));
    if is_given("version") {
        return Err(Stop::Version);
    }
    let Some(command) = commands.iter().find(|c| c.path == path.as_slice()) else {
        if path.is_empty() || is_given("help") {
            return Err(Stop::Help(path.iter().map(|p| (*p).to_owned()).collect()));
        }
        return Err(error(format!("must select a subcommand of '{}'", path.join(" "))));
    };
    if is_given("help") {
        return Err(Stop::Help(path.iter().map(|p| (*p).to_owned()).collect()));
    }
    let mut flags: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for f in EVERYWHERE.iter().chain(command.flags) {
        let values: Vec<String> = given.iter().filter(|(n, _)| n == f.name).filter_map(|(_, v)| v.clone()).collect();
        if f.required && values.is_empty() {
            return Err(error(format!("required flag(s) '--{}' not provided", f.name)));
        }
        let default = || if f.default.is_empty() { Vec::new() } else { vec![f.default.to_owned()] };
        flags.insert(f.name, if values.is_empty() { default() } else { values });
    }
    let args = arguments(command, positional).map_err(error)?;
    Ok(Parsed { command, flags, args })
}

fn arguments(command: &Command, positional: Vec<String>) -> Result<BTreeMap<&'static str, Vec<String>>, String> {
    let mut args: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    let mut rest = positional.into_iter();
    for a in command.args {
        let values: Vec<String> = if a.repeated { rest.by_ref().collect() } else { rest.by_ref().take(1).collect() };
        match (values.is_empty(), a.default) {
            (true, None) => return Err(format!("required argument '{}' not provided", a.name)),
            (true, Some("")) => drop(args.insert(a.name, Vec::new())),
            (true, Some(default)) => drop(args.insert(a.name, vec![default.to_owned()])),
            (false, _) => {
                for v in values.iter().filter(|_| a.file) {
                    let path = Path::new(v);
                    if !path.exists() {
                        return Err(format!("path '{v}' does not exist"));
                    }
                    if path.is_dir() {
                        return Err(format!("'{v}' is a directory"));
                    }
                }
                args.insert(a.name, values);
            }
        }
    }
    match rest.next() {
        Some(extra) => Err(format!("unexpected {extra}")),
        None => Ok(args),
    }
}
