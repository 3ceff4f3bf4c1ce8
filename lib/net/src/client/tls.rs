//! `tls_config` as a rustls client configuration. Files are read again whenever they changed.
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme, SupportedProtocolVersion};

use super::config::{TlsConfig, TlsVersion};
use super::error::Error;

/// Modification times of the files a configuration names: when they differ, the configuration is built anew.
pub(super) type Fingerprint = [Option<SystemTime>; 3];

pub(super) fn fingerprint(config: &TlsConfig) -> Fingerprint {
    [&config.ca_file, &config.cert_file, &config.key_file]
        .map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
}

/// Builds what a connection needs. Without `ca` and `ca_file` the platform's roots decide, asked for only here.
pub(crate) fn client_config(config: &TlsConfig) -> Result<rustls::ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let failed = |e: rustls::Error| Error::Config(format!("tls_config: {e}"));
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(config)?)
        .map_err(failed)?;
    let verifier: Arc<dyn ServerCertVerifier> = if config.insecure_skip_verify {
        Arc::new(AcceptAny(provider))
    } else if config.ca.is_empty() && config.ca_file.is_empty() {
        Arc::new(rustls_platform_verifier::Verifier::new(provider).map_err(failed)?)
    } else {
        let mut roots = RootCertStore::empty();
        let pem = text_or_file(&config.ca, &config.ca_file)?;
        for cert in certificates(&pem, &config.ca_file)? {
            roots.add(cert).map_err(failed)?;
        }
        rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|e| Error::Config(format!("tls_config: {e}")))?
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    if config.cert.is_empty() && config.cert_file.is_empty() {
        return Ok(builder.with_no_client_auth());
    }
    let chain = certificates(&text_or_file(&config.cert, &config.cert_file)?, &config.cert_file)?;
    let key_pem = text_or_file(config.key.expose(), &config.key_file)?;
    let key = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|e| Error::File { path: config.key_file.clone(), reason: e.to_string() })?;
    builder.with_client_auth_cert(chain, key).map_err(failed)
}

fn versions(config: &TlsConfig) -> Result<Vec<&'static SupportedProtocolVersion>, Error> {
    let (min, max) = (config.min_version.unwrap_or(TlsVersion::Tls12), config.max_version.unwrap_or(TlsVersion::Tls13));
    let mut out = Vec::new();
    if min <= TlsVersion::Tls12 && max >= TlsVersion::Tls12 {
        out.push(&rustls::version::TLS12);
    }
    if max >= TlsVersion::Tls13 {
        out.push(&rustls::version::TLS13);
    }
    if out.is_empty() {
        return Err(Error::Config("tls_config: TLS versions before 1.2 are not supported".into()));
    }
    Ok(out)
}

fn text_or_file(text: &str, path: &str) -> Result<Vec<u8>, Error> {
    if !text.is_empty() {
        return Ok(text.as_bytes().to_vec());
    }
    std::fs::read(path).map_err(|e| Error::File { path: path.to_owned(), reason: e.to_string() })
}

fn certificates(pem: &[u8], path: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |reason: String| Error::File { path: path.to_owned(), reason };
    let certs: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certs = certs.map_err(|e| failed(e.to_string()))?;
    if certs.is_empty() { Err(failed("no certificate found".into())) } else { Ok(certs) }
}

/// `insecure_skip_verify`: the certificate is not looked at, signatures still must match it.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
