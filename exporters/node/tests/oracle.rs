//! Upstream's own fixture trees through our collectors, line by line against upstream's expected page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use support::{Fixtures, ask, exporter, lines_of_families, page};

/// Collector, the families it owns on the expected page: prefixes; a `!` takes out, an exact name ends in a blank.
const COLLECTORS: &[(&str, &[&str])] = &[
    (
        "cpu",
        &[
            "node_cpu_seconds_total ",
            "node_cpu_guest_seconds_total ",
            "node_cpu_info ",
            "node_cpu_flag_info ",
            "node_cpu_bug_info ",
            "node_cpu_isolated ",
            "node_cpu_core_throttles_total ",
            "node_cpu_package_throttles_total ",
            "node_cpu_frequency_hertz ",
        ],
    ),
    ("cpufreq", &["node_cpu_scaling_"]),
    ("diskstats", &["node_disk_"]),
    ("filefd", &["node_filefd_"]),
    ("loadavg", &["node_load"]),
    ("meminfo", &["node_memory_", "!node_memory_numa_"]),
    (
        "stat",
        &[
            "node_boot_time_seconds ",
            "node_context_switches_total ",
            "node_forks_total ",
            "node_intr_total ",
            "node_procs_blocked ",
            "node_procs_running ",
            "node_softirqs_total ",
        ],
    ),
    ("time", &["node_time_clocksource"]),
    ("vmstat", &["node_vmstat_"]),
    ("arp", &["node_arp_"]),
    ("bonding", &["node_bonding_"]),
    ("conntrack", &["node_nf_conntrack_"]),
    ("dmi", &["node_dmi_"]),
    ("edac", &["node_edac_"]),
    ("entropy", &["node_entropy_"]),
    ("kernel_hung", &["node_kernel_hung_"]),
    (
        "netclass",
        &[
            "node_network_",
            "!node_network_receive",
            "!node_network_transmit_b",
            "!node_network_transmit_c",
            "!node_network_transmit_d",
            "!node_network_transmit_e",
            "!node_network_transmit_f",
            "!node_network_transmit_p",
            "!node_network_route",
        ],
    ),
    ("netstat", &["node_netstat_"]),
    ("os", &["node_os_"]),
    ("pressure", &["node_pressure_"]),
    ("schedstat", &["node_schedstat_"]),
    ("sockstat", &["node_sockstat_"]),
    ("softnet", &["node_softnet_"]),
    ("textfile", &["testmetric", "node_textfile_scrape_error"]),
    ("thermal_zone", &["node_thermal_", "node_cooling_"]),
    ("udp_queues", &["node_udp_"]),
    ("hwmon", &["node_hwmon_"]),
    ("mdadm", &["node_md_"]),
    ("nvme", &["node_nvme_"]),
    ("powersupplyclass", &["node_power_supply_"]),
    ("rapl", &["node_rapl_"]),
    ("watchdog", &["node_watchdog_"]),
    ("tapestats", &["node_tape_"]),
    ("fibrechannel", &["node_fibrechannel_"]),
    ("xfs", &["node_xfs_"]),
    ("zfs", &["node_zfs_"]),
    ("btrfs", &["node_btrfs_"]),
    ("ipvs", &["node_ipvs_"]),
    ("nfs", &["node_nfs_"]),
    ("nfsd", &["node_nfsd_"]),
    ("infiniband", &["node_infiniband_"]),
    ("processes", &["node_processes_"]),
    ("interrupts", &["node_interrupts_"]),
    ("softirqs", &["node_softirqs_functions_total "]),
    ("buddyinfo", &["node_buddyinfo_"]),
    ("meminfo_numa", &["node_memory_numa_"]),
    ("cpu_vulnerabilities", &["node_cpu_vulnerabilities_"]),
    ("dmmultipath", &["node_dmmultipath_"]),
    ("cgroups", &["node_cgroups_"]),
    ("ksmd", &["node_ksmd_"]),
    ("slabinfo", &["node_slabinfo_"]),
    ("lnstat", &["node_lnstat_"]),
    ("xfrm", &["node_xfrm_"]),
    ("zoneinfo", &["node_zoneinfo_"]),
];

