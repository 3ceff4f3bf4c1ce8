//! Every HTTP mechanism against a server with recorded answers: what we find, and that the real Prometheus (`PEERS`) finds
//! the same from the same server in the same run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use ferula_scraper_discovery::{ConsulSd, DockerSd, HttpSd, Mechanism, NomadSd};
use serde_json::json as j;
use support::{Answer, Asked, Peer, json, missing};

/// One configuration of one mechanism, with the server it talks to.
struct Case {
    name: &'static str,
    mechanism: &'static str,
    /// `ADDRESS` stands for the server's `host:port`.
    yaml: &'static str,
    answer: Box<dyn Fn(&Asked) -> Answer + Send + Sync>,
    /// Targets to be found.
    targets: usize,
    /// One label that one of them must have.
    label: (&'static str, &'static str),
}

fn config(mechanism: &str, yaml: &str) -> Mechanism {
    fn read<T: serde::de::DeserializeOwned>(yaml: &str) -> T {
        ferula_yaml::from_str("test", yaml).unwrap()
    }
    match mechanism {
        "consul" => read::<ConsulSd>(yaml).into(),
        "docker" => read::<DockerSd>(yaml).into(),
        "http" => read::<HttpSd>(yaml).into(),
        "nomad" => read::<NomadSd>(yaml).into(),
        other => panic!("{other}"),
    }
}

