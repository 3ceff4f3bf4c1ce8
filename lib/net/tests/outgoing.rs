//! Proxies, tunnels, Unix sockets and OAuth 2.0 against small servers on the loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ferula_net::client::config::{OAuth2, TlsConfig};
use ferula_net::client::{BodyLimits, Client, ClientConfig, Error, Request};
use ferula_yaml::Secret;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use url::Url;

/// Reads one request: its head, and a body as long as `content-length` says.
async fn read_request(io: &mut (impl AsyncRead + Unpin)) -> Option<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(io.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ").map(str::to_owned));
    let mut body = vec![0; length.map_or(0, |l| l.trim().parse().unwrap())];
    io.read_exact(&mut body).await.ok()?;
    Some((head, String::from_utf8(body).unwrap()))
}

async fn answer(io: &mut (impl AsyncWrite + Unpin), status: &str, body: &str) {
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = io.write_all(text.as_bytes()).await;
}

/// Answers every request on every connection with what `of` makes of head and body.
async fn serve(of: impl Fn(&str, &str) -> (&'static str, String) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, of) = (listener.local_addr().unwrap().port(), Arc::new(of));
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let of = Arc::clone(&of);
            tokio::spawn(async move {
                while let Some((head, body)) = read_request(&mut socket).await {
                    let (status, text) = of(&head, &body);
                    answer(&mut socket, status, &text).await;
                }
            });
        }
    });
    port
}

async fn get(client: &Client, url: &str) -> Result<String, Error> {
    let response = client.send(Request::get(Url::parse(url).unwrap())).await?;
    let body = response.uncompressed(&BodyLimits::unlimited()).await?;
    Ok(String::from_utf8(body.bytes).unwrap())
}

fn proxied(url: &str) -> ClientConfig {
    ClientConfig { proxy_url: Secret::new(url), ..ClientConfig::default() }
}

#[tokio::test]
async fn plain_requests_reach_the_proxy_in_absolute_form() {
    let proxy = serve(|head, _| ("200 OK", head.to_owned())).await;
    let client = Client::new(&proxied(&format!("http://u:p@127.0.0.1:{proxy}"))).unwrap();
    let head = get(&client, "http://target.invalid:81/metrics?a=b").await.unwrap();
    assert!(head.starts_with("GET http://target.invalid:81/metrics?a=b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("host: target.invalid:81\r\n"), "{head}");
    assert!(head.contains("proxy-authorization: Basic dTpw\r\n"), "{head}");

    let config = ClientConfig { no_proxy: "other.invalid".to_owned(), ..proxied(&format!("127.0.0.1:{proxy}")) };
    let straight = serve(|head, _| ("200 OK", head.to_owned())).await;
    let head = get(&Client::new(&config).unwrap(), &format!("http://127.0.0.1:{straight}/x")).await.unwrap();
    assert!(head.starts_with("GET /x HTTP/1.1"), "no_proxy spares the loopback: {head}");
}

/// A TLS server whose certificate is for `target.invalid`, and that certificate.
async fn serve_tls() -> (u16, String) {
    let signed = rcgen::generate_simple_self_signed(vec!["target.invalid".to_owned()]).unwrap();
    let (cert, key) = (signed.cert.der().clone(), signed.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], rustls_pki_types::PrivatePkcs8KeyDer::from(key).into())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(socket).await else { return };
                while let Some((head, _)) = read_request(&mut tls).await {
                    answer(&mut tls, "200 OK", &head).await;
                }
            });
        }
    });
    (port, signed.cert.pem())
}

/// A proxy that tunnels every CONNECT to `to`, unless `refuse` says otherwise. Keeps the heads it saw.
async fn tunnel(to: u16, refuse: Option<&'static str>) -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, heads) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&heads);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let Some((head, _)) = read_request(&mut socket).await else { continue };
            seen.lock().unwrap().push(head);
            if let Some(status) = refuse {
                answer(&mut socket, status, "").await;
                continue;
            }
            socket.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let mut target = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut socket, &mut target).await });
        }
    });
    (port, heads)
}

