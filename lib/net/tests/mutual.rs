//! `--cluster.tls-config`: who is let in, what a refusal says, certificates that change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use ferula_net::mutual::MutualTls;
use ferula_testkit::Authority;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const CONFIG: &str = "tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_ca_file: ca.pem, \
                      client_auth_type: RequireAndVerifyClientCert}\n\
                      tls_client_config: {ca_file: ca.pem, cert_file: cert.pem, key_file: key.pem}\n";

fn write(dir: &Path, ca: &Authority, signer: &Authority, names: &[&str]) {
    let (cert, key) = signer.sign(names);
    for (name, text) in [("ca.pem", ca.pem()), ("cert.pem", cert), ("key.pem", key), ("tls.yml", CONFIG.to_owned())] {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

fn member(ca: &Authority, signer: &Authority, names: &[&str]) -> (TempDir, Arc<MutualTls>) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), ca, signer, names);
    let tls = MutualTls::load(dir.path().join("tls.yml")).unwrap();
    (dir, tls)
}

/// What each side sees of a word said by the client and answered by the server.
async fn talk(server: &MutualTls, client: &MutualTls) -> (std::io::Result<String>, std::io::Result<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = listener.local_addr().unwrap();
    let serving = async {
        let mut stream = server.accept(listener.accept().await.unwrap().0).await?;
        let mut word = [0; 5];
        stream.read_exact(&mut word).await?;
        stream.write_all(&word).await?;
        stream.flush().await?;
        Ok(String::from_utf8_lossy(&word).into_owned())
    };
    let asking = async {
        let mut stream = client.connect(TcpStream::connect(to).await?, to).await?;
        stream.write_all(b"hello").await?;
        stream.flush().await?;
        let mut word = [0; 5];
        stream.read_exact(&mut word).await?;
        Ok(String::from_utf8_lossy(&word).into_owned())
    };
    tokio::join!(serving, asking)
}

#[tokio::test]
async fn members_of_one_authority_talk() {
    let ca = Authority::new();
    let (a, b) = (member(&ca, &ca, &["127.0.0.1"]), member(&ca, &ca, &["127.0.0.1"]));
    let (heard, answered) = talk(&a.1, &b.1).await;
    assert_eq!((heard.unwrap(), answered.unwrap()), ("hello".to_owned(), "hello".to_owned()));
}

#[tokio::test]
async fn strangers_are_refused_by_either_side() {
    let (ca, other) = (Authority::new(), Authority::new());
    let inside = member(&ca, &ca, &["127.0.0.1"]);
    // Trusts us, but is signed by somebody else.
    let stranger = member(&ca, &other, &["127.0.0.1"]);
    let (heard, answered) = talk(&inside.1, &stranger.1).await;
    let refusal = heard.unwrap_err();
    assert!(refusal.to_string().contains("invalid peer certificate: UnknownIssuer"), "{refusal}");
    let refused = answered.unwrap_err().to_string();
    assert!(refused.contains("received fatal alert"), "{refused}");
    // As a server it is not believed either.
    let (_, answered) = talk(&stranger.1, &inside.1).await;
    assert!(answered.unwrap_err().to_string().contains("UnknownIssuer"));
    // And who is signed, but for another address, is no server.
    let elsewhere = member(&ca, &ca, &["127.0.0.2"]);
    let (_, answered) = talk(&elsewhere.1, &inside.1).await;
    assert!(answered.unwrap_err().to_string().contains("not valid for name"));
}

#[tokio::test]
async fn new_certificates_count_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    let (a, b) = (member(&old, &old, &["127.0.0.1"]), member(&new, &new, &["127.0.0.1"]));
    assert!(talk(&a.1, &b.1).await.1.is_err());
    write(a.0.path(), &new, &new, &["127.0.0.1", "renewed.test"]); // another length, so that coarse clocks don't matter
    assert_eq!(talk(&a.1, &b.1).await.1.unwrap(), "hello");
    std::fs::write(a.0.path().join("cert.pem"), "damaged").unwrap();
    assert_eq!(talk(&a.1, &b.1).await.1.unwrap(), "hello", "what was read last goes on");
}

#[tokio::test]
async fn plain_bytes_are_an_error_not_a_wait() {
    let ca = Authority::new();
    let a = member(&ca, &ca, &["127.0.0.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stranger = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    stranger.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let refused = a.1.accept(listener.accept().await.unwrap().0).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidData, "{refused}");
}

#[test]
fn files_are_refused_in_upstreams_words() {
    let ca = Authority::new();
    let (dir, _) = member(&ca, &ca, &["127.0.0.1"]);
    let refusal = |text: &str| {
        std::fs::write(dir.path().join("tls.yml"), text).unwrap();
        MutualTls::load(dir.path().join("tls.yml")).unwrap_err().to_string()
    };
    let server = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n";
    for (text, reason) in [
        ("tls_client_config: {}\n".to_owned(), "missing 'tls_server_config' entry in the TLS configuration"),
        (server.to_owned(), "missing 'tls_client_config' entry in the TLS configuration"),
        (format!("{server}tls_client_config:\n"), "missing 'tls_client_config' entry in the TLS configuration"),
        (
            "tls_client_config: {}\ntls_server_config: {}\n".to_owned(),
            "invalid TLS server config: TLS config is not present",
        ),
        (
            "tls_client_config: {}\ntls_server_config: {cert_file: cert.pem}\n".to_owned(),
            "invalid TLS server config: missing one of key or key_file",
        ),
        (
            format!("{server}tls_client_config: {{cert_file: cert.pem}}\n"),
            "invalid TLS client config: exactly one of key",
        ),
        ("foo: 1\n".to_owned(), "foo"),
        ("tls_client_config: {}\ntls_server_config: {cert_file: no.pem, key_file: key.pem}\n".to_owned(), "no.pem"),
    ] {
        let said = refusal(&text);
        assert!(said.contains(reason) && said.contains("tls.yml"), "{text}: {said}");
    }
    let absent = MutualTls::load(dir.path().join("absent.yml")).unwrap_err().to_string();
    assert!(absent.contains("open ") && absent.contains("absent.yml"), "{absent}");
}
