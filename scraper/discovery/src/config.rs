//! `static_configs` and the `*_sd_configs` of scrape and Alertmanager configurations.
use std::collections::BTreeMap;

use ferula_yaml::Duration;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::group::{TargetGroup, WrittenGroup};
use crate::mechanism::Mechanism;

/// One entry of `static_configs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StaticGroup {
    pub targets: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

impl StaticGroup {
    pub(crate) fn group(&self, index: usize) -> TargetGroup {
        let written = WrittenGroup { targets: self.targets.clone(), labels: self.labels.clone() };
        written.into_group(index.to_string(), &[])
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileSd {
    pub files: Vec<String>,
    pub refresh_interval: Duration,
}

impl Default for FileSd {
    fn default() -> Self {
        FileSd { files: Vec::new(), refresh_interval: Duration::from_secs(5 * 60) }
    }
}

impl FileSd {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.files.is_empty() {
            return Err(Error::Config("file service discovery config must contain at least one path name".into()));
        }
        for path in &self.files {
            let stem = [".json", ".yml", ".yaml", ".JSON", ".YML", ".YAML"].iter().find_map(|e| path.strip_suffix(e));
            // At most one asterisk, in the last segment.
            let fits = stem.is_some_and(|s| match s.split_once('*') {
                Some((_, after)) => !after.contains('/'),
                None => true,
            });
            if !fits {
                return Err(Error::Config(format!("path name {path:?} is not valid for file discovery")));
            }
        }
        Ok(())
    }
}

ferula_net::http_config_struct! {
    /// `http_sd_configs`.
    pub struct HttpSd {
        pub url: String = String::new(),
        pub refresh_interval: Duration = Duration::from_secs(60),
        @http_config
    }
}

impl HttpSd {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.url.is_empty() {
            return Err(Error::Config("URL is missing".into()));
        }
        let url = crate::api::parse_url(&self.url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Error::Config("URL scheme must be 'http' or 'https'".into()));
        }
        if url.host_str().unwrap_or("").is_empty() {
            return Err(Error::Config("host is missing in URL".into()));
        }
        Ok(())
    }
}

/// Where one job finds its targets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SdConfigs {
    pub static_configs: Vec<StaticGroup>,
    /// In the order of their fields.
    pub mechanisms: Vec<Mechanism>,
    /// Mechanisms that are configured but not built in.
    pub not_built: Vec<&'static str>,
}

impl SdConfigs {
    /// What upstream refuses; mechanisms of other builds are not errors here.
    pub fn validate(&self) -> Result<(), Error> {
        for group in &self.static_configs {
            for address in &group.targets {
                check_address(address)?;
            }
        }
        self.mechanisms.iter().try_for_each(Mechanism::validate)
    }

    /// Refuses what this build cannot do, by name.
    pub fn require_built(&self) -> Result<(), Error> {
        match self.not_built.first() {
            Some(mechanism) => Err(Error::NotBuilt { mechanism }),
            None => Ok(()),
        }
    }
}

/// An address is `host:port`, never a URL.
pub fn check_address(address: &str) -> Result<(), Error> {
    if address.contains('/') {
        return Err(Error::Config(format!("{address:?} is not a valid hostname")));
    }
    Ok(())
}

/// Hidden pieces of [`crate::discovery_struct`].
#[doc(hidden)]
pub mod discovery_struct_parts {
    pub fn unset<T: Default + PartialEq>(v: &T) -> bool {
        *v == T::default()
    }

    /// A list whose null entries are mistakes.
    pub fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Vec<crate::StaticGroup>, D::Error> {
        let groups: Vec<Option<crate::StaticGroup>> = serde::Deserialize::deserialize(d)?;
        let groups: Option<Vec<_>> = groups.into_iter().collect();
        groups.ok_or_else(|| serde::de::Error::custom("empty or null section in static_configs"))
    }
}

