//! E-mail through lettre: a text and an HTML part, STARTTLS or TLS from the first byte, AUTH PLAIN and LOGIN.
//!
//! A template that fails at run time does not lose the page: a plain mail with the alerts and the error goes out instead.
use std::fmt::Write;
use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::{Mailboxes, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{Certificate, CertificateStore, Identity, Tls, TlsParameters, TlsVersion};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use sha2::{Digest, Sha256};

use super::secret_or_file;
use crate::config::{self, http::TlsConfig};
use crate::core::Delivery;
use crate::notify::data::Data;
use crate::notify::template::Bound;
use crate::notify::{Context, FailureReason, SendError};
use crate::time;

/// One command and its answer; the whole attempt is bounded by the delivery's deadline.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

pub async fn send(context: &Context, config: &config::Email, delivery: &Delivery) -> Result<(), SendError> {
    let (data, _, bound) = context.bind(delivery, 0);
    let mail = match bound.and_then(|b| rendered(config, &b)) {
        Ok(mail) => mail,
        Err(e) => {
            tracing::error!(receiver = &*data.receiver, error = %e, "Mail template failed, sending a plain mail");
            fallback(config, &data, &e)
        }
    };
    let (envelope, bytes) = compose(context, config, delivery, mail)?;
    let transport = transport(config)?;
    transport.send_raw(&envelope, &bytes).await.map(|_| ()).map_err(|e| smtp_error(&e))
}

/// What templates make of the section.
struct Mail {
    headers: Vec<(String, String)>,
    text: String,
    html: String,
}

fn rendered(config: &config::Email, bound: &Bound) -> Result<Mail, ferula_template::Error> {
    let headers = config.headers.iter().map(|(n, v)| Ok((n.clone(), bound.text(v)?))).collect::<Result<_, _>>()?;
    let html = bound.html(&config.html)?;
    // A part for those who read no HTML, also where the configuration leaves it out.
    let text = match config.text.is_empty() && !html.is_empty() {
        true => bound.text("{{ template \"email.default.text\" . }}")?,
        false => bound.text(&config.text)?,
    };
    Ok(Mail { headers, text, html })
}

fn fallback(config: &config::Email, data: &Data, error: &ferula_template::Error) -> Mail {
    let mut text = format!("This notification's template failed: {error}\r\n\r\n");
    for a in &data.alerts {
        let _ = write!(text, "{}:", a.status);
        for (n, v) in a.labels.0.iter().chain(a.annotations.0.iter()) {
            let _ = write!(text, " {n}={v:?}");
        }
        text.push_str("\r\n");
    }
    let name = data.common_labels.0.get("alertname").unwrap_or("alerts");
    let subject = format!("[{}] {name} (template failed)", data.status.to_uppercase());
    let mut headers: Vec<(String, String)> = config
        .headers
        .iter()
        .filter(|(n, v)| *n != "Subject" && !v.contains("{{"))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    headers.push(("Subject".to_owned(), subject));
    Mail { headers, text, html: String::new() }
}

fn addresses(what: &str, text: &str) -> Result<Vec<lettre::Address>, SendError> {
    let list: Mailboxes = text
        .parse()
        .map_err(|e| SendError::permanent(FailureReason::ClientError, format!("parse '{what}' addresses: {e}")))?;
    Ok(list.into_iter().map(|m| m.email).collect())
}

fn compose(
    context: &Context,
    config: &config::Email,
    delivery: &Delivery,
    mail: Mail,
) -> Result<(Envelope, Vec<u8>), SendError> {
    // Envelope addresses may hold templates too.
    let (_, _, bound) = context.bind(delivery, 0);
    let expand = |text: &str| match &bound {
        Ok(b) => b.text(text).unwrap_or_else(|_| text.to_owned()),
        Err(_) => text.to_owned(),
    };
    let from = addresses("from", &expand(&config.from))?;
    let to = addresses("to", &expand(&config.to))?;
    let [from] = from.as_slice() else {
        let n = from.len();
        return Err(SendError::permanent(
            FailureReason::ClientError,
            format!("must be exactly one 'from' address (got: {n})"),
        ));
    };
    let envelope = Envelope::new(Some(from.clone()), to)
        .map_err(|e| SendError::permanent(FailureReason::ClientError, e.to_string()))?;

    let mut head = String::new();
    for (name, value) in &mail.headers {
        if name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            let _ = write!(head, "{name}: {}\r\n", encode_header(value));
        }
    }
    let has = |name: &str| mail.headers.iter().any(|(n, _)| n == name);
    let now_ms = context.clock.now_ms();
    if !has("Message-Id") {
        let random = fastrand::u64(..);
        let _ = write!(head, "Message-Id: <{now_ms}.{random:016x}@{}>\r\n", hello(config));
    }
    if config.threading.enabled && !has("References") {
        let thread = thread_id(&delivery.notification.group_key, &config.threading, now_ms);
        let _ = write!(head, "References: {thread}\r\nIn-Reply-To: {thread}\r\n");
    }
    if !has("Date") {
        let date = time::zoned(now_ms);
        let text = jiff::fmt::rfc2822::to_string(&date).unwrap_or_default();
        let _ = write!(head, "Date: {text}\r\n");
    }
    head.push_str("MIME-Version: 1.0\r\n");
    let mut parts = MultiPart::alternative().build();
    if !mail.text.is_empty() {
        parts = parts.singlepart(SinglePart::plain(mail.text));
    }
    if !mail.html.is_empty() {
        parts = parts.singlepart(SinglePart::html(mail.html));
    }
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&parts.formatted());
    Ok((envelope, bytes))
}