#[tokio::test]
async fn tls_goes_through_a_tunnel() {
    let (target, pem) = serve_tls().await;
    let (proxy, heads) = tunnel(target, None).await;
    let tls_config = TlsConfig { ca: pem, ..TlsConfig::default() };
    let config = ClientConfig {
        tls_config,
        proxy_connect_header: [("X-Pass".to_owned(), vec![Secret::new("one"), Secret::new("two")])].into(),
        ..proxied(&format!("http://u:p@127.0.0.1:{proxy}"))
    };
    let client = Client::new(&config).unwrap();
    for _ in 0..2 {
        let head = get(&client, "https://target.invalid/metrics").await.unwrap();
        assert!(head.starts_with("GET /metrics HTTP/1.1"), "{head}");
        assert!(!head.contains("u:p") && !head.to_lowercase().contains("x-pass"), "{head}");
    }
    let heads = heads.lock().unwrap().clone();
    assert_eq!(heads.len(), 1, "one tunnel serves both");
    let expected = "CONNECT target.invalid:443 HTTP/1.1\r\nHost: target.invalid:443\r\nX-Pass: one\r\nX-Pass: two\r\n\
                    Proxy-Authorization: Basic dTpw\r\n\r\n";
    assert_eq!(heads[0], expected);

    let (proxy, _) = tunnel(target, Some("403 Forbidden")).await;
    let client = Client::new(&proxied(&format!("http://127.0.0.1:{proxy}"))).unwrap();
    let e = get(&client, "https://target.invalid/").await.unwrap_err().to_string();
    assert!(e.ends_with("proxyconnect tcp: Forbidden"), "{e}");
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let client = Client::new(&proxied(&format!("http://127.0.0.1:{free}"))).unwrap();
    let e = get(&client, "http://target.invalid/").await.unwrap_err().to_string();
    let expected = format!(
        "Get \"http://target.invalid/\": proxyconnect tcp: dial tcp 127.0.0.1:{free}: connect: connection refused"
    );
    assert_eq!(e, expected);
}

#[tokio::test]
async fn socks_and_unix_sockets() {
    let target = serve(|head, _| ("200 OK", head.to_owned())).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 3];
        socket.read_exact(&mut greeting).await.unwrap();
        assert_eq!(greeting, [5, 1, 2]);
        socket.write_all(&[5, 2]).await.unwrap();
        let mut login = [0; 5];
        socket.read_exact(&mut login).await.unwrap();
        assert_eq!(&login, b"\x01\x01u\x01p");
        socket.write_all(&[1, 0]).await.unwrap();
        let mut wanted = [0; 21];
        socket.read_exact(&mut wanted).await.unwrap();
        assert_eq!(&wanted, b"\x05\x01\x00\x03\x0etarget.invalid\x00\x51");
        socket.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
        let mut target = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut socket, &mut target).await;
    });
    let client = Client::new(&proxied(&format!("socks5://u:p@127.0.0.1:{proxy}"))).unwrap();
    assert!(get(&client, "http://target.invalid:81/m").await.unwrap().starts_with("GET /m HTTP/1.1"));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("exporter.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            while let Some((head, _)) = read_request(&mut socket).await {
                answer(&mut socket, "200 OK", &head).await;
            }
        }
    });
    let client = Client::new(&ClientConfig::default()).unwrap();
    let mut request = Request::get(Url::parse("http://named.invalid:9/metrics?x=1").unwrap());
    request.unix_socket = Some(path);
    let body = client.send(request.clone()).await.unwrap().uncompressed(&BodyLimits::unlimited()).await.unwrap();
    let head = String::from_utf8(body.bytes.clone()).unwrap();
    assert!(head.starts_with("GET /metrics?x=1 HTTP/1.1\r\n") && head.contains("host: named.invalid:9\r\n"), "{head}");
    request.unix_socket = Some(dir.path().join("absent.sock"));
    let e = client.send(request).await.unwrap_err().to_string();
    assert!(e.contains("dial unix") && e.contains("absent.sock"), "{e}");
}

fn oauth2(token_port: u16) -> OAuth2 {
    OAuth2 {
        client_id: "me&co".to_owned(),
        client_secret: Secret::new("s:1"),
        scopes: vec!["read".to_owned(), "write".to_owned()],
        token_url: format!("http://127.0.0.1:{token_port}/token"),
        endpoint_params: BTreeMap::from([("audience".to_owned(), "all".to_owned())]),
        ..OAuth2::default()
    }
}

fn with(oauth2: OAuth2) -> Client {
    Client::new(&ClientConfig { oauth2: Some(oauth2), ..ClientConfig::default() }).unwrap()
}

