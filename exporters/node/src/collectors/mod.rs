//! All collectors, in one table: name, default, flags, and how to build each.
mod arp;
mod attributes;
mod bonding;
mod btrfs;
mod buddyinfo;
mod cgroups;
mod conntrack;
mod cpu;
mod cpu_vulnerabilities;
mod cpufreq;
mod diskstats;
mod dmi;
mod dmmultipath;
mod edac;
mod entropy;
mod fibrechannel;
mod filefd;
mod filesystem;
mod hwmon;
mod infiniband;
mod interrupts;
mod ipvs;
mod kernel_hung;
mod ksmd;
mod lnstat;
mod loadavg;
mod mdadm;
mod meminfo;
mod meminfo_numa;
mod netclass;
mod netdev;
mod netstat;
mod nfs;
mod nfsd;
mod nvme;
mod os;
mod powersupplyclass;
mod pressure;
mod processes;
mod rapl;
mod schedstat;
mod selinux;
mod slabinfo;
mod sockstat;
mod softirqs;
mod softnet;
mod stat;
mod tapestats;
mod textfile;
mod thermal_zone;
mod time;
mod timex;
mod udp_queues;
mod uname;
mod vmstat;
mod watchdog;
mod xfrm;
mod xfs;
mod zfs;
mod zoneinfo;

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
    spec!("bcache", true, None),
    spec!("bcachefs", true, None),
    spec!("bonding", true, plain!(bonding::collect)),
    spec!("btrfs", true, plain!(btrfs::collect)),
    spec!("buddyinfo", false, plain!(buddyinfo::collect)),
    spec!("cgroups", false, plain!(cgroups::collect)),
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
    spec!("cpu_vulnerabilities", false, plain!(cpu_vulnerabilities::collect)),
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
    spec!("dmmultipath", true, plain!(dmmultipath::collect)),
    spec!("drbd", false, None),
    spec!("drm", false, None),
    spec!("edac", true, plain!(edac::collect)),
    spec!("entropy", true, plain!(entropy::collect)),
    spec!("ethtool", false, None),
    spec!("fibrechannel", true, plain!(fibrechannel::collect)),
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
    spec!(
        "hwmon",
        true,
        Some(hwmon::build),
        [
            (
                "collector.hwmon.chip-include",
                "",
                &[],
                "Regexp of hwmon chip to include (mutually exclusive to chip-exclude)."
            ),
            (
                "collector.hwmon.chip-exclude",
                "",
                &[],
                "Regexp of hwmon chip to exclude (mutually exclusive to chip-include)."
            ),
            (
                "collector.hwmon.sensor-include",
                "",
                &[],
                "Regexp of hwmon sensor to include (mutually exclusive to sensor-exclude)."
            ),
            (
                "collector.hwmon.sensor-exclude",
                "",
                &[],
                "Regexp of hwmon sensor to exclude (mutually exclusive to sensor-include)."
            ),
        ]
    ),
    spec!("infiniband", true, plain!(infiniband::collect)),
    spec!(
        "interrupts",
        false,
        Some(interrupts::build),
        [
            ("collector.interrupts.name-include", "", &[], "Regexp of interrupts name to include."),
            ("collector.interrupts.name-exclude", "", &[], "Regexp of interrupts name to exclude."),
        ],
        [switch!("collector.interrupts.include-zeros", true, "Include interrupts that have a zero value.")]
    ),
    spec!(
        "ipvs",
        true,
        Some(ipvs::build),
        [(
            "collector.ipvs.backend-labels",
            "local_address,local_port,remote_address,remote_port,proto,local_mark",
            &[],
            "Comma separated list for IPVS backend stats labels."
        )]
    ),
    spec!("kernel_hung", true, plain!(kernel_hung::collect)),
    spec!("ksmd", false, plain!(ksmd::collect)),
    spec!("lnstat", false, plain!(lnstat::collect)),
    spec!("loadavg", true, plain!(loadavg::collect)),
    spec!("logind", false, None),
    spec!("mdadm", true, plain!(mdadm::collect)),
    spec!("meminfo", true, plain!(meminfo::collect)),
    spec!("meminfo_numa", false, plain!(meminfo_numa::collect)),
    spec!("mountstats", false, None),
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
    spec!("network_route", false, None),
    spec!("nfs", true, plain!(nfs::collect)),
    spec!("nfsd", true, plain!(nfsd::collect)),
    spec!("ntp", false, None),
    spec!("nvme", true, plain!(nvme::collect)),
    spec!("nvmesubsystem", false, None),
    spec!("os", true, plain!(os::collect)),
    spec!("pcidevice", false, None),
    spec!("perf", false, None),
    spec!(
        "powersupplyclass",
        true,
        Some(powersupplyclass::build),
        [(
            "collector.powersupply.ignored-supplies",
            "^$",
            &[],
            "Regexp of power supplies to ignore for powersupplyclass collector."
        )]
    ),
    spec!("pressure", true, plain!(pressure::collect)),
    spec!("processes", false, plain!(processes::collect)),
    spec!("qdisc", false, None),
    spec!(
        "rapl",
        true,
        Some(rapl::build),
        [],
        [switch!("collector.rapl.enable-zone-label", false, "Puts the zone into a label instead of the name.")]
    ),
    spec!("runit", false, None),
    spec!("schedstat", true, plain!(schedstat::collect)),
    spec!("selinux", true, plain!(selinux::collect)),
    spec!(
        "slabinfo",
        false,
        Some(slabinfo::build),
        [
            ("collector.slabinfo.slabs-include", ".*", &[], "Regexp of slabs to include in slabinfo collector."),
            ("collector.slabinfo.slabs-exclude", "", &[], "Regexp of slabs to exclude in slabinfo collector."),
        ]
    ),
    spec!("sockstat", true, plain!(sockstat::collect)),
    spec!("softirqs", false, plain!(softirqs::collect)),
    spec!("softnet", true, plain!(softnet::collect)),
    spec!(
        "stat",
        true,
        Some(stat::build),
        [],
        [switch!("collector.stat.softirq", false, "Export softirq calls per vector.")]
    ),
    spec!("supervisord", false, None),
    spec!("swap", false, None),
    spec!("sysctl", false, None),
    spec!("systemd", false, None),
    spec!(
        "tapestats",
        true,
        Some(tapestats::build),
        [("collector.tapestats.ignored-devices", "^$", &[], "Regexp of devices to ignore for tapestats.")]
    ),
    spec!("tcpstat", false, None),
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
    spec!("timex", true, plain!(timex::collect)),
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
    spec!("watchdog", true, plain!(watchdog::collect)),
    spec!("wifi", false, None),
    spec!("xfrm", false, plain!(xfrm::collect)),
    spec!("xfs", true, plain!(xfs::collect)),
    spec!("zfs", true, plain!(zfs::collect)),
    spec!("zoneinfo", false, plain!(zoneinfo::collect)),
];
