//! `--web.config.file`: TLS, client certificates, passwords, headers and rate limits of a listener.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::path::{Path, PathBuf};

use axum::Router;
use axum::routing::get;
use ferula_net::client::config::{BasicAuth, TlsConfig};
use ferula_net::client::{BodyLimits, Client, ClientConfig, Request};
use ferula_net::listen::{ListenOptions, Listener, WebConfig};
use ferula_yaml::Secret;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Served {
    address: String,
    dir: TempDir,
}

impl Served {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }
}

/// A folder with a server's certificate, a client's and its CA.
fn folder() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_server(dir.path());
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = rcgen::CertifiedIssuer::self_signed(ca, ca_key).unwrap();
    std::fs::write(dir.path().join("ca.pem"), ca.pem()).unwrap();
    for name in ["good.test", "other.test"] {
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        std::fs::write(dir.path().join(format!("{name}.pem")), cert.pem()).unwrap();
        std::fs::write(dir.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
    dir
}

fn write_server(dir: &Path) {
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(dir.join("server.pem"), signed.cert.pem()).unwrap();
    std::fs::write(dir.join("server.key"), signed.signing_key.serialize_pem()).unwrap();
}

fn write(dir: &TempDir, yaml: &str) -> PathBuf {
    let path = dir.path().join("web.yml");
    std::fs::write(&path, yaml).unwrap();
    path
}

async fn serve(yaml: &str) -> Served {
    let dir = folder();
    let web = WebConfig::load(write(&dir, yaml)).unwrap();
    let options = ListenOptions { web: Some(web), ..ListenOptions::default() };
    let listener = Listener::bind(&["127.0.0.1:0"], options).await.unwrap();
    let address = listener.local_addrs()[0].to_string();
    let router = Router::new().route("/", get(async || "hello"));
    tokio::spawn(listener.serve(router, std::future::pending()));
    Served { address, dir }
}

async fn ask(config: &ClientConfig, url: &str) -> Result<(u16, String, http::HeaderMap), String> {
    let client = Client::new(config).unwrap();
    let response = client.send(Request::get(url.parse().unwrap())).await.map_err(|e| e.to_string())?;
    let (status, headers) = (response.status.as_u16(), response.headers.clone());
    let body = response.uncompressed(&BodyLimits::unlimited()).await.map_err(|e| e.to_string())?;
    Ok((status, String::from_utf8(body.bytes).unwrap(), headers))
}

const TLS: &str = "tls_server_config: {cert_file: server.pem, key_file: server.key";

fn trusting(s: &Served) -> ClientConfig {
    let tls_config = TlsConfig { ca_file: s.path("server.pem"), ..TlsConfig::default() };
    ClientConfig { tls_config, ..ClientConfig::default() }
}

#[tokio::test]
async fn tls_with_a_certificate_that_changes() {
    let s = serve(&format!("{TLS}}}")).await;
    let url = format!("https://{}/", s.address);
    let (status, body, _) = ask(&trusting(&s), &url).await.unwrap();
    assert_eq!((status, body.as_str()), (200, "hello"));
    let old = ClientConfig {
        tls_config: TlsConfig { ca: std::fs::read_to_string(s.path("server.pem")).unwrap(), ..TlsConfig::default() },
        ..ClientConfig::default()
    };
    write_server(s.dir.path());
    assert_eq!(ask(&trusting(&s), &url).await.unwrap().0, 200, "the new certificate is served without a restart");
    assert!(ask(&old, &url).await.is_err(), "and the old one no more");

    let mut plain = tokio::net::TcpStream::connect(&s.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("Client sent an HTTP request to an HTTPS server.\n"), "{answer}");
}

#[tokio::test]
async fn client_certificates_are_asked_for_and_checked() {
    let s = serve(&format!(
        "{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem, client_allowed_sans: [good.test]}}"
    ))
    .await;
    let url = format!("https://{}/", s.address);
    let with = |name: &str| {
        let mut config = trusting(&s);
        config.tls_config.cert_file = s.path(&format!("{name}.pem"));
        config.tls_config.key_file = s.path(&format!("{name}.key"));
        config
    };
    assert_eq!(ask(&with("good.test"), &url).await.unwrap().0, 200);
    assert!(ask(&with("other.test"), &url).await.is_err(), "its name is not on the list");
    assert!(ask(&trusting(&s), &url).await.is_err(), "no certificate at all");
}

/// bcrypt of "secret", at the lowest cost.
const HASH: &str = "$2y$04$i6Gw4Ldm7ZLGBNnDlnvoKOE4gcwvwI/1nd5ZxmUdvONCDPVwW3LIK";

#[tokio::test]
async fn passwords_and_headers() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let s = serve(&format!(
        "basic_auth_users: {{alice: '{hash}'}}\nhttp_server_config: {{headers: {{X-Frame-Options: deny}}}}"
    ))
    .await;
    let url = format!("http://{}/", s.address);
    let with = |user: &str, password: &str| ClientConfig {
        basic_auth: Some(BasicAuth {
            username: user.to_owned(),
            password: Secret::new(password),
            ..BasicAuth::default()
        }),
        ..ClientConfig::default()
    };
    for _ in 0..2 {
        let (status, body, headers) = ask(&with("alice", "secret"), &url).await.unwrap();
        assert_eq!((status, body.as_str(), headers["x-frame-options"].to_str().unwrap()), (200, "hello", "deny"));
        for wrong in [with("alice", "wrong"), with("bob", "secret"), with("", ""), ClientConfig::default()] {
            let (status, body, headers) = ask(&wrong, &url).await.unwrap();
            assert_eq!((status, body.as_str()), (401, "Unauthorized\n"));
            assert_eq!(
                (&headers["www-authenticate"], &headers["x-frame-options"]),
                (&"Basic".parse().unwrap(), &"deny".parse().unwrap())
            );
        }
    }
    // A new password counts at once; a broken file changes nothing.
    let new = bcrypt::hash("changed", 4).unwrap();
    write(&s.dir, &format!("basic_auth_users: {{alice: '{new}'}}\n# longer than before, whatever the clock's grain"));
    assert_eq!(ask(&with("alice", "secret"), &url).await.unwrap().0, 401);
    assert_eq!(ask(&with("alice", "changed"), &url).await.unwrap().0, 200);
    write(&s.dir, "nonsense: 1");
    assert_eq!(ask(&with("alice", "changed"), &url).await.unwrap().0, 200);
}