/// Answers by path; a version in front of Docker's paths does not matter.
fn routes(
    table: Vec<(&'static str, serde_json::Value)>,
    headers: &'static str,
) -> Box<dyn Fn(&Asked) -> Answer + Send + Sync> {
    let table: BTreeMap<&str, serde_json::Value> = table.into_iter().collect();
    Box::new(move |asked| {
        let path = match asked.path.strip_prefix("/v1.") {
            Some(rest) => rest.find('/').map_or("", |at| &rest[at..]),
            None => &asked.path,
        };
        match table.get(path) {
            Some(value) => {
                let (status, mut all, text) = json(value);
                all.push_str(headers);
                (status, all, text)
            }
            None => missing(),
        }
    })
}

fn cases() -> Vec<Case> {
    let node = |name: &str, address: &str| {
        j!({"Node": name, "Address": address, "Datacenter": "dc1", "TaggedAddresses": {"lan": address, "wan-ip": "8.8.8.8"},
            "Meta": {"rack.id": "r1"}})
    };
    let consul = vec![
        ("/v1/agent/self", j!({"Config": {"Datacenter": "dc1", "NodeName": "n"}})),
        ("/v1/catalog/services", j!({"api": ["prod", "v2"], "web": [], "db": ["prod"]})),
        (
            "/v1/health/service/api",
            j!([
                {"Node": node("n1", "10.0.0.1"), "Service": {"ID": "api-1", "Service": "api", "Tags": ["prod", "v2"], "Port": 80,
                    "Address": "", "Meta": {"team": "a"}}, "Checks": [{"CheckID": "serfHealth", "Status": "passing"}]},
                {"Node": node("n2", "10.0.0.2"), "Service": {"ID": "api-2", "Service": "api", "Tags": ["prod"], "Port": 81,
                    "Address": "10.1.0.2", "Meta": null}, "Checks": [{"CheckID": "a", "Status": "passing"}, {"CheckID": "b", "Status": "critical"}]}
            ]),
        ),
        (
            "/v1/health/service/web",
            j!([{"Node": node("n3", "fd00::3"), "Service": {"ID": "web", "Service": "web", "Tags": null, "Port": 8080, "Address": ""},
                "Checks": [{"CheckID": "_node_maintenance", "Status": "critical"}]}]),
        ),
        ("/v1/health/service/db", j!([])),
    ];
    let instance = |id: &str, port: i64, tags: serde_json::Value| {
        j!({"ID": id, "ServiceName": "cache", "Namespace": "default", "NodeID": "node-1", "Datacenter": "dc1", "JobID": "j",
            "AllocID": "a", "Tags": tags, "Address": "127.0.0.1", "Port": port})
    };
    let network = |id: &str, ip: &str| j!({"NetworkID": id, "IPAddress": ip});
    let docker = vec![
        ("/_ping", j!("OK")),
        (
            "/containers/json",
            j!([
                {"Id": "c1", "Names": ["/web"], "Labels": {"com.docker.x": "y"}, "HostConfig": {"NetworkMode": "front"},
                    "Ports": [{"PrivatePort": 80, "PublicPort": 8080, "IP": "0.0.0.0", "Type": "tcp"}, {"PrivatePort": 53, "Type": "udp"}],
                    "NetworkSettings": {"Networks": {"front": network("n1", "172.0.0.2"), "back": network("n2", "172.1.0.2")}}},
                {"Id": "c2", "Names": ["/side"], "Labels": {}, "HostConfig": {"NetworkMode": "container:c1"}, "Ports": [],
                    "NetworkSettings": {"Networks": {}}},
                {"Id": "c3", "Names": ["/hosted"], "Labels": {}, "HostConfig": {"NetworkMode": "host"}, "Ports": [],
                    "NetworkSettings": {"Networks": {"host": network("n3", "")}}},
                {"Id": "c4", "Names": ["/dns"], "Labels": null, "HostConfig": {"NetworkMode": "back"},
                    "Ports": [{"PrivatePort": 53, "Type": "udp"}], "NetworkSettings": {"Networks": {"back": network("n2", "172.1.0.4")}}}
            ]),
        ),
        (
            "/networks",
            j!([
                {"Name": "front", "Id": "n1", "Scope": "local", "Internal": false, "Ingress": false, "Labels": {"a-b": "c"}},
                {"Name": "back", "Id": "n2", "Scope": "local", "Internal": true, "Ingress": false, "Labels": {}},
                {"Name": "host", "Id": "n3", "Scope": "local", "Internal": false, "Ingress": false, "Labels": null}
            ]),
        ),
    ];
    vec![
        Case {
            name: "http",
            mechanism: "http",
            yaml: "url: http://ADDRESS/sd",
            answer: routes(vec![("/sd", j!([{"targets": ["a:1", "b:2"], "labels": {"__meta_x": "y"}}]))], ""),
            targets: 2,
            label: ("__meta_x", "y"),
        },
        Case {
            name: "consul",
            mechanism: "consul",
            yaml: "server: ADDRESS\nnode_meta: {a: b}\nfilter: 'x == y'",
            answer: routes(consul.clone(), "x-consul-index: 7\r\n"),
            targets: 3,
            label: ("__meta_consul_health", "maintenance"),
        },
        Case {
            name: "consul-named",
            mechanism: "consul",
            yaml: "server: ADDRESS\ndatacenter: dc1\nservices: [api, db]\ntag_separator: ';'",
            answer: routes(consul.clone(), "x-consul-index: 7\r\n"),
            targets: 2,
            label: ("__meta_consul_tags", ";prod;v2;"),
        },
        Case {
            name: "consul-tagged",
            mechanism: "consul",
            yaml: "server: ADDRESS\ntags: [prod, v2]\npath_prefix: /gate",
            answer: {
                let inner = routes(consul, "x-consul-index: 7\r\n");
                Box::new(move |asked| {
                    let path = asked.path.strip_prefix("/gate").unwrap_or("/none").to_owned();
                    let (method, query) = (asked.method.clone(), asked.query.clone());
                    inner(&Asked { method, path, query, head: String::new(), body: String::new() })
                })
            },
            targets: 2,
            label: ("__meta_consul_tagged_address_wan_ip", "8.8.8.8"),
        },
        Case {
            name: "nomad",
            mechanism: "nomad",
            yaml: "server: http://ADDRESS",
            answer: routes(
                vec![
                    (
                        "/v1/services",
                        j!([{"Namespace": "default", "Services": [{"ServiceName": "cache", "Tags": ["x"]}]}]),
                    ),
                    ("/v1/service/cache", j!([instance("i1", 30456, j!(["x", "y"])), instance("i2", 30457, j!(null))])),
                ],
                "x-nomad-index: 3\r\n",
            ),
            targets: 2,
            label: ("__meta_nomad_tags", ",x,y,"),
        },
        Case {
            name: "docker",
            mechanism: "docker",
            yaml: "host: http://ADDRESS\nfilters: [{name: status, values: [running]}]",
            answer: routes(docker.clone(), "api-version: 1.44\r\nostype: linux\r\n"),
            targets: 4,
            label: ("__meta_docker_network_label_a_b", ""),
        },
        Case {
            name: "docker-all-networks",
            mechanism: "docker",
            yaml: "host: http://ADDRESS\nmatch_first_network: false\nport: 9100\nhost_networking_host: gateway",
            answer: routes(docker, "api-version: 1.44\r\nostype: linux\r\n"),
            targets: 6,
            label: ("__meta_docker_network_label_a_b", "c"),
        },
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_what_the_server_says_and_prometheus_finds() {
    let mut following = Vec::new();
    let mut ours = BTreeMap::new();
    let mut jobs = String::new();
    let peers = support::peers("mechanisms beside Prometheus");
    for case in cases() {
        let (address, log) = support::serve(case.answer).await;
        let yaml = case.yaml.replace("ADDRESS", &address);
        let mut follow = support::follow(config(case.mechanism, &yaml));
        let found = follow.found().await;
        let (name, value) = case.label;
        assert_eq!(found.len(), case.targets, "{}: {found:#?}", case.name);
        let has = found.iter().any(|t| t.get(name).map_or("", String::as_str) == value);
        assert!(has, "{}: {name}={value} in {found:#?}", case.name);
        ours.insert(case.name.to_owned(), found);
        following.push((follow, log));
        let job = support::job(case.name, case.mechanism, &yaml);
        if let Some(peers) = &peers {
            match support::accepted(peers, &format!("scrape_configs:\n{job}")) {
                Ok(()) => jobs.push_str(&job),
                Err(e) => {
                    println!("SKIPPED {} beside Prometheus: {}", case.name, e.lines().last().unwrap_or(""));
                    ours.remove(case.name);
                }
            }
        }
    }
    if let Some(peers) = peers {
        compare(&peers, &jobs, &ours).await;
    }
}

async fn compare(
    peers: &Path,
    jobs: &str,
    ours: &BTreeMap<String, std::collections::BTreeSet<BTreeMap<String, String>>>,
) {
    let peer = Peer::start(peers, jobs);
    let theirs = peer.discovered(&ours.iter().map(|(n, t)| (n.clone(), t.len())).collect()).await;
    let mut different = 0;
    for (name, found) in ours {
        let peers = theirs.get(name).cloned().unwrap_or_default();
        let equal = found.intersection(&peers).count();
        println!("{name}: {} targets, Prometheus {}, equal {equal}", found.len(), peers.len());
        if *found != peers {
            different += 1;
            print!("{}", support::difference(found, &peers));
        }
    }
    if different > 0 {
        print!("{}", peer.complaints());
    }
    assert_eq!(different, 0, "mechanisms with other targets than Prometheus");
}
