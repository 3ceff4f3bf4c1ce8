//! node_exporter's command line.
//!
//! The flags come from tables (here and in `collectors`), because each collector brings its own; so the clap traits are
//! implemented by hand instead of derived.
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::collectors::{self, Spec};

/// What the command line says; `Flags::default()` is an empty command line.
#[derive(Clone, Debug)]
pub struct Flags {
    /// `--web.listen-address`, as given; the caller listens.
    pub listen_addresses: Vec<String>,
    /// `--web.config.file`, for the caller; empty means none.
    pub web_config_file: String,
    /// `--log.level` and `--log.format`, for the caller.
    pub log_level: String,
    pub log_format: String,
    pub telemetry_path: String,
    pub requests_max: usize,
    pub disable_exporter_metrics: bool,
    pub disable_defaults: bool,
    pub procfs: PathBuf,
    pub sysfs: PathBuf,
    pub rootfs: PathBuf,
    pub udev_data: PathBuf,
    /// Collectors that were named: on or off.
    chosen: BTreeMap<&'static str, bool>,
    /// Values of the other flags, given or default.
    values: BTreeMap<&'static str, Vec<String>>,
    given: BTreeSet<&'static str>,
    /// What was given and does nothing.
    pub(crate) without_effect: Vec<&'static str>,
}

/// A flag with a value: name, default, older spellings, what it is for.
type ValueFlag = (&'static str, &'static str, &'static [&'static str], &'static str);

const GENERAL: &[ValueFlag] = &[
    ("web.listen-address", ":9100", &[], "Addresses on which to expose metrics and web interface. Repeatable."),
    ("web.config.file", "", &[], "Path to configuration file that can enable TLS or authentication."),
    ("web.telemetry-path", "/metrics", &[], "Path under which to expose metrics."),
    ("web.max-requests", "40", &[], "Maximum number of parallel scrape requests. Use 0 to disable."),
    ("path.procfs", "/proc", &[], "procfs mountpoint."),
    ("path.sysfs", "/sys", &[], "sysfs mountpoint."),
    ("path.rootfs", "/", &[], "rootfs mountpoint."),
    ("path.udev.data", "/run/udev/data", &[], "udev data path."),
    ("log.level", "info", &[], "Only log messages with the given severity or above: debug, info, warn, error."),
    ("log.format", "logfmt", &[], "Output format of log messages: logfmt or json."),
    ("runtime.gomaxprocs", "1", &["runtime.GOMAXPROCS"], "Accepted and without effect."),
];

const GENERAL_SWITCHES: &[Switch] = &[
    ("web.disable-exporter-metrics", "no-web.disable-exporter-metrics", "Exclude metrics about the exporter itself."),
    ("web.systemd-socket", "no-web.systemd-socket", "Accepted; listening is the caller's."),
    ("collector.disable-defaults", "no-collector.disable-defaults", "Set all collectors to disabled by default."),
];

/// Flags of collectors that are not there yet: accepted, so that a command line written for node_exporter starts, and
/// reported when given.
const WITHOUT_EFFECT: &[&str] = &[
    "collector.ethtool.device-exclude",
    "collector.ethtool.device-include",
    "collector.ethtool.metrics-include",
    "collector.ntp.ip-ttl",
    "collector.ntp.local-offset-tolerance",
    "collector.ntp.max-distance",
    "collector.ntp.protocol-version",
    "collector.ntp.server",
    "collector.ntp.server-port",
    "collector.pcidevice.idsfile",
    "collector.perf.cache-profilers",
    "collector.perf.cpus",
    "collector.perf.hardware-profilers",
    "collector.perf.software-profilers",
    "collector.perf.tracepoint",
    "collector.qdisc.device-exclude",
    "collector.qdisc.device-include",
    "collector.runit.servicedir",
    "collector.supervisord.url",
    "collector.sysctl.include",
    "collector.sysctl.include-info",
    "collector.systemd.unit-exclude",
    "collector.systemd.unit-include",
];

const SWITCHES_WITHOUT_EFFECT: &[&str] = &[
    "collector.bcache.priorityStats",
    "collector.netclass_rtnl.with-stats",
    "collector.netdev.address-info",
    "collector.netdev.enable-detailed-metrics",
    "collector.netdev.label-ifalias",
    "collector.ntp.server-is-local",
    "collector.pcidevice.names",
    "collector.perf.disable-cache-profilers",
    "collector.perf.disable-hardware-profilers",
    "collector.perf.disable-software-profilers",
    "collector.systemd.enable-restarts-metrics",
    "collector.systemd.enable-start-time-metrics",
    "collector.systemd.enable-task-metrics",
];

