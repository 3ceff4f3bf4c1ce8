//! `ec2_sd_configs` and `lightsail_sd_configs`: instances of AWS.
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ferula_model::Labels;
use serde::Deserialize;

use crate::api::{Form, nullable, read};
use crate::aws::{Aws, FORM, Settings};
use crate::discovery_struct_parts::unset;
use crate::docker::Filter;
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join, surrounded};
use crate::metrics::Metrics;
use crate::refresh::Refresh;
use crate::xml::{self, Element};

macro_rules! aws_config {
    ($(#[$meta:meta])* $name:ident { $($more:tt)* }) => {
        ferula_net::http_config_struct! {
            $(#[$meta])*
            pub struct $name {
                #[serde(skip_serializing_if = "unset")]
                pub endpoint: String = String::new(),
                #[serde(skip_serializing_if = "unset")]
                pub region: String = String::new(),
                #[serde(skip_serializing_if = "unset")]
                pub access_key: String = String::new(),
                #[serde(skip_serializing_if = "unset")]
                pub secret_key: ferula_yaml::Secret = ferula_yaml::Secret::default(),
                #[serde(skip_serializing_if = "unset")]
                pub profile: String = String::new(),
                #[serde(skip_serializing_if = "unset")]
                pub role_arn: String = String::new(),
                pub refresh_interval: ferula_yaml::Duration = ferula_yaml::Duration::from_secs(60),
                pub port: u16 = 80,
                $($more)*
                @http_config
            }
        }

        impl $name {
            fn settings(&self) -> Settings {
                Settings {
                    region: self.region.clone(),
                    endpoint: self.endpoint.clone(),
                    access_key: self.access_key.clone(),
                    secret_key: self.secret_key.clone(),
                    profile: self.profile.clone(),
                    role_arn: self.role_arn.clone(),
                }
            }
        }
    };
}

aws_config! {
    /// One entry of `ec2_sd_configs`.
    Ec2Sd {
        #[serde(skip_serializing_if = "unset")]
        pub filters: Vec<Filter> = Vec::new(),
    }
}

aws_config! {
    /// One entry of `lightsail_sd_configs`.
    LightsailSd {}
}

const PREFIX: &str = "__meta_ec2_";

impl Refresh for Ec2Sd {
    const NAME: &'static str = "ec2";
    type Session = Aws;

    fn check(&self) -> Result<(), Error> {
        if self.filters.iter().any(|f| f.values.is_empty()) {
            return Err(Error::Config("EC2 SD configuration filter values cannot be empty".into()));
        }
        Ok(())
    }
    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn open(&self) -> Result<Aws, Error> {
        Aws::new(self.settings(), "ec2", self.http_config())
    }

    async fn refresh(&self, aws: &mut Aws, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        // Zone ids need a permission of their own; without it the label is left out.
        let zones = ask(aws, "DescribeAvailabilityZones", &[], "").await;
        let mut zone_ids = BTreeMap::new();
        for zone in zones.iter().flat_map(|z| items(z, "availabilityZoneInfo")) {
            zone_ids.insert(zone.at(&["zoneName"]).to_owned(), zone.at(&["zoneId"]).to_owned());
        }
        let (mut targets, mut token) = (Vec::new(), String::new());
        loop {
            let page = ask(aws, "DescribeInstances", &self.filters, &token).await?;
            for reservation in items(&page, "reservationSet") {
                for instance in items(reservation, "instancesSet") {
                    targets.extend(self.target(instance, reservation.at(&["ownerId"]), aws.region(), &zone_ids));
                }
            }
            let next = page.at(&["nextToken"]);
            if next.is_empty() || next == token {
                break;
            }
            token = next.to_owned();
        }
        let source = aws.region().to_owned();
        Ok(vec![TargetGroup { source, labels: Meta::new("").labels(), targets }])
    }
}

/// The `item`s of a set.
fn items<'e>(element: &'e Element, set: &'e str) -> impl Iterator<Item = &'e Element> {
    element.child(set).into_iter().flat_map(|s| s.all("item"))
}

async fn ask(aws: &mut Aws, action: &str, filters: &[Filter], token: &str) -> Result<Element, Error> {
    let mut form = Form::default();
    form.append_pair("Action", action).append_pair("Version", "2016-11-15");
    for (i, filter) in (1..).zip(filters) {
        form.append_pair(&format!("Filter.{i}.Name"), &filter.name);
        for (j, value) in (1..).zip(&filter.values) {
            form.append_pair(&format!("Filter.{i}.Value.{j}"), value);
        }
    }
    if !token.is_empty() {
        form.append_pair("NextToken", token);
    }
    let body = aws.post(FORM, None, form.finish()).await?;
    xml::parse(&String::from_utf8_lossy(&body)).map_err(Error::Refresh)
}

impl Ec2Sd {
    /// `None` for an instance without a private address: it cannot be reached by one.
    fn target(&self, i: &Element, owner: &str, region: &str, zone_ids: &BTreeMap<String, String>) -> Option<Labels> {
        let ip = Some(i.at(&["privateIpAddress"])).filter(|ip| !ip.is_empty())?;
        let mut t = Meta::at(PREFIX, &join(ip, self.port.into()));
        t.set("instance_id", i.at(&["instanceId"])).set("region", region).set("owner_id", owner);
        t.set("private_ip", ip).set("private_dns_name", i.at(&["privateDnsName"]));
        t.set("platform", i.at(&["platform"])).set("public_ip", i.at(&["ipAddress"]));
        if !i.at(&["ipAddress"]).is_empty() {
            t.set("public_dns_name", i.at(&["dnsName"]));
        }
        let zone = i.at(&["placement", "availabilityZone"]);
        t.set("ami", i.at(&["imageId"])).set("availability_zone", zone);
        t.set("availability_zone_id", zone_ids.get(zone).map_or("", String::as_str));
        t.set("instance_state", i.at(&["instanceState", "name"])).set("instance_type", i.at(&["instanceType"]));
        t.set("instance_lifecycle", i.at(&["instanceLifecycle"])).set("architecture", i.at(&["architecture"]));
        let vpc = i.at(&["vpcId"]);
        if !vpc.is_empty() {
            t.set("vpc_id", vpc).set("primary_subnet_id", i.at(&["subnetId"]));
            interfaces(&mut t, i);
        }
        for tag in items(i, "tagSet") {
            t.map("tag_", [(&tag.at(&["key"]), &tag.at(&["value"]))]);
        }
        Some(t.labels())
    }
}

/// Subnets and IPv6 addresses of all interfaces; primary addresses stand in the order of attachment.
fn interfaces(t: &mut Meta, instance: &Element) {
    let (mut subnets, mut all, mut primary) = (Vec::<&str>::new(), Vec::new(), BTreeMap::<usize, &str>::new());
    for interface in items(instance, "networkInterfaceSet") {
        let subnet = interface.at(&["subnetId"]);
        if subnet.is_empty() {
            continue;
        }
        if !subnets.contains(&subnet) {
            subnets.push(subnet);
        }
        for address in items(interface, "ipv6AddressesSet") {
            let ip = address.at(&["ipv6Address"]);
            all.push(ip);
            if address.at(&["isPrimaryIpv6"]) == "true" {
                let at: usize = interface.at(&["attachment", "deviceIndex"]).parse().unwrap_or(0);
                primary.insert(at.min(1000), ip);
            }
        }
    }
    t.set("subnet_id", surrounded(&subnets, ",")).set("ipv6_addresses", surrounded(&all, ","));
    let places = primary.keys().next_back().map_or(0, |last| last + 1);
    let placed: Vec<&str> = (0..places).map(|at| primary.get(&at).copied().unwrap_or("")).collect();
    t.set("primary_ipv6_addresses", surrounded(&placed, ","));
}

/// An instance of Lightsail.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Instance {
    #[serde(deserialize_with = "nullable")]
    name: String,
    location: Location,
    #[serde(deserialize_with = "nullable")]
    blueprint_id: String,
    #[serde(deserialize_with = "nullable")]
    bundle_id: String,
    state: State,
    #[serde(deserialize_with = "nullable")]
    support_code: String,
    #[serde(deserialize_with = "nullable")]
    private_ip_address: String,
    #[serde(deserialize_with = "nullable")]
    public_ip_address: String,
    #[serde(deserialize_with = "nullable")]
    ipv6_addresses: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    tags: Vec<Tag>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Location {
    availability_zone: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct State {
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tag {
    #[serde(deserialize_with = "nullable")]
    key: String,
    #[serde(deserialize_with = "nullable")]
    value: String,
}

impl Refresh for LightsailSd {
    const NAME: &'static str = "lightsail";
    type Session = Aws;

    fn check(&self) -> Result<(), Error> {
        self.http_config().validate().map_err(Error::Config)
    }
    fn join(&mut self, dir: &Path) {
        self.set_http_directory(dir);
    }
    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn open(&self) -> Result<Aws, Error> {
        Aws::new(self.settings(), "lightsail", self.http_config())
    }

    async fn refresh(&self, aws: &mut Aws, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default, deserialize_with = "nullable")]
            instances: Vec<Instance>,
        }
        let target = Some("Lightsail_20161128.GetInstances");
        let body = aws.post("application/x-amz-json-1.1", target, "{}".to_owned()).await?;
        let page: Page = read("GetInstances", &body)?;
        let mut targets = Vec::new();
        for i in page.instances.iter().filter(|i| !i.private_ip_address.is_empty()) {
            let mut t = Meta::at("__meta_lightsail_", &join(&i.private_ip_address, self.port.into()));
            t.set("availability_zone", &i.location.availability_zone).set("blueprint_id", &i.blueprint_id);
            t.set("bundle_id", &i.bundle_id).set("instance_name", &i.name).set("instance_state", &i.state.name);
            t.set("instance_support_code", &i.support_code).set("private_ip", &i.private_ip_address);
            t.set("region", aws.region()).set("public_ip", &i.public_ip_address);
            t.set("ipv6_addresses", surrounded(&i.ipv6_addresses, ","));
            t.map("tag_", i.tags.iter().filter(|tag| !tag.key.is_empty()).map(|tag| (&tag.key, &tag.value)));
            targets.push(t.labels());
        }
        let source = aws.region().to_owned();
        Ok(vec![TargetGroup { source, labels: Meta::new("").labels(), targets }])
    }
}
