//! Every HTTP mechanism against a server with recorded answers: what we find, and that the real Prometheus (`PEERS`) finds
//! the same from the same server in the same run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use ferula_scraper_discovery::{
    AzureSd, ConsulSd, DigitalOceanSd, DnsSd, DockerSd, DockerSwarmSd, Ec2Sd, EurekaSd, GceSd, HetznerSd, HttpSd,
    LightsailSd, Mechanism, NomadSd, PuppetDbSd, ScalewaySd, VultrSd,
};
use serde_json::json as j;
use support::{Answer, Asked, Peer, json, missing};

/// One configuration of one mechanism, with the server it talks to.
struct Case {
    name: &'static str,
    mechanism: &'static str,
    /// `ADDRESS` stands for the server's `host:port`.
    yaml: &'static str,
    answer: Box<dyn Fn(&Asked) -> Answer + Send + Sync>,
    /// Targets to be found; 0 where only the comparison says.
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
        "dockerswarm" => read::<DockerSwarmSd>(yaml).into(),
        "ec2" => read::<Ec2Sd>(yaml).into(),
        "eureka" => read::<EurekaSd>(yaml).into(),
        "http" => read::<HttpSd>(yaml).into(),
        "lightsail" => read::<LightsailSd>(yaml).into(),
        "puppetdb" => read::<PuppetDbSd>(yaml).into(),
        "scaleway" => read::<ScalewaySd>(yaml).into(),
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

/// Answers with one text to every request.
fn text(body: &'static str, content_type: &str) -> Box<dyn Fn(&Asked) -> Answer + Send + Sync> {
    let headers = format!("content-type: {content_type}\r\n");
    Box::new(move |_| (200, headers.clone(), body.to_owned()))
}

const EC2_ZONES: &str = "<DescribeAvailabilityZonesResponse><availabilityZoneInfo><item><zoneName>eu-1a</zoneName>\
    <zoneId>euz1</zoneId></item></availabilityZoneInfo></DescribeAvailabilityZonesResponse>";
const EC2_PAGE: &str = r#"<?xml version="1.0"?><DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
<requestId>r</requestId><reservationSet><item><reservationId>x</reservationId><ownerId>4711</ownerId><instancesSet>
<item><instanceId>i-1</instanceId><imageId>ami-1</imageId><instanceState><code>16</code><name>running</name></instanceState>
<privateDnsName>ip-10.internal</privateDnsName><dnsName>ec2.example</dnsName><instanceType>t3.small</instanceType>
<placement><availabilityZone>eu-1a</availabilityZone></placement><platform>windows</platform><architecture>x86_64</architecture>
<privateIpAddress>10.0.0.5</privateIpAddress><ipAddress>1.2.3.4</ipAddress><subnetId>sub-1</subnetId><vpcId>vpc-1</vpcId>
<instanceLifecycle>spot</instanceLifecycle><tagSet><item><key>Name &amp; co</key><value>web</value></item></tagSet>
<networkInterfaceSet><item><subnetId>sub-1</subnetId><attachment><deviceIndex>0</deviceIndex></attachment></item>
<item><subnetId>sub-2</subnetId><attachment><deviceIndex>1</deviceIndex></attachment><ipv6AddressesSet>
<item><ipv6Address>fd00::1</ipv6Address><isPrimaryIpv6>true</isPrimaryIpv6></item><item><ipv6Address>fd00::2</ipv6Address><isPrimaryIpv6>false</isPrimaryIpv6></item>
</ipv6AddressesSet></item></networkInterfaceSet></item>
<item><instanceId>i-2</instanceId><imageId>ami-1</imageId><instanceState><name>stopped</name></instanceState><placement><availabilityZone>eu-1b</availabilityZone></placement></item>
<item><instanceId>i-3</instanceId><imageId>ami-1</imageId><instanceState><name>running</name></instanceState><instanceType>t3.small</instanceType>
<placement><availabilityZone>eu-1b</availabilityZone></placement><privateIpAddress>10.0.0.6</privateIpAddress></item>
</instancesSet></item></reservationSet></DescribeInstancesResponse>"#;
const LIGHTSAIL: &str = r#"{"instances": [{"name": "a", "location": {"availabilityZone": "eu-1a"}, "blueprintId": "b", "bundleId": "c",
    "state": {"name": "running"}, "supportCode": "s/1", "privateIpAddress": "10.0.0.1", "publicIpAddress": "1.1.1.1",
    "ipv6Addresses": ["fd00::1"], "tags": [{"key": "k-1", "value": "v"}]},
    {"name": "b", "location": {"availabilityZone": "eu-1a"}, "blueprintId": "b", "bundleId": "c", "state": {"name": "stopped"}, "supportCode": "s"}]}"#;