/// What upstream's end-to-end test passes, apart from the paths.
const FLAGS: &[&str] = &[
    "--collector.cpu.info",
    "--collector.cpu.info.flags-include=^(aes|avx.?|constant_tsc)$",
    "--collector.cpu.info.bugs-include=^(cpu_meltdown|spectre_.*|mds)$",
    "--collector.stat.softirq",
    "--collector.hwmon.chip-exclude=^bogus$",
    "--collector.arp.device-exclude=nope",
    "--collector.netclass.ignored-devices=(dmz|int)",
    "--collector.netclass.ignore-invalid-speed",
];

#[tokio::test]
async fn fixtures_give_upstreams_page() {
    let suite = "node exporter fixtures";
    let Some(fixtures) = Fixtures::unpack(suite) else { return };
    let expected = fixtures.expected();
    let mut flags = fixtures.flags();
    flags.extend(FLAGS.iter().map(|f| (*f).to_owned()));
    flags.extend(COLLECTORS.iter().map(|(name, _)| format!("--collector.{name}")));

    let exporter = exporter(&flags);
    let mut wrong = Vec::new();
    let mut lines = 0;
    for (collector, families) in COLLECTORS {
        let got = ask(&exporter, &format!("collect[]={collector}")).await;
        let got = got.replace(&fixtures.root(), "collector/fixtures");
        let (got, want) = (lines_of_families(&got, families), lines_of_families(&expected, families));
        lines += want.len();
        assert!(!want.is_empty(), "{collector}: nothing expected, the table is wrong");
        for l in want.iter().filter(|l| !got.contains(*l)) {
            wrong.push(format!("{collector}: missing    {l}"));
        }
        for l in got.iter().filter(|l| !want.contains(*l)) {
            wrong.push(format!("{collector}: unexpected {l}"));
        }
    }
    println!("{suite}: {} collectors, {lines} lines, {} wrong", COLLECTORS.len(), wrong.len());
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Upstream's cases for the textfile collector: a folder of files and the page that must come out.
#[tokio::test]
async fn textfile_cases() {
    let suite = "node exporter textfile";
    let Some(corpus) = ferula_testkit::corpus(suite, "fixtures/node_exporter/textfile") else { return };
    let mut cases = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let expected_file = entry.unwrap().path();
        if expected_file.extension().is_none_or(|e| e != "out") {
            continue;
        }
        let name = expected_file.file_stem().unwrap().to_string_lossy().into_owned();
        let folder = if name == "glob_extra_dimension" { "*_extra_dimension".to_owned() } else { name.clone() };
        let flags = vec![format!("--collector.textfile.directory={}/{folder}", corpus.display())];
        let got = page(&flags, "collect[]=textfile").await;
        let got = got.replace(&*corpus.to_string_lossy(), "fixtures/textfile");
        // Modification times are the checkout's; upstream's test sets them to 1.
        let line = |l: &str| match l.strip_prefix("node_textfile_mtime_seconds{").and_then(|l| l.rsplit_once(' ')) {
            Some((labels, _)) => format!("node_textfile_mtime_seconds{{{labels} 1"),
            None => l.to_owned(),
        };
        let ours = ["node_scrape_", "node_exporter_", "process_", "promhttp_"];
        let is_ours = |l: &&str| {
            ours.iter().any(|p| l.trim_start_matches("# HELP ").trim_start_matches("# TYPE ").starts_with(p))
        };
        let got: Vec<String> = got.lines().filter(|l| !is_ours(l)).map(line).collect();
        let want = std::fs::read_to_string(&expected_file).unwrap();
        let want: Vec<String> = want.lines().filter(|l| !is_ours(l)).map(str::to_owned).collect();
        assert_eq!(got, want, "{name}");
        cases += 1;
    }
    println!("{suite}: {cases} cases");
    assert!(cases >= 10);
}
