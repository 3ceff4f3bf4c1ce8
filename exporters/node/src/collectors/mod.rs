//! All collectors, in one table: name, default, flags, and how to build each.
mod arp;
mod bonding;
mod conntrack;
mod cpu;
mod cpufreq;
mod diskstats;
mod dmi;
mod edac;
mod entropy;
mod filefd;
mod filesystem;
mod kernel_hung;
mod loadavg;
mod meminfo;
mod netclass;
mod netdev;
mod netstat;
mod os;
mod pressure;
mod schedstat;
mod selinux;
mod sockstat;
mod softnet;
mod stat;
mod textfile;
mod thermal_zone;
mod time;
mod udp_queues;
mod uname;
mod vmstat;

use std::sync::Arc;

use ferula_exporters_shell::CollectError;
use ferula_exposition::family::Family;

use crate::Error;
use crate::flags::Flags;
use crate::source::Source;

/// What a collector is once it is built.
pub(crate) type Collect = Box<dyn Fn(&mut Vec<Family>) -> Collected + Send + Sync>;

/// Makes a collector; an error means that a flag's value is of no use.
pub(crate) type Build = fn(&Context) -> Result<Collect, Error>;

/// Families appended before an error are shown all the same.
pub(crate) type Collected = Result<(), CollectError>;

pub(crate) struct Context {
    pub flags: Arc<Flags>,
    pub source: Arc<Source>,
}

pub(crate) struct Spec {
    pub name: &'static str,
    /// `collector.<name>` and `no-collector.<name>`.
    pub on: &'static str,
    pub off: &'static str,
    pub is_default: bool,
    /// Flags with values: name, default, older spellings, help.
    pub values: &'static [(&'static str, &'static str, &'static [&'static str], &'static str)],
    pub switches: &'static [Switch],
    /// `None`: the flag is known, the collector is not there yet.
    pub build: Option<Build>,
}

pub(crate) struct Switch {
    pub on: &'static str,
    pub off: &'static str,
    pub default: bool,
    pub help: &'static str,
}

macro_rules! spec {
    ($name:literal, $default:expr, $build:expr) => {
        spec!($name, $default, $build, [], [])
    };
    ($name:literal, $default:expr, $build:expr, [$($value:expr),* $(,)?]) => {
        spec!($name, $default, $build, [$($value),*], [])
    };
    ($name:literal, $default:expr, $build:expr, [$($value:expr),* $(,)?], [$($switch:expr),* $(,)?]) => {
        Spec {
            name: $name,
            on: concat!("collector.", $name),
            off: concat!("no-collector.", $name),
            is_default: $default,
            values: &[$($value),*],
            switches: &[$($switch),*],
            build: $build,
        }
    };
}

macro_rules! switch {
    ($name:literal, $default:expr, $help:literal) => {
        Switch { on: $name, off: concat!("no-", $name), default: $default, help: $help }
    };
}

/// For collectors that are a function of the kernel's files alone.
macro_rules! plain {
    ($function:path) => {
        Some(|context| {
            let source = Arc::clone(&context.source);
            Ok(Box::new(move |out| $function(&source, out)))
        })
    };
}

