//! `tls_server_config`: certificates, client certificates, versions, ciphers.
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use serde::Deserialize;

use crate::client::config::TlsVersion;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TlsServerConfig {
    cert: String,
    key: ferula_yaml::Secret,
    client_ca: String,
    cert_file: String,
    key_file: String,
    client_auth_type: String,
    client_ca_file: String,
    cipher_suites: Vec<String>,
    curve_preferences: Vec<String>,
    min_version: TlsVersion,
    max_version: TlsVersion,
    /// Read, and without effect: the order of rustls is the server's.
    prefer_server_cipher_suites: bool,
    client_allowed_sans: Vec<String>,
}

impl Default for TlsServerConfig {
    fn default() -> Self {
        TlsServerConfig {
            cert: String::new(),
            key: ferula_yaml::Secret::default(),
            client_ca: String::new(),
            cert_file: String::new(),
            key_file: String::new(),
            client_auth_type: String::new(),
            client_ca_file: String::new(),
            cipher_suites: Vec::new(),
            curve_preferences: Vec::new(),
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            prefer_server_cipher_suites: true,
            client_allowed_sans: Vec::new(),
        }
    }
}

impl TlsServerConfig {
    pub(crate) fn set_directory(&mut self, dir: &Path) {
        for path in [&mut self.cert_file, &mut self.key_file, &mut self.client_ca_file] {
            if !path.is_empty() && !Path::new(path.as_str()).is_absolute() {
                *path = dir.join(path.as_str()).to_string_lossy().into_owned();
            }
        }
    }
    /// The files it names.
    pub(crate) fn files(&self) -> impl Iterator<Item = &str> {
        [&self.cert_file, &self.key_file, &self.client_ca_file]
            .into_iter()
            .map(String::as_str)
            .filter(|f| !f.is_empty())
    }
}

fn text_or_file(text: &str, file: &str) -> Result<Vec<u8>, String> {
    if !text.is_empty() {
        return Ok(text.as_bytes().to_vec());
    }
    std::fs::read(file).map_err(|e| format!("open {file}: {e}"))
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certs = certs.map_err(|e| format!("{what}: {e}"))?;
    if certs.is_empty() { Err(format!("{what}: no certificate found")) } else { Ok(certs) }
}

/// What connections need; `None` where the configuration has no TLS at all.
pub(crate) fn server_config(c: &TlsServerConfig, http2: bool) -> Result<Option<Arc<rustls::ServerConfig>>, String> {
    let (cert, key) = (!c.cert.is_empty() || !c.cert_file.is_empty(), !c.key.is_empty() || !c.key_file.is_empty());
    let (ca, auth) = (!c.client_ca.is_empty() || !c.client_ca_file.is_empty(), !c.client_auth_type.is_empty());
    if !cert && !key && !ca && !auth {
        return Ok(None);
    }
    let both = |text: bool, file: bool, name: &str| {
        if text && file { Err(format!("at most one of {name} and {name}_file must be configured")) } else { Ok(()) }
    };
    both(!c.cert.is_empty(), !c.cert_file.is_empty(), "cert")?;
    both(!c.key.is_empty(), !c.key_file.is_empty(), "key")?;
    both(!c.client_ca.is_empty(), !c.client_ca_file.is_empty(), "client_ca")?;
    if !cert {
        return Err("missing one of cert or cert_file".into());
    }
    if !key {
        return Err("missing one of key or key_file".into());
    }
    let provider = Arc::new(provider(c)?);
    let mut versions = Vec::new();
    if c.min_version <= TlsVersion::Tls12 && c.max_version >= TlsVersion::Tls12 {
        versions.push(&rustls::version::TLS12);
    }
    if c.max_version >= TlsVersion::Tls13 {
        versions.push(&rustls::version::TLS13);
    }
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|e| e.to_string())?;
    let builder = match client_verifier(c, ca, provider)? {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let chain = certificates(&text_or_file(&c.cert, &c.cert_file)?, "cert")?;
    let key =
        PrivateKeyDer::from_pem_slice(&text_or_file(c.key.expose(), &c.key_file)?).map_err(|e| format!("key: {e}"))?;
    let mut config = builder.with_single_cert(chain, key).map_err(|e| e.to_string())?;
    if http2 {
        config.alpn_protocols.push(b"h2".to_vec());
    }
    config.alpn_protocols.push(b"http/1.1".to_vec());
    Ok(Some(Arc::new(config)))
}

