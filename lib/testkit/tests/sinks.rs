//! The sinks, talked to by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ferula_testkit::{
    Behaviour, Hostile, HttpAnswer, Launch, Peer, SmtpOptions, SmtpSink, WebhookSink, http_get, skipped,
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

const SOON: Duration = Duration::from_secs(30);

fn trusting(pem: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Sends a line, gives the last line of the answer.
fn ask<S: Read + Write>(stream: &mut BufReader<S>, line: &str) -> String {
    if !line.is_empty() {
        stream.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        stream.get_mut().flush().unwrap();
    }
    loop {
        let mut answer = String::new();
        stream.read_line(&mut answer).unwrap();
        if answer.as_bytes().get(3) != Some(&b'-') {
            return answer.trim_end().to_owned();
        }
    }
}

#[test]
fn mail_over_starttls_with_login() {
    let credentials = Some(("me".to_owned(), "secret".to_owned()));
    let sink = SmtpSink::start(SmtpOptions { credentials, refuse_first: 1, ..SmtpOptions::default() });
    let mut plain = BufReader::new(TcpStream::connect(sink.addr()).unwrap());
    assert_eq!(ask(&mut plain, ""), "220 testkit ESMTP");
    ask(&mut plain, "EHLO test");
    assert!(ask(&mut plain, "MAIL FROM:<a@x>").starts_with("530"));
    assert!(ask(&mut plain, "STARTTLS").starts_with("220"));
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(trusting(sink.ca_pem()), name).unwrap();
    let mut s = BufReader::new(StreamOwned::new(tls, plain.into_inner()));
    ask(&mut s, "EHLO again");
    assert!(ask(&mut s, &format!("AUTH PLAIN {}", STANDARD.encode("\0me\0wrong"))).starts_with("535"));
    assert_eq!(ask(&mut s, "AUTH LOGIN"), "334 VXNlcm5hbWU6");
    assert!(ask(&mut s, &STANDARD.encode("me")).starts_with("334"));
    assert!(ask(&mut s, &STANDARD.encode("secret")).starts_with("235"));
    for want in ["451", "250"] {
        ask(&mut s, "MAIL FROM:<a@x> SIZE=10");
        ask(&mut s, "RCPT TO:<b@x>");
        ask(&mut s, "RCPT TO:<c@x>");
        ask(&mut s, "DATA");
        let answer = ask(&mut s, "Subject: long\r\n one\r\n\r\n..dots=C3=BC and=\r\n more\r\n.");
        assert!(answer.starts_with(want), "{answer}");
    }
    assert!(ask(&mut s, "QUIT").starts_with("221"));
    let mails = sink.wait_for(1, SOON);
    let mail = &mails[0];
    assert_eq!((mail.from.as_str(), mail.to.join(","), mail.over_tls), ("a@x", "b@x,c@x".to_owned(), true));
    assert_eq!(mail.auth, Some(("LOGIN".to_owned(), "me".to_owned())));
    assert_eq!(mail.header("subject").as_deref(), Some("long one"));
    assert!(mail.body().starts_with(".dots") && mail.readable().contains("ü and more"));
}

#[test]
fn webhooks_are_recorded_and_answered_by_script() {
    let sink = WebhookSink::start();
    sink.answer_next(HttpAnswer::with_body(503, "later"));
    let mut s = BufReader::new(TcpStream::connect(sink.addr()).unwrap());
    for body in
        ["Content-Length: 7\r\n\r\n{\"a\":1}", "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":2}\r\n0\r\n\r\n"]
    {
        s.get_mut().write_all(format!("POST /hook?x=1 HTTP/1.1\r\nHost: a\r\n{body}").as_bytes()).unwrap();
    }
    let got = sink.wait_for(2, SOON);
    assert_eq!((got[0].path.as_str(), got[0].json()["a"].as_u64()), ("/hook?x=1", Some(1)));
    assert_eq!(got[1].json()["a"].as_u64(), Some(2));
    let mut first = String::new();
    s.read_line(&mut first).unwrap();
    assert!(first.starts_with("HTTP/1.1 503"));
    assert_eq!(http_get(sink.addr(), "/x").unwrap().0, 200);
}

#[test]
fn hostile_targets_misbehave() {
    for (behaviour, fails) in [
        (Behaviour::Reset, true),
        (Behaviour::ShortBody, true),
        (Behaviour::ResetInBody, true),
        (Behaviour::RedirectLoop, false),
    ] {
        let target = Hostile::start(behaviour);
        assert_eq!(http_get(target.addr(), "/metrics").is_err(), fails, "{behaviour:?}");
        assert_eq!(target.connections(), 1);
    }
    for behaviour in [Behaviour::EndlessBody, Behaviour::EndlessLine, Behaviour::GzipBomb, Behaviour::EndlessHeaders] {
        let target = Hostile::start(behaviour);
        let mut s = TcpStream::connect(target.addr()).unwrap();
        s.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut some = vec![0; 1000];
        s.read_exact(&mut some).unwrap_or_else(|e| panic!("{behaviour:?}: {e}"));
    }
}

#[test]
fn a_real_peer_starts_and_ends() {
    let peer = match Peer::find("prometheus-node-exporter", (1, 8, 0)) {
        Ok(peer) => peer,
        Err(why) => return skipped("testkit peer", why),
    };
    let listen = |l: &Launch<'_>| vec![format!("--web.listen-address={}", l.addr)];
    let running = peer.start_when("/", listen);
    let (status, page) = running.get("/metrics?collect[]=loadavg");
    assert_eq!(status, 200);
    assert!(page.contains("node_load1 "));
    let addr = running.addr;
    drop(running);
    assert!(http_get(addr, "/").is_err());
}