#[tokio::test]
async fn a_rate_limit_says_429() {
    let s = serve("rate_limit: {burst: 2, interval: 1h}").await;
    let url = format!("http://{}/", s.address);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(ask(&ClientConfig::default(), &url).await.unwrap().0);
    }
    assert_eq!(seen, [200, 200, 429]);
}

#[test]
fn files_are_judged_strictly() {
    let dir = folder();
    for (yaml, expected) in [
        ("", None),
        ("tls_server_config: {cert_file: server.pem}", Some("missing one of key or key_file")),
        ("tls_server_config: {key_file: server.key}", Some("missing one of cert or cert_file")),
        ("tls_server_config: {cert_file: no.pem, key_file: server.key}", Some("no.pem")),
        ("tls_server_config: {cert_file: server.pem, key_file: server.key, min_version: TLS99}", Some("TLS99")),
        (
            "tls_server_config: {cert_file: server.pem, key_file: server.key, cipher_suites: [X]}",
            Some("unknown cipher: X"),
        ),
        (
            "tls_server_config: {cert_file: server.pem, key_file: server.key, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256], curve_preferences: [X25519]}",
            None,
        ),
        (
            "tls_server_config: {cert_file: server.pem, key_file: server.key, client_ca_file: ca.pem}",
            Some("Client CA's have been configured without a Client Auth Policy"),
        ),
        (
            "tls_server_config: {cert_file: server.pem, key_file: server.key, client_auth_type: X}",
            Some("Invalid ClientAuth: X"),
        ),
        ("basic_auth_users: {a: plain}", Some("not a bcrypt hash")),
        ("http_server_config: {headers: {Server: x}}", Some("HTTP header \"Server\" can not be configured")),
        ("unknown: 1", Some("unknown")),
    ] {
        let loaded = WebConfig::load(write(&dir, yaml));
        match (loaded, expected) {
            (Ok(_), None) => {}
            (Err(e), Some(text)) => assert!(e.to_string().contains(text), "{yaml}: {e}"),
            (loaded, _) => panic!("{yaml}: {loaded:?}"),
        }
    }
    let with_hash = WebConfig::load(write(&dir, &format!("basic_auth_users: {{a: '{HASH}'}}")));
    assert!(!with_hash.unwrap().is_tls());
}