/// The same for all mails of a group, so that clients show them together; anew every day unless told otherwise.
fn thread_id(group_key: &str, threading: &config::receiver::Threading, now_ms: i64) -> String {
    let hash: String = Sha256::digest(group_key.as_bytes()).iter().take(16).map(|b| format!("{b:02x}")).collect();
    match threading.thread_by_date.as_str() {
        "none" => format!("<alert-{hash}@alertmanager>"),
        _ => format!("<alert-{hash}-{}@alertmanager>", time::zoned(now_ms).strftime("%Y-%m-%d")),
    }
}

/// RFC 2047 where needed; a line break in a value cannot start another header.
fn encode_header(value: &str) -> String {
    if value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return value.to_owned();
    }
    let mut out = String::new();
    let mut word = String::new();
    let mut flush = |word: &mut String| {
        if !word.is_empty() {
            let sep = if out.is_empty() { "" } else { "\r\n " };
            let _ = write!(out, "{sep}=?utf-8?q?{word}?=");
            word.clear();
        }
    };
    for c in value.chars() {
        let mut piece = String::new();
        match c {
            ' ' => piece.push('_'),
            c if c.is_ascii_alphanumeric() || "!*+-/.,:;@<>()".contains(c) => piece.push(c),
            c => {
                for b in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(piece, "={b:02X}");
                }
            }
        }
        if word.len() + piece.len() > 60 {
            flush(&mut word);
        }
        word.push_str(&piece);
    }
    flush(&mut word);
    out
}

fn hello(config: &config::Email) -> &str {
    if config.hello.is_empty() { "localhost" } else { &config.hello }
}