#[tokio::test]
async fn tokens_are_fetched_kept_and_renewed() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let token_port = serve(move |head, body| {
        let mut log = log.lock().unwrap();
        log.push((head.to_owned(), body.to_owned()));
        let lifetime = if log.len() == 1 { "\"5\"" } else { "3600" }; // five seconds: within the margin at once
        let text = format!(r#"{{"access_token": "t{}", "token_type": "bearer", "expires_in": {lifetime}}}"#, log.len());
        ("200 OK", text)
    })
    .await;
    let target = serve(|head, _| ("200 OK", head.to_owned())).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "s:1\n").unwrap();
    let client = with(OAuth2 {
        client_secret: Secret::default(),
        client_secret_file: file.to_str().unwrap().to_owned(),
        ..oauth2(token_port)
    });
    let url = format!("http://127.0.0.1:{target}/metrics");
    for token in ["t1", "t2", "t2", "t2"] {
        let head = get(&client, &url).await.unwrap();
        assert!(head.contains(&format!("authorization: Bearer {token}\r\n")), "{token}: {head}");
    }
    {
        let asked = asked.lock().unwrap();
        let (head, body) = &asked[0];
        assert!(head.starts_with("POST /token HTTP/1.1"), "{head}");
        // me%26co:s%3A1
        assert!(head.contains("authorization: Basic bWUlMjZjbzpzJTNBMQ==\r\n"), "{head}");
        assert_eq!(body, "grant_type=client_credentials&scope=read+write&audience=all");
    }
    std::fs::write(&file, "s:2\n").unwrap();
    assert!(get(&client, &url).await.unwrap().contains("Bearer t3"), "a new secret means a new token");
    assert_eq!(asked.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn secrets_go_into_the_form_where_the_header_is_refused() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let token_port = serve(move |head, body| {
        log.lock().unwrap().push(body.to_owned());
        if head.contains("authorization: ") {
            return ("401 Unauthorized", r#"{"error": "invalid_client", "error_description": "no header"}"#.to_owned());
        }
        ("200 OK", r#"{"access_token": "t", "expires_in": 1}"#.to_owned())
    })
    .await;
    let target = serve(|head, _| ("200 OK", head.to_owned())).await;
    let client = with(oauth2(token_port));
    for _ in 0..2 {
        assert!(get(&client, &format!("http://127.0.0.1:{target}/")).await.unwrap().contains("Bearer t\r\n"));
    }
    let asked = asked.lock().unwrap().clone();
    let form = "grant_type=client_credentials&scope=read+write&client_id=me%26co&client_secret=s%3A1&audience=all";
    assert_eq!(asked[1..], [form, form], "what worked is remembered");
}

#[tokio::test]
async fn refused_tokens_say_why_and_are_not_sent_elsewhere() {
    let refusing = serve(|_, _| ("400 Bad Request", r#"{"error": "invalid_scope"}"#.to_owned())).await;
    let other = serve(|head, _| ("200 OK", head.to_owned())).await;
    let e = get(&with(oauth2(refusing)), &format!("http://127.0.0.1:{other}/")).await.unwrap_err().to_string();
    assert_eq!(e, format!("Get \"http://127.0.0.1:{other}/\": oauth2: \"invalid_scope\" \"\""));

    let giving = serve(|_, _| ("200 OK", r#"{"access_token": "s3cret"}"#.to_owned())).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let redirecting = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let (head, _) = read_request(&mut socket).await.unwrap();
        assert!(head.contains("Bearer s3cret"), "{head}");
        let text = format!("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:{other}/\r\ncontent-length: 0\r\n\r\n");
        socket.write_all(text.as_bytes()).await.unwrap();
    });
    let head = get(&with(oauth2(giving)), &format!("http://127.0.0.1:{redirecting}/")).await.unwrap();
    assert!(!head.contains("s3cret"), "{head}");
}

#[tokio::test]
async fn an_assertion_is_signed() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let asked = Arc::new(Mutex::new(String::new()));
    let log = Arc::clone(&asked);
    let token_port = serve(move |_, body| {
        *log.lock().unwrap() = body.to_owned();
        ("200 OK", r#"{"access_token": "t", "token_type": "Bearer"}"#.to_owned())
    })
    .await;
    let target = serve(|head, _| ("200 OK", head.to_owned())).await;
    let client = with(OAuth2 {
        client_secret: Secret::default(),
        grant_type: "urn:ietf:params:oauth:grant-type:jwt-bearer".to_owned(),
        client_certificate_key: Secret::new(key.serialize_pem()),
        client_certificate_key_id: "k1".to_owned(),
        ..oauth2(token_port)
    });
    assert!(get(&client, &format!("http://127.0.0.1:{target}/")).await.unwrap().contains("Bearer t\r\n"));
    let asked = asked.lock().unwrap().clone();
    let (_, assertion) = asked.split_once("assertion=").unwrap();
    let parts: Vec<&str> = assertion.split('&').next().unwrap().split('.').collect();
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&decode(parts[0])).unwrap();
    assert_eq!(header, serde_json::json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
    let claims: serde_json::Value = serde_json::from_slice(&decode(parts[1])).unwrap();
    assert_eq!((&claims["iss"], &claims["scope"]), (&"me&co".into(), &"read write".into()));
    let public = aws_lc_rs::signature::ParsedPublicKey::new(
        &aws_lc_rs::signature::RSA_PKCS1_2048_8192_SHA256,
        rcgen::PublicKeyData::subject_public_key_info(&key),
    )
    .unwrap();
    public.verify_sig(format!("{}.{}", parts[0], parts[1]).as_bytes(), &decode(parts[2])).unwrap();
}
