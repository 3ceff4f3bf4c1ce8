//! Against small servers on the loopback that answer with the bytes a test wants.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferula_model::Budget;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::config::{Authorization, BasicAuth, HeaderValues};
use super::*;

/// Answers every request with what `answer` makes of its head. Returns the port and a count of connections.
async fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (answer, connections) = (Arc::new(answer), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let answer = Arc::clone(&answer);
            tokio::spawn(async move {
                let mut seen = Vec::new();
                let mut chunk = [0u8; 4096];
                while let Ok(n @ 1..) = socket.read(&mut chunk).await {
                    seen.extend_from_slice(&chunk[..n]);
                    while let Some(end) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
                        let head = String::from_utf8_lossy(&seen[..end]).into_owned();
                        seen.drain(..end + 4);
                        if socket.write_all(&answer(&head)).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    (port, connections)
}

fn ok(body: &[u8], extra: &str) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n{extra}\r\n", body.len()).into_bytes();
    out.extend_from_slice(body);
    out
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

fn url(port: u16, path: &str) -> Url {
    Url::parse(&format!("http://127.0.0.1:{port}{path}")).unwrap()
}

async fn get_text(client: &Client, url: Url) -> Result<String, Error> {
    let body = client.send(Request::get(url)).await?.uncompressed(&BodyLimits::unlimited()).await?;
    Ok(String::from_utf8_lossy(&body.bytes).into_owned())
}

fn authorized() -> ClientConfig {
    ClientConfig {
        authorization: Some(Authorization { credentials: ferula_yaml::Secret::new("s3cret"), ..Default::default() }),
        http_headers: [("X-Key".to_owned(), HeaderValues { values: vec!["k".into()], ..Default::default() })].into(),
        ..ClientConfig::default()
    }
}

#[tokio::test]
async fn connections_are_kept_and_credentials_sent() {
    let (port, connections) = serve(|head| ok(head.as_bytes(), "")).await;
    let client = Client::new(&authorized()).unwrap();
    for _ in 0..3 {
        let head = get_text(&client, url(port, "/m?a=b#frag")).await.unwrap();
        assert!(head.starts_with("GET /m?a=b HTTP/1.1"), "{head}");
        assert!(head.contains("Bearer s3cret") && head.contains("x-key: k"), "{head}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn basic_auth_from_config_file_and_url() {
    let (port, _) = serve(|head| ok(head.as_bytes(), "")).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "b\n").unwrap();
    let config = ClientConfig {
        basic_auth: Some(BasicAuth {
            username: "a".into(),
            password_file: file.to_str().unwrap().into(),
            ..Default::default()
        }),
        ..ClientConfig::default()
    };
    let client = Client::new(&config).unwrap();
    assert!(get_text(&client, url(port, "/")).await.unwrap().contains("Basic YTpi"));
    std::fs::write(&file, "c\n").unwrap(); // read again at every use
    assert!(get_text(&client, url(port, "/")).await.unwrap().contains("Basic YTpj"));
    std::fs::remove_file(&file).unwrap();
    assert!(get_text(&client, url(port, "/")).await.unwrap_err().to_string().contains("unable to read file"));

    let client = Client::new(&ClientConfig::default()).unwrap();
    let with_user = Url::parse(&format!("http://a:b@127.0.0.1:{port}/")).unwrap();
    assert!(get_text(&client, with_user).await.unwrap().contains("Basic YTpi"));
}

#[tokio::test]
async fn credentials_stay_with_their_origin() {
    let (other, _) = serve(|head| ok(head.as_bytes(), "")).await;
    let (port, _) = serve(move |head| match head.split(' ').nth(1) {
        Some("/same") => redirect("/echo"),
        Some("/other") => redirect(&format!("http://127.0.0.1:{other}/")),
        Some("/file") => redirect("file:///etc/passwd"),
        Some("/loop") => redirect("/loop"),
        _ => ok(head.as_bytes(), ""),
    })
    .await;
    let client = Client::new(&authorized()).unwrap();
    let head = get_text(&client, url(port, "/same")).await.unwrap();
    assert!(head.contains("s3cret") && head.contains("x-key"));
    let head = get_text(&client, url(port, "/other")).await.unwrap();
    assert!(!head.contains("s3cret") && !head.contains("x-key"), "{head}");
    let e = get_text(&client, url(port, "/file")).await.unwrap_err().to_string();
    assert!(e.ends_with("unsupported protocol scheme \"file\""), "{e}");
    let e = get_text(&client, url(port, "/loop")).await.unwrap_err().to_string();
    assert!(e.ends_with("stopped after 10 redirects"), "{e}");
    let plain = Client::new(&ClientConfig { follow_redirects: false, ..ClientConfig::default() }).unwrap();
    assert_eq!(plain.send(Request::get(url(port, "/same"))).await.unwrap().status, 302);
}

#[tokio::test]
async fn bodies_are_bounded() {
    let bomb = gzip(&vec![b'x'; 16 << 20]);
    let (port, _) = serve(move |head| match head.split(' ').nth(1) {
        Some("/bomb") => ok(&bomb, "content-encoding: gzip\r\n"),
        Some("/bad") => ok(b"no gzip", "content-encoding: gzip\r\n"),
        _ => ok(&[b'x'; 1000], ""),
    })
    .await;
    let client = Client::new(&ClientConfig::default()).unwrap();
    let fetch = async |path: &str, bytes_max: u64, budget: &Budget| {
        let limits = BodyLimits { bytes_max, budget: budget.clone() };
        let body = client.send(Request::get(url(port, path))).await?.uncompressed(&limits).await?;
        Ok::<usize, Error>(body.bytes.len())
    };
    let budget = Budget::root("scrape bodies", 4 << 20);
    assert_eq!(fetch("/", 1001, &budget).await.unwrap(), 1000);
    assert!(matches!(fetch("/", 1000, &budget).await, Err(Error::BodyTooLarge)));
    assert!(matches!(fetch("/bomb", 100 << 10, &budget).await, Err(Error::BodyTooLarge)));
    assert!(budget.peak_bytes() < 1 << 20, "{}", budget.peak_bytes());
    assert!(matches!(fetch("/bomb", 0, &budget).await, Err(Error::Budget(_))));
    assert_eq!(budget.used_bytes(), 0);
    assert_eq!(fetch("/bomb", 0, &Budget::unlimited()).await.unwrap(), 16 << 20);
    assert!(fetch("/bad", 0, &budget).await.unwrap_err().to_string().starts_with("gzip: "));
}

#[tokio::test]
async fn refusals_read_like_gos() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let client = Client::new(&ClientConfig::default()).unwrap();
    let e = get_text(&client, url(free, "/metrics")).await.unwrap_err().to_string();
    assert_eq!(
        e,
        format!("Get \"http://127.0.0.1:{free}/metrics\": dial tcp 127.0.0.1:{free}: connect: connection refused")
    );
}

#[tokio::test]
async fn tls_by_ca_name_and_insecurely() {
    let signed = rcgen::generate_simple_self_signed(vec!["target.test".to_owned()]).unwrap();
    let (cert, key) = (signed.cert.der().clone(), signed.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], rustls_pki_types::PrivatePkcs8KeyDer::from(key).into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(socket).await else { return };
                let mut chunk = [0u8; 4096];
                let _ = tls.read(&mut chunk).await;
                let _ = tls.write_all(&ok(b"hello", "connection: close\r\n")).await;
                let _ = tls.shutdown().await;
            });
        }
    });
    let target = Url::parse(&format!("https://127.0.0.1:{port}/")).unwrap();
    let with = |edit: &dyn Fn(&mut ClientConfig)| {
        let mut config = ClientConfig::default();
        config.tls_config.ca = signed.cert.pem();
        edit(&mut config);
        Client::new(&config).unwrap()
    };
    let named = with(&|c| c.tls_config.server_name = "target.test".into());
    assert_eq!(get_text(&named, target.clone()).await.unwrap(), "hello");
    assert!(get_text(&with(&|_| {}), target.clone()).await.is_err(), "the name does not match");
    let insecure = with(&|c| c.tls_config.insecure_skip_verify = true);
    assert_eq!(get_text(&insecure, target).await.unwrap(), "hello");
}

#[test]
fn configurations_are_judged_as_upstream_judges() {
    let check = |yaml: &str, expect: Result<(), &str>| {
        let config: Result<ClientConfig, _> = ferula_yaml::from_str("", yaml);
        let got = config.map_err(|e| e.to_string()).and_then(|c| c.validate());
        assert_eq!(got.clone().err().map_or(Ok(()), Err), expect.map_err(str::to_owned), "{yaml}");
    };
    check("", Ok(()));
    check(
        "bearer_token: a\nbearer_token_file: b",
        Err("at most one of bearer_token & bearer_token_file must be configured"),
    );
    check("http_headers: {user-Agent: {values: [x]}}", Err("setting header \"User-Agent\" is not allowed"));
    check("no_proxy: x", Err("if no_proxy is configured, proxy_url must also be configured"));
    check(
        "tls_config: {cert_file: x}",
        Err("exactly one of key or key_file must be configured when a client certificate is configured"),
    );
    check(
        "authorization: {type: Basic}",
        Err("authorization type cannot be set to \"basic\", use \"basic_auth\" instead"),
    );
    let printed = ferula_yaml::to_string(&authorized()).unwrap();
    assert!(!printed.contains("s3cret"), "{printed}");
}
