//! The mechanisms that are built in, as one type.
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use crate::config::{FileSd, HttpSd};
use crate::error::Error;
use crate::kubernetes::{self, KubernetesSd};
use crate::manager::Publisher;
use crate::refresh::{self, Refresh};
use crate::{
    AzureSd, ConsulSd, DigitalOceanSd, DnsSd, DockerSd, DockerSwarmSd, Ec2Sd, EurekaSd, GceSd, HetznerSd, LightsailSd,
    NomadSd, PuppetDbSd, ScalewaySd, VultrSd, consul, dns, file,
};

/// A provider ready to run: given where to publish, it runs until it is dropped.
pub(crate) type Prepared = Box<dyn FnOnce(Publisher) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What providers of one discovery share.
#[derive(Default)]
pub(crate) struct Shared {
    pub clusters: Arc<kubernetes::Clusters>,
}

/// One entry of a `*_sd_configs` list.
pub trait SdConfig {
    /// What upstream refuses, in its words.
    fn validate(&self) -> Result<(), Error>;
    /// Joins relative file names to the configuration file's directory.
    fn set_directory(&mut self, dir: &Path);
}

/// How a configuration becomes a provider. Fails where the configuration cannot work at all.
pub(crate) trait Provider: SdConfig {
    fn prepare(&self, shared: &Shared) -> Result<Prepared, Error>;
}

impl<R: Refresh> SdConfig for R {
    fn validate(&self) -> Result<(), Error> {
        self.check()?;
        self.http_config().validate().map_err(Error::Config)
    }
    fn set_directory(&mut self, dir: &Path) {
        self.set_http_directory(dir);
        self.join(dir);
    }
}

impl<R: Refresh> Provider for R {
    fn prepare(&self, _: &Shared) -> Result<Prepared, Error> {
        let (config, session) = (self.clone(), self.open()?);
        Ok(Box::new(move |publish| Box::pin(refresh::run(config, session, publish))))
    }
}

/// A relative path joined to a directory; an empty one stays empty.
pub(crate) fn join_path(dir: &Path, path: &mut String) {
    if !path.is_empty() && !Path::new(path.as_str()).is_absolute() {
        *path = dir.join(path.as_str()).to_string_lossy().into_owned();
    }
}

impl SdConfig for FileSd {
    fn validate(&self) -> Result<(), Error> {
        FileSd::validate(self)
    }
    fn set_directory(&mut self, dir: &Path) {
        self.files.iter_mut().for_each(|path| join_path(dir, path));
    }
}

impl Provider for FileSd {
    fn prepare(&self, _: &Shared) -> Result<Prepared, Error> {
        let config = self.clone();
        Ok(Box::new(move |publish| Box::pin(file::run(config, publish))))
    }
}

impl SdConfig for KubernetesSd {
    fn validate(&self) -> Result<(), Error> {
        KubernetesSd::validate(self)
    }
    fn set_directory(&mut self, dir: &Path) {
        self.set_http_directory(dir);
        join_path(dir, &mut self.kubeconfig_file);
    }
}

impl Provider for KubernetesSd {
    fn prepare(&self, shared: &Shared) -> Result<Prepared, Error> {
        let (config, clusters) = (self.clone(), Arc::clone(&shared.clusters));
        Ok(Box::new(move |publish| Box::pin(kubernetes::run(config, clusters, publish))))
    }
}

impl SdConfig for ConsulSd {
    fn validate(&self) -> Result<(), Error> {
        self.check()
    }
    fn set_directory(&mut self, dir: &Path) {
        self.set_http_directory(dir);
    }
}

impl Provider for ConsulSd {
    fn prepare(&self, _: &Shared) -> Result<Prepared, Error> {
        let (config, api) = (self.clone(), consul::open(self)?);
        Ok(Box::new(move |publish| Box::pin(consul::run(config, api, publish))))
    }
}

impl SdConfig for DnsSd {
    fn validate(&self) -> Result<(), Error> {
        self.check()
    }
    fn set_directory(&mut self, _: &Path) {}
}

impl Provider for DnsSd {
    fn prepare(&self, _: &Shared) -> Result<Prepared, Error> {
        let config = self.clone();
        Ok(Box::new(move |publish| Box::pin(dns::run(config, publish))))
    }
}

macro_rules! mechanisms {
    ($( $name:literal: $variant:ident($config:ty), )*) => {
        /// Any of the configurations. Equal ones describe the same provider.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Mechanism {
            $( $variant(Box<$config>), )*
        }
        $(
            impl From<$config> for Mechanism {
                fn from(config: $config) -> Mechanism {
                    Mechanism::$variant(Box::new(config))
                }
            }
        )*
        impl Mechanism {
            /// The names of all that are built in, as in `<name>_sd_configs`.
            pub const NAMES: &[&str] = &[$( $name ),*];

            /// As in `<name>_sd_configs`.
            pub fn name(&self) -> &'static str {
                match self { $( Mechanism::$variant(_) => $name, )* }
            }
            pub(crate) fn validate(&self) -> Result<(), Error> {
                match self { $( Mechanism::$variant(config) => SdConfig::validate(config.as_ref()), )* }
            }
            pub(crate) fn prepare(&self, shared: &Shared) -> Result<Prepared, Error> {
                match self { $( Mechanism::$variant(config) => config.prepare(shared), )* }
            }
        }
    };
}

mechanisms! {
    "file": File(FileSd),
    "http": Http(HttpSd),
    "kubernetes": Kubernetes(KubernetesSd),
    "consul": Consul(ConsulSd),
    "dns": Dns(DnsSd),
    "docker": Docker(DockerSd),
    "nomad": Nomad(NomadSd),
    "azure": Azure(AzureSd),
    "digitalocean": DigitalOcean(DigitalOceanSd),
    "dockerswarm": DockerSwarm(DockerSwarmSd),
    "ec2": Ec2(Ec2Sd),
    "eureka": Eureka(EurekaSd),
    "gce": Gce(GceSd),
    "hetzner": Hetzner(HetznerSd),
    "lightsail": Lightsail(LightsailSd),
    "puppetdb": PuppetDb(PuppetDbSd),
    "scaleway": Scaleway(ScalewaySd),
    "vultr": Vultr(VultrSd),
}