/// rustls's own choice, narrowed to what the configuration lists.
fn provider(c: &TlsServerConfig) -> Result<CryptoProvider, String> {
    let mut provider = aws_lc_rs::default_provider();
    if !c.cipher_suites.is_empty() {
        let mut wanted = Vec::new();
        for name in &c.cipher_suites {
            // Go's names: TLS 1.3 suites begin with TLS_ where rustls says TLS13_.
            let thirteen = name.replacen("TLS_", "TLS13_", 1);
            let name_is = |s: &&rustls::SupportedCipherSuite| {
                let own = format!("{:?}", s.suite());
                own == *name || own == thirteen
            };
            let suite = provider.cipher_suites.iter().find(name_is);
            wanted.push(*suite.ok_or_else(|| format!("unknown cipher: {name}"))?);
        }
        // As in Go, suites of TLS 1.3 are not configurable: they are always there.
        provider.cipher_suites.retain(|s| wanted.contains(s) || s.tls13().is_some());
    }
    if !c.curve_preferences.is_empty() {
        let mut groups = Vec::new();
        for name in &c.curve_preferences {
            let group = match name.as_str() {
                "CurveP256" => aws_lc_rs::kx_group::SECP256R1,
                "CurveP384" => aws_lc_rs::kx_group::SECP384R1,
                "X25519" => aws_lc_rs::kx_group::X25519,
                "CurveP521" => return Err("curve CurveP521 is known, but not built in yet".into()),
                other => return Err(format!("unknown curve: {other}")),
            };
            groups.push(group);
        }
        provider.kx_groups = groups;
    }
    Ok(provider)
}

fn client_verifier(
    c: &TlsServerConfig,
    has_ca: bool,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    let verified = || -> Result<_, String> {
        if !has_ca {
            return Err("a client CA is needed to verify client certificates: client_ca or client_ca_file".into());
        }
        let mut roots = RootCertStore::empty();
        for cert in certificates(&text_or_file(&c.client_ca, &c.client_ca_file)?, "client_ca")? {
            roots.add(cert).map_err(|e| format!("client_ca: {e}"))?;
        }
        Ok(WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)))
    };
    let build = |b: rustls::server::ClientCertVerifierBuilder| b.build().map_err(|e| format!("client_ca: {e}"));
    let any = |is_mandatory| -> Arc<dyn ClientCertVerifier> {
        Arc::new(ClientCerts { provider: Arc::clone(&provider), holders: Holders::Any { is_mandatory } })
    };
    let verifier: Arc<dyn ClientCertVerifier> = match c.client_auth_type.as_str() {
        "" | "NoClientCert" if has_ca => {
            return Err("Client CA's have been configured without a Client Auth Policy".into());
        }
        "" | "NoClientCert" => return Ok(None),
        "RequestClientCert" => any(false),
        "RequireAnyClientCert" | "RequireClientCert" => any(true),
        "VerifyClientCertIfGiven" => build(verified()?.allow_unauthenticated())?,
        "RequireAndVerifyClientCert" => build(verified()?)?,
        other => return Err(format!("Invalid ClientAuth: {other}")),
    };
    if c.client_allowed_sans.is_empty() {
        return Ok(Some(verifier));
    }
    if c.client_auth_type != "RequireAndVerifyClientCert" {
        return Err("client_allowed_sans needs client_auth_type RequireAndVerifyClientCert".into());
    }
    let mut allowed = Vec::new();
    for san in &c.client_allowed_sans {
        let name = ServerName::try_from(san.clone());
        allowed.push(name.map_err(|_| format!("client_allowed_sans: {san:?} is neither a DNS name nor an address"))?);
    }
    Ok(Some(Arc::new(ClientCerts { provider, holders: Holders::Named { verifier, allowed } })))
}

/// Who may hold a certificate; that its holder has the key as well is always checked.
#[derive(Debug)]
enum Holders {
    /// Whoever signed it.
    Any { is_mandatory: bool },
    /// Verified, and one of its names must be on the list.
    Named { verifier: Arc<dyn ClientCertVerifier>, allowed: Vec<ServerName<'static>> },
}

#[derive(Debug)]
struct ClientCerts {
    provider: Arc<CryptoProvider>,
    holders: Holders,
}

impl ClientCertVerifier for ClientCerts {
    fn client_auth_mandatory(&self) -> bool {
        match &self.holders {
            Holders::Any { is_mandatory } => *is_mandatory,
            Holders::Named { .. } => true,
        }
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.holders {
            Holders::Any { .. } => &[],
            Holders::Named { verifier, .. } => verifier.root_hint_subjects(),
        }
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let Holders::Named { verifier, allowed } = &self.holders else { return Ok(ClientCertVerified::assertion()) };
        let verified = verifier.verify_client_cert(end_entity, intermediates, now)?;
        let cert = ParsedCertificate::try_from(end_entity)?;
        if allowed.iter().any(|name| verify_server_name(&cert, name).is_ok()) {
            return Ok(verified);
        }
        Err(rustls::Error::General("could not find allowed SANs in client cert".into()))
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
