//! The one binary that plays every role: by subcommand, or by the name it was started under.
mod flags;
mod logging;
mod roles;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    AllInOne,
    Server,
    Alertmanager,
    NodeExporter,
    Amtool,
    Promtool,
}

/// Names a link to this binary may have, and the role each one is.
const NAMES: &[(&str, Role)] = &[
    ("prometheus", Role::Server),
    ("alertmanager", Role::Alertmanager),
    ("prometheus-alertmanager", Role::Alertmanager),
    ("node_exporter", Role::NodeExporter),
    ("prometheus-node-exporter", Role::NodeExporter),
    ("amtool", Role::Amtool),
    ("promtool", Role::Promtool),
];

/// Subcommands of `ferula`.
const COMMANDS: &[(&str, Role, &str)] = &[
    ("all-in-one", Role::AllInOne, "everything on this machine, with addresses of one's own"),
    ("server", Role::Server, "scrape, store, query, evaluate rules (Prometheus's flags)"),
    ("alertmanager", Role::Alertmanager, "route, group and deliver alerts (Alertmanager's flags)"),
    ("node-exporter", Role::NodeExporter, "export this machine's metrics (node_exporter's flags)"),
    ("amtool", Role::Amtool, "view and change the state of an Alertmanager (amtool's commands)"),
    ("promtool", Role::Promtool, "check, query, test rules, look into data folders (promtool's commands)"),
];

const USAGE: &str = "\
ferula: the Prometheus stack in one program

  ferula                       everything on this machine, with a built-in configuration
  ferula all-in-one ...        the same, with addresses and data folder of one's own
  ferula server ...            scrape, store, query, evaluate rules (Prometheus's flags)
  ferula alertmanager ...      route, group and deliver alerts (Alertmanager's flags)
  ferula node-exporter ...     export this machine's metrics (node_exporter's flags)
  ferula amtool ...            view and change the state of an Alertmanager (amtool's commands)
  ferula promtool ...          check, query, test rules, look into data folders (promtool's commands)
  ferula <role> --help         the flags of a role
  ferula --version

Started through a link named prometheus, alertmanager, node_exporter, promtool or amtool it is that program.
";

fn main() -> ExitCode {
    // One TLS provider for the process; a second installation cannot happen this early.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut args = std::env::args_os();
    let program = args.next().unwrap_or_default();
    let args: Vec<OsString> = match expand_argument_files(args) {
        Ok(args) => args,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::from(2);
        }
    };
    let (role, rest) = match choose(&program, &args) {
        Ok(Choice::Role(role, skip)) => (role, args[skip..].to_vec()),
        Ok(Choice::Print(text)) => {
            print(&text);
            return ExitCode::SUCCESS;
        }
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    match role {
        Role::AllInOne => roles::all_in_one::main(rest),
        Role::Server => roles::server::main(rest),
        Role::Alertmanager => roles::alertmanager::main(rest),
        Role::NodeExporter => roles::node_exporter::main(rest),
        Role::Amtool => roles::amtool::main(rest),
        Role::Promtool => roles::promtool::main(rest),
    }
}

#[derive(Debug, PartialEq)]
enum Choice {
    /// The role, and how many arguments named it.
    Role(Role, usize),
    Print(String),
}

fn choose(program: &OsString, args: &[OsString]) -> Result<Choice, String> {
    let name = Path::new(program).file_name().and_then(|n| n.to_str()).unwrap_or("");
    if let Some((_, role)) = NAMES.iter().find(|(n, _)| *n == name) {
        return Ok(Choice::Role(*role, 0));
    }
    let Some(first) = args.first() else { return Ok(Choice::Role(Role::AllInOne, 0)) };
    let first = first.to_string_lossy();
    if let Some((_, role, _)) = COMMANDS.iter().find(|(n, ..)| *n == first) {
        return Ok(Choice::Role(*role, 1));
    }
    if let Some((_, role)) = NAMES.iter().find(|(n, _)| *n == first) {
        return Ok(Choice::Role(*role, 1)); // `ferula prometheus ...`, as busybox would take it
    }
    match first.as_ref() {
        "help" | "--help" | "-h" => Ok(Choice::Print(USAGE.to_owned())),
        "version" | "--version" => Ok(Choice::Print(roles::version_text("ferula"))),
        other => Err(format!("ferula: unknown command {other:?}\n\n{USAGE}")),
    }
}

/// `@file` stands for the lines of that file, one argument each, as the programs we stand in for read it.
fn expand_argument_files(args: impl Iterator<Item = OsString>) -> Result<Vec<OsString>, String> {
    let mut out = Vec::new();
    for arg in args {
        match arg.to_str().and_then(|a| a.strip_prefix('@')) {
            Some(file) if !file.is_empty() => {
                let text = std::fs::read_to_string(file).map_err(|e| format!("argument file {file}: {e}"))?;
                out.extend(text.lines().filter(|l| !l.is_empty()).map(OsString::from));
            }
            _ => out.push(arg),
        }
    }
    Ok(out)
}

#[allow(clippy::print_stdout)] // help and version belong on standard output
fn print(text: &str) {
    println!("{}", text.trim_end());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(program: &str, args: &[&str]) -> Result<Choice, String> {
        choose(&program.into(), &args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn the_name_or_the_first_word_decides() {
        assert_eq!(chosen("/bin/ferula", &[]), Ok(Choice::Role(Role::AllInOne, 0)));
        assert_eq!(chosen("/bin/prometheus", &["--x"]), Ok(Choice::Role(Role::Server, 0)));
        assert_eq!(chosen("ferula", &["node-exporter", "--x"]), Ok(Choice::Role(Role::NodeExporter, 1)));
        assert!(chosen("ferula", &["sever"]).unwrap_err().contains("unknown command \"sever\""));
    }

    #[test]
    fn argument_files_are_expanded_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("args");
        std::fs::write(&file, "--a=1\n\n--b\n").unwrap();
        let args = ["x".into(), format!("@{}", file.display()).into()];
        assert_eq!(expand_argument_files(args.into_iter()).unwrap(), ["x", "--a=1", "--b"]);
        assert!(
            expand_argument_files(["@/does/not/exist".into()].into_iter()).unwrap_err().contains("/does/not/exist")
        );
    }
}