const EUREKA: &str = r#"<applications><versions__delta>1</versions__delta><application><name>META</name>
<instance><instanceId>meta-2</instanceId><hostName>meta002.local</hostName><app>META</app><ipAddr>192.168.133.87</ipAddr>
<status>UP</status><overriddenstatus>UNKNOWN</overriddenstatus><port enabled="true">8080</port><securePort enabled="false">443</securePort>
<countryId>1</countryId><dataCenterInfo class="x"><name>MyOwn</name><metadata><zone-id>z</zone-id></metadata></dataCenterInfo>
<metadata><project>meta</project><management.port>8090</management.port></metadata>
<homePageUrl>http://meta002.local:8080/</homePageUrl><statusPageUrl>http://meta002.local:8080/info</statusPageUrl>
<healthCheckUrl>http://meta002.local:8080/health</healthCheckUrl><vipAddress>meta</vipAddress><secureVipAddress>metas</secureVipAddress>
</instance></application></applications>"#;
const PUPPETDB: &str = r#"[{"certname": "edinburgh.example.com", "environment": "prod", "exported": false, "file": "/etc/x.pp", "line": 1,
    "parameters": {"access_log": true, "docroot": "/var/www", "port": 22, "options": ["Indexes", "All"], "empty": [], "labels": {"alias": "e", "n": 1.5}},
    "resource": "49af", "tags": ["roles", "apache"], "title": "vhost", "type": "Apache::Vhost"}]"#;
const SCALEWAY: &str = r#"{"servers": [{"id": "s1", "name": "n1", "hostname": "h1", "boot_type": "local", "commercial_type": "DEV1-S",
    "organization": "o", "project": "p", "tags": ["a", "b"], "state": "running", "zone": "fr-par-1", "private_ip": "10.0.0.1",
    "image": {"id": "im", "name": "debian", "arch": "x86_64"}, "public_ip": {"id": "i", "address": "1.2.3.4", "dynamic": false},
    "public_ips": [{"id": "i", "address": "1.2.3.4", "family": "inet"}, {"id": "k", "address": "2001:db8::2", "family": "inet6"}, {"id": "l", "address": "5.6.7.8", "family": "inet"}],
    "location": {"cluster_id": "1", "hypervisor_id": "2", "node_id": "3", "zone_id": "fr-par-1", "platform_id": "1"},
    "ipv6": {"address": "2001:db8::1", "gateway": "::", "netmask": "64"}, "security_group": {"id": "sg", "name": "Default"}}]}"#;