/// A boolean flag: name, negated name, what it is for.
type Switch = (&'static str, &'static str, &'static str);

impl Flags {
    /// Explicit choice, else the collector's default.
    pub(crate) fn is_enabled(&self, spec: &Spec) -> bool {
        self.chosen.get(spec.name).copied().unwrap_or(spec.is_default && !self.disable_defaults)
    }
    pub(crate) fn is_asked_for(&self, spec: &Spec) -> bool {
        self.chosen.get(spec.name) == Some(&true)
    }
    /// The last value of a collector's flag, or its default.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.values.get(name).and_then(|v| v.last()).map_or("", String::as_str)
    }
    pub(crate) fn values(&self, name: &str) -> &[String] {
        self.values.get(name).map_or(&[], Vec::as_slice)
    }
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.given.contains(name)
    }
    pub(crate) fn is_set(&self, name: &str) -> bool {
        self.value(name) == "true"
    }
}

impl Default for Flags {
    fn default() -> Self {
        let empty = <Flags as Args>::augment_args(Command::new("node_exporter").no_binary_name(true))
            .try_get_matches_from(std::iter::empty::<&str>());
        // The tables hold a default for everything; were one missing, the empty fallback is what clap would refuse.
        empty.map(|m| Flags::read(&m)).unwrap_or_else(|_| Flags::read(&ArgMatches::default()))
    }
}

fn switches() -> impl Iterator<Item = (&'static str, &'static str, bool, &'static str)> {
    let general = GENERAL_SWITCHES.iter().map(|(on, off, help)| (*on, *off, false, *help));
    let collectors = collectors::ALL.iter().flat_map(|spec| spec.switches).map(|s| (s.on, s.off, s.default, s.help));
    general.chain(collectors)
}

fn value_flags() -> impl Iterator<Item = &'static ValueFlag> {
    GENERAL.iter().chain(collectors::ALL.iter().flat_map(|spec| spec.values))
}

impl Args for Flags {
    fn augment_args(mut command: Command) -> Command {
        for (name, default, aliases, help) in value_flags() {
            let mut arg = Arg::new(*name).long(*name).help(*help).action(ArgAction::Append).allow_hyphen_values(true);
            for alias in *aliases {
                arg = arg.alias(*alias);
            }
            if !default.is_empty() {
                arg = arg.default_value(*default);
            }
            command = command.arg(arg);
        }
        for (on, off, _, help) in switches() {
            command = command
                .arg(Arg::new(on).long(on).help(help).action(ArgAction::SetTrue).overrides_with(off))
                .arg(Arg::new(off).long(off).hide(true).action(ArgAction::SetTrue).overrides_with(on));
        }
        for name in WITHOUT_EFFECT {
            command = command.arg(Arg::new(*name).long(*name).hide(true).action(ArgAction::Append));
        }
        for name in SWITCHES_WITHOUT_EFFECT {
            command = command.arg(Arg::new(*name).long(*name).hide(true).action(ArgAction::SetTrue));
        }
        for spec in collectors::ALL {
            let by_default = if spec.is_default { "enabled" } else { "disabled" };
            let help = format!("Enable the {} collector (default: {by_default}).", spec.name);
            command = command
                .arg(Arg::new(spec.on).long(spec.on).help(help).action(ArgAction::SetTrue).overrides_with(spec.off))
                .arg(Arg::new(spec.off).long(spec.off).hide(true).action(ArgAction::SetTrue).overrides_with(spec.on));
        }
        command
    }
    fn augment_args_for_update(command: Command) -> Command {
        Flags::augment_args(command)
    }
}