/// As `ferula_net::http_config_struct`, with the service discovery fields of scrape and Alertmanager configurations added
/// and `discovery()` to collect them.
#[macro_export]
macro_rules! discovery_struct {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $( $(#[$fm:meta])* pub $field:ident : $ty:ty = $default:expr, )*
            @http_config
            $( $(#[$gm:meta])* pub $later:ident : $later_ty:ty = $later_default:expr, )*
        }
    ) => {
        $crate::discovery_struct! {
            @fields
            [ $(#[$meta])* pub struct $name { $( $(#[$fm])* pub $field : $ty = $default, )* @http_config
              $( $(#[$gm])* pub $later : $later_ty = $later_default, )* } ]
            $name
            [
                (file_sd_configs, FileSd) (http_sd_configs, HttpSd) (kubernetes_sd_configs, KubernetesSd)
                (consul_sd_configs, ConsulSd) (dns_sd_configs, DnsSd) (docker_sd_configs, DockerSd)
                (nomad_sd_configs, NomadSd)
                (azure_sd_configs, AzureSd)
                (digitalocean_sd_configs, DigitalOceanSd)
                (dockerswarm_sd_configs, DockerSwarmSd)
                (ec2_sd_configs, Ec2Sd)
                (eureka_sd_configs, EurekaSd)
                (gce_sd_configs, GceSd)
                (hetzner_sd_configs, HetznerSd)
                (lightsail_sd_configs, LightsailSd)
                (puppetdb_sd_configs, PuppetDbSd)
                (scaleway_sd_configs, ScalewaySd)
                (vultr_sd_configs, VultrSd)
            ]
            [
                (aws_sd_configs, "aws")
                (ionos_sd_configs, "ionos")
                (kuma_sd_configs, "kuma")
                (linode_sd_configs, "linode")
                (marathon_sd_configs, "marathon")
                (nerve_sd_configs, "nerve")
                (oci_sd_configs, "oci")
                (openstack_sd_configs, "openstack")
                (outscale_sd_configs, "outscale")
                (ovhcloud_sd_configs, "ovhcloud")
                (serverset_sd_configs, "serverset")
                (stackit_sd_configs, "stackit")
                (triton_sd_configs, "triton")
                (uyuni_sd_configs, "uyuni")
            ]
        }
    };
    (
        @fields
        [ $(#[$meta:meta])* pub struct $name:ident {
            $( $(#[$fm:meta])* pub $field:ident : $ty:ty = $default:expr, )*
            @http_config
            $( $(#[$gm:meta])* pub $later:ident : $later_ty:ty = $later_default:expr, )*
        } ]
        $same:ident
        [ $( ($built:ident, $config:ident) )* ]
        [ $( ($foreign:ident, $mechanism:literal) )* ]
    ) => {
        $crate::ferula_net::http_config_struct! {
            $(#[$meta])*
            pub struct $name {
                $( $(#[$fm])* pub $field : $ty = $default, )*
                @http_config
                $( $(#[$gm])* pub $later : $later_ty = $later_default, )*
                #[serde(
                    skip_serializing_if = "Vec::is_empty",
                    deserialize_with = "ferula_scraper_discovery::discovery_struct_parts::present"
                )]
                pub static_configs: Vec<$crate::StaticGroup> = Vec::new(),
                $(
                    #[serde(skip_serializing_if = "Vec::is_empty")]
                    pub $built: Vec<$crate::$config> = Vec::new(),
                )*
                $(
                    #[serde(skip_serializing_if = "ferula_scraper_discovery::discovery_struct_parts::unset")]
                    pub $foreign: $crate::Foreign = $crate::Foreign(0),
                )*
            }
        }

        impl $same {
            /// All service discovery fields in one piece.
            pub fn discovery(&self) -> $crate::SdConfigs {
                let mut mechanisms: Vec<$crate::Mechanism> = Vec::new();
                $( mechanisms.extend(self.$built.iter().cloned().map($crate::Mechanism::from)); )*
                let mut not_built = Vec::new();
                $( if self.$foreign.0 > 0 { not_built.push($mechanism); } )*
                $crate::SdConfigs { static_configs: self.static_configs.clone(), mechanisms, not_built }
            }
            /// Joins relative file names of the service discovery fields to the configuration file's directory.
            pub fn set_discovery_directory(&mut self, dir: &std::path::Path) {
                $( self.$built.iter_mut().for_each(|c| $crate::SdConfig::set_directory(c, dir)); )*
            }
        }
    };
}