fn aws_cases() -> Vec<Case> {
    let keys = "endpoint: http://ADDRESS\nregion: eu-1\naccess_key: a\nsecret_key: s";
    vec![
        Case {
            name: "ec2",
            mechanism: "ec2",
            yaml: keys,
            answer: Box::new(|asked| {
                assert!(asked.head.contains("Credential=a/"), "{}", asked.head);
                let page = if asked.body.contains("AvailabilityZones") { EC2_ZONES } else { EC2_PAGE };
                (200, "content-type: text/xml\r\n".to_owned(), page.to_owned())
            }),
            targets: 2,
            label: ("__meta_ec2_primary_ipv6_addresses", ",,fd00::1,"),
        },
        Case {
            name: "lightsail",
            mechanism: "lightsail",
            yaml: keys,
            answer: text(LIGHTSAIL, "application/x-amz-json-1.1"),
            targets: 1,
            label: ("__meta_lightsail_tag_k_1", "v"),
        },
        Case {
            name: "eureka",
            mechanism: "eureka",
            yaml: "server: http://ADDRESS/eureka",
            answer: text(EUREKA, "application/xml"),
            targets: 1,
            label: ("__meta_eureka_app_instance_metadata_management_port", "8090"),
        },
        Case {
            name: "puppetdb",
            mechanism: "puppetdb",
            yaml: "url: http://ADDRESS\nquery: 'resources { type = \"Class\" }'\ninclude_parameters: true\nport: 81",
            answer: text(PUPPETDB, "application/json"),
            targets: 1,
            label: ("__meta_puppetdb_parameter_labels_n", "1.5"),
        },
        Case {
            name: "scaleway",
            mechanism: "scaleway",
            yaml: "api_url: http://ADDRESS\nrole: instance\nproject_id: 8feda53f-15f0-447f-badf-ccb02dad2fc0\naccess_key: SCWXXXXXXXXXXXXXXXXX\nsecret_key: 6d6579e5-a5b9-49fc-a35f-b4feb9b87301",
            answer: text(SCALEWAY, "application/json"),
            targets: 1,
            label: ("__meta_scaleway_instance_tags", ",a,b,"),
        },
    ]
}