impl Flags {
    fn read(matches: &ArgMatches) -> Flags {
        let on = |name: &str| matches.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or(false);
        let (mut values, mut given) = (BTreeMap::new(), BTreeSet::new());
        for (name, default, ..) in value_flags() {
            let got: Vec<String> =
                matches.try_get_many::<String>(name).ok().flatten().map(|v| v.cloned().collect()).unwrap_or_default();
            if matches.try_contains_id(name).is_ok()
                && matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine)
            {
                given.insert(*name);
            }
            let default = (!default.is_empty()).then(|| (*default).to_owned());
            values.insert(*name, if got.is_empty() { default.into_iter().collect() } else { got });
        }
        for (name, off, default, _) in switches() {
            let is_on = on(name) || (default && !on(off));
            values.insert(name, vec![is_on.to_string()]);
        }
        let mut chosen = BTreeMap::new();
        for spec in collectors::ALL {
            if on(spec.on) || on(spec.off) {
                chosen.insert(spec.name, on(spec.on));
            }
        }
        let is_given = |name: &&str| {
            matches.try_contains_id(name).is_ok()
                && matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine)
        };
        let without_effect = WITHOUT_EFFECT.iter().chain(SWITCHES_WITHOUT_EFFECT).copied().filter(is_given).collect();
        let text = |name: &str| values.get(name).and_then(|v: &Vec<String>| v.last()).cloned().unwrap_or_default();
        Flags {
            listen_addresses: values.get("web.listen-address").cloned().unwrap_or_default(),
            web_config_file: text("web.config.file"),
            log_level: text("log.level"),
            log_format: text("log.format"),
            telemetry_path: text("web.telemetry-path"),
            requests_max: text("web.max-requests").parse().unwrap_or(40),
            disable_exporter_metrics: text("web.disable-exporter-metrics") == "true",
            disable_defaults: text("collector.disable-defaults") == "true",
            procfs: text("path.procfs").into(),
            sysfs: text("path.sysfs").into(),
            rootfs: text("path.rootfs").into(),
            udev_data: text("path.udev.data").into(),
            chosen,
            values,
            given,
            without_effect,
        }
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let flags = Flags::read(matches);
        let requests = flags.value("web.max-requests");
        if requests.parse::<usize>().is_err() {
            let text = format!("invalid value '{requests}' for '--web.max-requests'\n");
            return Err(clap::Error::raw(clap::error::ErrorKind::ValueValidation, text));
        }
        if !flags.telemetry_path.starts_with('/') {
            let text = "the value of '--web.telemetry-path' must begin with a slash\n";
            return Err(clap::Error::raw(clap::error::ErrorKind::ValueValidation, text));
        }
        Ok(flags)
    }
    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Flags::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Flags, clap::Error> {
        let command = Flags::augment_args(Command::new("node_exporter").no_binary_name(true));
        Flags::from_arg_matches(&command.try_get_matches_from(arguments)?)
    }

    fn enabled(flags: &Flags) -> Vec<&'static str> {
        collectors::ALL.iter().filter(|s| flags.is_enabled(s)).map(|s| s.name).collect()
    }

    #[test]
    fn collectors_are_chosen_as_upstream() {
        let all = enabled(&Flags::default());
        assert!(all.contains(&"cpu") && !all.contains(&"processes"));
        assert_eq!(enabled(&parse(&["--collector.disable-defaults", "--collector.cpu"]).unwrap()), ["cpu"]);
        let flags = parse(&["--no-collector.cpu", "--collector.processes"]).unwrap();
        assert!(!enabled(&flags).contains(&"cpu") && enabled(&flags).contains(&"processes"));
        assert!(enabled(&parse(&["--no-collector.cpu", "--collector.cpu"]).unwrap()).contains(&"cpu"));
    }

    #[test]
    fn values_have_defaults_and_old_names() {
        let flags = Flags::default();
        assert_eq!((flags.telemetry_path.as_str(), flags.requests_max), ("/metrics", 40));
        assert_eq!(flags.listen_addresses, [":9100"]);
        assert!(flags.is_set("collector.cpu.guest") && !flags.is_set("collector.cpu.info"));
        let flags = parse(&["--collector.filesystem.ignored-mount-points=^/x", "--no-collector.cpu.guest"]).unwrap();
        assert_eq!(flags.value("collector.filesystem.mount-points-exclude"), "^/x");
        assert!(!flags.is_set("collector.cpu.guest"));
        assert!(flags.is_given("collector.filesystem.mount-points-exclude") && !flags.is_given("path.procfs"));
        let flags = parse(&["--collector.systemd.unit-include=x", "--collector.netdev.address-info"]).unwrap();
        assert_eq!(flags.without_effect, ["collector.systemd.unit-include", "collector.netdev.address-info"]);
        assert!(parse(&["--web.max-requests=x"]).is_err());
        assert!(parse(&["--collector.nonsense"]).is_err());
    }
}
