//! Mail through a server that is not ours: aiosmtpd, with STARTTLS and AUTH required.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use ferula_testkit::{Identity, Running, free_port, http_post, skipped};
use support::{FERULA, eventually};

/// Writes every mail it accepts to a file; refuses what is neither encrypted nor authenticated.
const SINK: &str = r#"
import ssl, sys, time
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
port, cert, key, out = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
class Handler:
    async def handle_DATA(self, server, session, envelope):
        with open(out, "ab") as f:
            f.write(envelope.mail_from.encode() + b" -> " + ",".join(envelope.rcpt_tos).encode() + b"\n" + envelope.content)
        return "250 kept"
def check(server, session, envelope, mechanism, data):
    return AuthResult(success=(data.login, data.password) == (b"ferula", b"s3cret"))
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
tls.load_cert_chain(cert, key)
Controller(Handler(), hostname="127.0.0.1", port=port, tls_context=tls, require_starttls=True,
           authenticator=check, auth_required=True).start()
print("ready", flush=True)
time.sleep(120)
"#;

struct Sink(Child);

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn aiosmtpd_takes_our_mail() {
    const SUITE: &str = "mail to aiosmtpd";
    let Some(python) = std::env::var_os("FERULA_AIOSMTPD") else {
        return skipped(SUITE, "FERULA_AIOSMTPD does not name a python that has it");
    };
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::localhost();
    let (cert, key, mails) = (dir.path().join("cert.pem"), dir.path().join("key.pem"), dir.path().join("mails"));
    std::fs::write(&cert, &identity.cert_pem).unwrap();
    std::fs::write(&key, &identity.key_pem).unwrap();
    let port = free_port();
    let mut sink = Command::new(python)
        .args(["-c", SINK, &port.to_string()])
        .args([&cert, &key, &mails])
        .stdout(Stdio::piped())
        .spawn()
        .map(Sink)
        .unwrap();
    let mut ready = [0u8; 5];
    std::io::Read::read_exact(sink.0.stdout.as_mut().unwrap(), &mut ready).unwrap();

    let alertmanager = Running::start(Path::new(FERULA), "/-/ready", |p| {
        let config = format!(
            "global:\n  smtp_from: ferula@example.org\n  smtp_smarthost: localhost:{port}\n  smtp_auth_username: ferula\n  smtp_auth_password: s3cret\n  smtp_tls_config: {{ca_file: {}}}\nroute: {{receiver: mail, group_wait: 0s}}\nreceivers:\n- name: mail\n  email_configs:\n  - to: oncall@example.org\n",
            cert.display()
        );
        vec![
            "alertmanager".into(),
            format!("--config.file={}", p.file("alertmanager.yml", &config)),
            format!("--storage.path={}", p.dir.display()),
            format!("--web.listen-address={}", p.addr),
            "--cluster.listen-address=".into(),
        ]
    });
    let alert = r#"[{"labels": {"alertname": "DiskFull", "host": "a"}, "annotations": {"summary": "no space"}}]"#;
    assert_eq!(http_post(alertmanager.addr, "/api/v2/alerts", "application/json", alert).unwrap().0, 200);
    let read = || std::fs::read_to_string(&mails).unwrap_or_default();
    let mail = eventually("the mail", 20, read, |text| text.contains("DiskFull"));
    assert!(mail.starts_with("ferula@example.org -> oncall@example.org"), "{mail}");
    assert!(mail.contains("multipart/alternative"), "{mail}");
}