/// The swarm recorded in the corpus, in its three roles.
fn swarm_cases() -> Vec<Case> {
    let Ok(corpus) = std::env::var("FERULA_CORPUS") else {
        println!("SKIPPED dockerswarm: FERULA_CORPUS is not set");
        return Vec::new();
    };
    let recorded = |name: &'static str| -> (&'static str, serde_json::Value) {
        let file = Path::new(&corpus).join("sd/moby/swarmprom").join(format!("{}.json", &name[1..]));
        (name, serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap())
    };
    let table = || {
        let mut table = vec![recorded("/services"), recorded("/tasks"), recorded("/nodes"), recorded("/networks")];
        table.push(("/_ping", j!("OK")));
        routes(table, "api-version: 1.40\r\nostype: linux\r\n")
    };
    let case =
        |name, yaml, targets, label| Case { name, mechanism: "dockerswarm", yaml, answer: table(), targets, label };
    vec![
        case("swarm-nodes", "host: http://ADDRESS\nrole: nodes", 5, ("__meta_dockerswarm_node_manager_leader", "true")),
        case(
            "swarm-services",
            "host: http://ADDRESS\nrole: services",
            0,
            ("__meta_dockerswarm_service_mode", "global"),
        ),
        case("swarm-tasks", "host: http://ADDRESS\nrole: tasks", 0, ("__meta_dockerswarm_task_state", "running")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_what_the_server_says_and_prometheus_finds() {
    let mut following = Vec::new();
    let mut ours = BTreeMap::new();
    let mut jobs = String::new();
    let peers = support::peers("mechanisms beside Prometheus");
    for case in cases().into_iter().chain(aws_cases()).chain(swarm_cases()) {
        let (address, log) = support::serve(case.answer).await;
        let yaml = case.yaml.replace("ADDRESS", &address);
        let mut follow = support::follow(config(case.mechanism, &yaml));
        let found = follow.found().await;
        let (name, value) = case.label;
        // Recorded answers say themselves how much there is.
        assert!(case.targets == 0 || found.len() == case.targets, "{}: {found:#?}", case.name);
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

/// Mechanisms whose address is fixed, so that only we can be pointed elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn clouds_with_fixed_addresses() {
    let (server, _) = support::serve(|asked| {
        let body = match (asked.path.as_str(), asked.query.get("page").map(String::as_str)) {
            ("/v1/networks", _) => j!({"networks": [{"id": 7, "name": "my-net"}], "meta": {"pagination": {"next_page": null}}}),
            ("/v1/servers", Some("1")) => j!({"meta": {"pagination": {"next_page": 2}}, "servers": [{"id": 42, "name": "s", "status": "running",
                "public_net": {"ipv4": {"ip": "1.2.3.4"}, "ipv6": {"ip": "2001:db8::/64"}}, "private_net": [{"network": 7, "ip": "10.0.0.2"}],
                "server_type": {"name": "cx11", "cores": 1, "cpu_type": "shared", "memory": 2.0, "disk": 25}, "labels": {"my-key": "v"},
                "datacenter": {"name": "fsn1-dc8", "location": {"name": "fsn1", "network_zone": "eu-central"}},
                "image": {"name": "ubuntu-20.04", "description": "Ubuntu", "os_flavor": "ubuntu", "os_version": "20.04"}}]}),
            ("/v1/servers", _) => j!({"meta": {"pagination": {"next_page": null}}, "servers": []}),
            ("/server", _) => j!([{"server": {"server_ip": "123.4.5.6", "server_number": 321, "server_name": "s1", "product": "DS", "dc": "NBG1-DC1",
                "status": "ready", "cancelled": false, "subnet": [{"ip": "2a01::", "mask": "64"}]}}]),
            ("/v2/droplets", Some("1")) => j!({"links": {"pages": {"next": "x"}}, "droplets": [{"id": 3, "name": "d", "status": "active", "features": ["ipv6"], "tags": ["a", "b"],
                "size_slug": "s-1", "vpc_uuid": "v", "image": {"slug": null, "name": "Ubuntu"}, "region": {"slug": "nyc3"},
                "networks": {"v4": [{"ip_address": "10.0.0.3", "type": "private"}, {"ip_address": "5.6.7.8", "type": "public"}], "v6": []}}]}),
            ("/v2/droplets", _) => j!({"droplets": [], "links": {}}),
            ("/v2/instances", _) => j!({"instances": [{"id": "u", "os": "Debian", "os_id": 352, "ram": 4096, "disk": 80, "main_ip": "7.7.7.7", "vcpu_count": 2,
                "region": "ewr", "plan": "vc2", "tags": ["x"], "features": [], "allowed_bandwidth": 4000, "label": "l"}], "meta": {"links": {"next": ""}}}),
            ("/computeMetadata/v1/instance/service-accounts/default/token", _) if asked.head.contains("metadata-flavor: Google") => {
                j!({"access_token": "tok", "expires_in": 3000})
            }
            ("/compute/v1/projects/p/zones/z/instances", _) if asked.head.contains("Bearer tok") => j!({"items": [{"id": "9", "name": "vm", "status": "RUNNING",
                "zone": "https://x/zones/z", "machineType": "n1", "tags": {"items": ["http"]}, "labels": {"a-b": "c"},
                "metadata": {"items": [{"key": "k", "value": "v"}]},
                "networkInterfaces": [{"name": "nic0", "network": "net", "subnetwork": "sub", "networkIP": "10.8.0.1", "accessConfigs": [{"type": "ONE_TO_ONE_NAT", "natIP": "8.8.4.4"}]}]}]}),
            ("/t/oauth2/v2.0/token", _) if asked.body.contains("client_secret=s") => j!({"access_token": "az", "expires_in": 3599}),
            ("/subscriptions/sub/providers/Microsoft.Compute/virtualMachines", _) if asked.head.contains("Bearer az") => j!({"value": [{
                "id": "/subscriptions/sub/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/vm", "name": "vm", "location": "westeurope", "tags": {"env": "x"},
                "properties": {"osProfile": {"computerName": "c"}, "hardwareProfile": {"vmSize": "B1"}, "storageProfile": {"osDisk": {"osType": "Linux"}},
                    "networkProfile": {"networkInterfaces": [{"id": "/nic/1"}]}}}]}),
            ("/subscriptions/sub/providers/Microsoft.Compute/virtualMachineScaleSets", _) => j!({"value": [{"id": "/set/one", "name": "one"}]}),
            ("/set/one/virtualMachines", _) => j!({"value": [{"id": "/subscriptions/sub/resourceGroups/RG2/x", "name": "one_0", "sku": {"name": "B2"}, "location": "l",
                "properties": {"networkProfile": {"networkInterfaces": [{"id": "/nic/2"}, {"id": "/nic/gone"}]}}}]}),
            ("/nic/1", _) => j!({"properties": {"primary": true, "ipConfigurations": [{"properties": {"privateIPAddress": "10.9.0.1",
                "publicIPAddress": {"properties": {"ipAddress": "9.9.9.9"}}}}]}}),
            ("/nic/2", _) => j!({"properties": {"ipConfigurations": [{"properties": {"privateIPAddress": "10.9.0.2"}}]}}),
            _ => return missing(),
        };
        json(&body)
    })
    .await;
    let at = format!("http://{server}");
    let hetzner = |role: &str| HetznerSd { role: role.to_owned(), endpoint: at.clone(), ..HetznerSd::default() };
    let azure = AzureSd {
        subscription_id: "sub".into(),
        tenant_id: "t".into(),
        client_id: "c".into(),
        client_secret: ferula_yaml::Secret::new("s"),
        endpoint: at.clone(),
        ..AzureSd::default()
    };
    let (project, zone) = ("p".to_owned(), "z".to_owned());
    let gce = GceSd { project, zone, endpoint: at.clone(), metadata: at.clone(), ..GceSd::default() };
    type Expected = (Mechanism, usize, &'static str, Vec<(&'static str, &'static str)>);
    let cases: Vec<Expected> = vec![
        (
            hetzner("hcloud").into(),
            1,
            "1.2.3.4:80",
            vec![
                ("__meta_hetzner_hcloud_private_ipv4_my_net", "10.0.0.2"),
                ("__meta_hetzner_hcloud_labelpresent_my_key", "true"),
                ("__meta_hetzner_hcloud_memory_size_gb", "2"),
                ("__meta_hetzner_public_ipv6_network", "2001:db8::/64"),
            ],
        ),
        (
            hetzner("robot").into(),
            1,
            "123.4.5.6:80",
            vec![
                ("__meta_hetzner_datacenter", "nbg1-dc1"),
                ("__meta_hetzner_robot_cancelled", "false"),
                ("__meta_hetzner_server_id", "321"),
                ("__meta_hetzner_public_ipv6_network", "2a01::/64"),
            ],
        ),
        (
            DigitalOceanSd { endpoint: at.clone(), ..DigitalOceanSd::default() }.into(),
            1,
            "5.6.7.8:80",
            vec![
                ("__meta_digitalocean_tags", ",a,b,"),
                ("__meta_digitalocean_features", ",ipv6,"),
                ("__meta_digitalocean_private_ipv4", "10.0.0.3"),
            ],
        ),
        (
            VultrSd { endpoint: at.clone(), ..VultrSd::default() }.into(),
            1,
            "7.7.7.7:80",
            vec![
                ("__meta_vultr_instance_ram_mb", "4096"),
                ("__meta_vultr_instance_os_id", "352"),
                ("__meta_vultr_instance_tags", ",x,"),
            ],
        ),
        (
            gce.into(),
            1,
            "10.8.0.1:80",
            vec![
                ("__meta_gce_public_ip", "8.8.4.4"),
                ("__meta_gce_tags", ",http,"),
                ("__meta_gce_label_a_b", "c"),
                ("__meta_gce_metadata_k", "v"),
                ("__meta_gce_interface_ipv4_nic0", "10.8.0.1"),
            ],
        ),
        (
            azure.into(),
            2,
            "10.9.0.1:80",
            vec![
                ("__meta_azure_machine_public_ip", "9.9.9.9"),
                ("__meta_azure_machine_resource_group", "rg"),
                ("__meta_azure_machine_tag_env", "x"),
                ("__meta_azure_machine_size", "B1"),
                ("__meta_azure_machine_os_type", "Linux"),
            ],
        ),
    ];
    for (mechanism, count, address, labels) in cases {
        let name = mechanism.name();
        let found = support::follow(mechanism).found().await;
        assert_eq!(found.len(), count, "{name}: {found:#?}");
        let target = found.iter().find(|t| t["__address__"] == address).unwrap_or_else(|| panic!("{name}: {found:#?}"));
        for (label, value) in labels {
            assert_eq!(target.get(label).map(String::as_str), Some(value), "{name}: {label} of {target:#?}");
        }
    }
}

/// A name server that knows `name.test` in every type, and nothing else.
async fn name_server() -> std::net::SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buf = [0; 512];
        while let Ok((n, from)) = socket.recv_from(&mut buf).await {
            let asked = &buf[..n];
            let end = 12 + asked[12..].iter().position(|b| *b == 0).unwrap() + 5;
            let (name, kind) = (&asked[12..end - 4], asked[end - 3]);
            let host = |label: &str| {
                let mut out = vec![label.len() as u8];
                out.extend_from_slice(label.as_bytes());
                out.extend_from_slice(b"\x04test\x00");
                out
            };
            let data: Vec<Vec<u8>> = match kind {
                _ if name != b"\x04name\x04test\x00" => vec![],
                1 => vec![vec![10, 0, 0, 1], vec![10, 0, 0, 2]],
                28 => vec![[vec![0xfd], vec![0; 14], vec![1]].concat()],
                33 => vec![[vec![0, 1, 0, 2, 0x1f, 0x90], host("srv")].concat()],
                15 => vec![[vec![0, 10], host("mail")].concat()],
                2 => vec![host("ns")],
                _ => vec![],
            };
            let mut answer = asked[..2].to_vec();
            let code = if name == b"\x04name\x04test\x00" { 0 } else { 3 };
            answer.extend_from_slice(&[0x81, 0x80 | code, 0, 1, 0, data.len() as u8, 0, 0, 0, 0]);
            answer.extend_from_slice(&asked[12..end]);
            for record in data {
                answer.extend_from_slice(&[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, record.len() as u8]);
                answer.extend_from_slice(&record);
            }
            let _ = socket.send_to(&answer, from).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_records_of_every_type() {
    let server = name_server().await;
    for (kind, expected, label) in [
        ("A", vec!["10.0.0.1:9100", "10.0.0.2:9100"], ("__meta_dns_name", "name.test.")),
        ("AAAA", vec!["[fd00::1]:9100"], ("__meta_dns_name", "name.test.")),
        ("srv", vec!["srv.test:8080"], ("__meta_dns_srv_record_target", "srv.test.")),
        ("MX", vec!["mail.test:9100"], ("__meta_dns_mx_record_target", "mail.test.")),
        ("NS", vec!["ns.test:9100"], ("__meta_dns_ns_record_target", "ns.test.")),
    ] {
        let yaml = format!("{{names: [name.test., gone.test.], type: {kind}, port: 9100}}");
        let mut sd: DnsSd = ferula_yaml::from_str("", &yaml).unwrap();
        sd.server = Some(server);
        let mut follow = support::follow(sd.into());
        let found = follow.found().await;
        let addresses: Vec<&str> = found.iter().map(|t| t["__address__"].as_str()).collect();
        assert_eq!(addresses, expected, "{kind}");
        assert_eq!(found.first().unwrap()[label.0], label.1, "{kind}");
        assert_eq!(
            follow.discovery.status("job")[1].last_error,
            None,
            "a name that does not exist is an answer: {kind}"
        );
    }
}