fn transport(config: &config::Email) -> Result<AsyncSmtpTransport<Tokio1Executor>, SendError> {
    let bad = |message: String| SendError::permanent(FailureReason::Other, message);
    let host = &config.smarthost.host;
    let port: u16 = match config.smarthost.port.as_str() {
        "smtp" => 25,
        "submission" => 587,
        "smtps" | "submissions" => 465,
        number => number.parse().map_err(|_| bad(format!("invalid port {number:?} of the smarthost")))?,
    };
    let implicit = config.force_implicit_tls.unwrap_or(port == 465);
    let tls = if implicit || config.require_tls.unwrap_or(true) {
        let parameters = tls(host, &config.tls_config.clone().unwrap_or_default())?;
        if implicit { Tls::Wrapper(parameters) } else { Tls::Required(parameters) }
    } else {
        Tls::None
    };
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host)
        .port(port)
        .tls(tls)
        .timeout(Some(COMMAND_TIMEOUT))
        .hello_name(ClientId::Domain(hello(config).to_owned()));
    if !config.auth_username.is_empty() {
        let password = secret_or_file(config.auth_password.expose(), &config.auth_password_file)?;
        builder = builder
            .credentials(Credentials::new(config.auth_username.clone(), password))
            .authentication(vec![Mechanism::Plain, Mechanism::Login]);
    }
    Ok(builder.build())
}

fn tls(host: &str, config: &TlsConfig) -> Result<TlsParameters, SendError> {
    let bad = |message: String| SendError::transient(format!("tls_config: {message}"));
    let domain = if config.server_name.is_empty() { host } else { &config.server_name };
    let mut builder = TlsParameters::builder(domain.to_owned()).set_min_tls_version(match config.min_version {
        Some(ferula_net::client::config::TlsVersion::Tls13) => TlsVersion::Tlsv13,
        _ => TlsVersion::Tlsv12,
    });
    let ca = secret_or_file(&config.ca, &config.ca_file)?;
    if !ca.is_empty() {
        // Whoever names an authority trusts that one alone.
        builder = builder.certificate_store(CertificateStore::None);
        builder = builder.add_root_certificate(Certificate::from_pem(ca.as_bytes()).map_err(|e| bad(e.to_string()))?);
    }
    if !config.cert.is_empty() || !config.cert_file.is_empty() {
        let cert = secret_or_file(&config.cert, &config.cert_file)?;
        let key = secret_or_file(config.key.expose(), &config.key_file)?;
        builder =
            builder.identify_with(Identity::from_pem(cert.as_bytes(), key.as_bytes()).map_err(|e| bad(e.to_string()))?);
    }
    if config.insecure_skip_verify {
        builder = builder.dangerous_accept_invalid_certs(true).dangerous_accept_invalid_hostnames(true);
    }
    builder.build().map_err(|e| bad(e.to_string()))
}

fn smtp_error(e: &lettre::transport::smtp::Error) -> SendError {
    let code = e.status().map(u16::from);
    SendError {
        reason: match code {
            Some(530 | 534 | 535 | 538) => FailureReason::AuthError,
            Some(421 | 450 | 451 | 452) => FailureReason::ServerError,
            Some(_) => FailureReason::ClientError,
            None => FailureReason::Other,
        },
        message: e.to_string() + &std::error::Error::source(e).map(|s| format!(": {s}")).unwrap_or_default(),
        is_transient: !e.is_permanent(),
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_encoded_and_cannot_be_injected() {
        assert_eq!(encode_header("[FIRING:1] plain"), "[FIRING:1] plain");
        assert_eq!(encode_header("grün x"), "=?utf-8?q?gr=C3=BCn_x?=");
        let injected = encode_header("a\r\nBcc: x@y");
        assert!(!injected.contains('\n'), "{injected}");
        let long = encode_header(&"ü".repeat(100));
        assert!(long.split("\r\n").all(|l| l.len() <= 76), "{long}");
    }

    #[test]
    fn threads_by_day_or_for_good() {
        let t = |by: &str, ms| {
            thread_id("{}:{}", &config::receiver::Threading { enabled: true, thread_by_date: by.into() }, ms)
        };
        assert_eq!(t("", 0), t("daily", 1));
        assert_ne!(t("", 0), t("", 86_400_000));
        assert_eq!(t("none", 0), t("none", 86_400_000));
    }
}