pub(crate) const ALL: &[Spec] = &[
    spec!(
        "arp",
        true,
        Some(arp::build),
        [
            (
                "collector.arp.device-include",
                "",
                &[],
                "Regexp of arp devices to include (mutually exclusive to device-exclude)."
            ),
            (
                "collector.arp.device-exclude",
                "",
                &[],
                "Regexp of arp devices to exclude (mutually exclusive to device-include)."
            ),
        ],
        [switch!("collector.arp.netlink", true, "Accepted; the numbers are read from /proc.")]
    ),
    spec!("bonding", true, plain!(bonding::collect)),
    spec!("conntrack", true, plain!(conntrack::collect)),
    spec!(
        "cpu",
        true,
        Some(cpu::build),
        [
            ("collector.cpu.info.flags-include", "", &[], "Filter the `flags` field in cpuInfo by this expression."),
            ("collector.cpu.info.bugs-include", "", &[], "Filter the `bugs` field in cpuInfo by this expression."),
        ],
        [
            switch!("collector.cpu.guest", true, "Enables metric node_cpu_guest_seconds_total."),
            switch!("collector.cpu.info", false, "Enables metric cpu_info."),
        ]
    ),
    spec!("cpufreq", true, plain!(cpufreq::collect)),
    spec!(
        "diskstats",
        true,
        Some(diskstats::build),
        [
            (
                "collector.diskstats.device-exclude",
                r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
                &["collector.diskstats.ignored-devices"],
                "Regexp of diskstats devices to exclude (mutually exclusive to device-include)."
            ),
            (
                "collector.diskstats.device-include",
                "",
                &[],
                "Regexp of diskstats devices to include (mutually exclusive to device-exclude)."
            ),
        ]
    ),
    spec!("dmi", true, plain!(dmi::collect)),
    spec!("edac", true, plain!(edac::collect)),
    spec!("entropy", true, plain!(entropy::collect)),
    spec!("filefd", true, plain!(filefd::collect)),
    spec!(
        "filesystem",
        true,
        Some(filesystem::build),
        [
            (
                "collector.filesystem.mount-points-exclude",
                "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
                &["collector.filesystem.ignored-mount-points"],
                "Regexp of mount points to exclude (mutually exclusive to mount-points-include)."
            ),
            (
                "collector.filesystem.mount-points-include",
                "",
                &[],
                "Regexp of mount points to include (mutually exclusive to mount-points-exclude)."
            ),
            (
                "collector.filesystem.fs-types-exclude",
                "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|\
                 nsfs|overlay|proc|procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$",
                &["collector.filesystem.ignored-fs-types"],
                "Regexp of filesystem types to exclude (mutually exclusive to fs-types-include)."
            ),
            (
                "collector.filesystem.fs-types-include",
                "",
                &[],
                "Regexp of filesystem types to include (mutually exclusive to fs-types-exclude)."
            ),
            ("collector.filesystem.mount-timeout", "5s", &[], "How long to wait for a mount to respond."),
            ("collector.filesystem.stat-workers", "4", &[], "Accepted; threads are started as mounts are slow."),
        ]
    ),
    spec!("kernel_hung", true, plain!(kernel_hung::collect)),
    spec!("loadavg", true, plain!(loadavg::collect)),
    spec!("meminfo", true, plain!(meminfo::collect)),
    spec!(
        "netclass",
        true,
        Some(netclass::build),
        [("collector.netclass.ignored-devices", "^$", &[], "Regexp of net devices to ignore for netclass collector.")],
        [
            switch!(
                "collector.netclass.ignore-invalid-speed",
                false,
                "Ignore devices where the speed is invalid. This will be the default behavior in 2.x."
            ),
            switch!("collector.netclass.netlink", false, "Accepted; the properties are read from /sys."),
        ]
    ),
    spec!(
        "netdev",
        true,
        Some(netdev::build),
        [
            (
                "collector.netdev.device-include",
                "",
                &["collector.netdev.device-whitelist"],
                "Regexp of net devices to include (mutually exclusive to device-exclude)."
            ),
            (
                "collector.netdev.device-exclude",
                "",
                &["collector.netdev.device-blacklist"],
                "Regexp of net devices to exclude (mutually exclusive to device-include)."
            ),
        ],
        [switch!("collector.netdev.netlink", true, "Accepted; the numbers are read from /proc and /sys.")]
    ),
    spec!(
        "netstat",
        true,
        Some(netstat::build),
        [(
            "collector.netstat.fields",
            "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)|\
             TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)|\
             Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)|\
             Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$",
            &[],
            "Regexp of fields to return for netstat collector."
        )]
    ),
    spec!("os", true, plain!(os::collect)),
    spec!("pressure", true, plain!(pressure::collect)),
    spec!("schedstat", true, plain!(schedstat::collect)),
    spec!("selinux", true, plain!(selinux::collect)),
    spec!("sockstat", true, plain!(sockstat::collect)),
    spec!("softnet", true, plain!(softnet::collect)),
    spec!(
        "stat",
        true,
        Some(stat::build),
        [],
        [switch!("collector.stat.softirq", false, "Export softirq calls per vector.")]
    ),
    spec!(
        "textfile",
        true,
        Some(textfile::build),
        [(
            "collector.textfile.directory",
            "",
            &[],
            "Directory to read text files with metrics from, supports glob matching. (repeatable)"
        )]
    ),
    spec!("thermal_zone", true, plain!(thermal_zone::collect)),
    spec!("time", true, plain!(time::collect)),
    spec!("udp_queues", true, plain!(udp_queues::collect)),
    spec!("uname", true, plain!(uname::collect)),
    spec!(
        "vmstat",
        true,
        Some(vmstat::build),
        [(
            "collector.vmstat.fields",
            "^(oom_kill|pgpg|pswp|pg.*fault).*",
            &[],
            "Regexp of fields to return for vmstat collector."
        )]
    ),
    spec!("processes", false, None),
];
