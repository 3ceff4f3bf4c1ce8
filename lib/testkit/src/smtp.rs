//! A mail server (RFC 5321) that keeps what it gets: STARTTLS (RFC 3207) or TLS from the start, AUTH PLAIN and LOGIN
//! (RFC 4954).
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::recorder::Recorder;
use crate::server::{Server, Stream, accept_tls};
use crate::tls::Identity;

#[derive(Clone, Debug)]
pub struct SmtpOptions {
    /// Offers STARTTLS.
    pub starttls: bool,
    /// Speaks TLS from the first byte (port 465 style).
    pub implicit_tls: bool,
    /// User and password; mail is refused before AUTH when set, and AUTH is offered over TLS only if TLS is to be had.
    pub credentials: Option<(String, String)>,
    /// What AUTH offers.
    pub mechanisms: Vec<&'static str>,
    /// Answers this many mails with a temporary failure (451) first.
    pub refuse_first: usize,
}

impl Default for SmtpOptions {
    fn default() -> Self {
        SmtpOptions {
            starttls: true,
            implicit_tls: false,
            credentials: None,
            mechanisms: vec!["PLAIN", "LOGIN"],
            refuse_first: 0,
        }
    }
}

/// A mail as it was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    pub hello: String,
    /// Envelope sender and recipients, without angle brackets.
    pub from: String,
    pub to: Vec<String>,
    /// Headers and body, dots unstuffed, lines ending in CRLF.
    pub data: String,
    pub over_tls: bool,
    /// Mechanism and user.
    pub auth: Option<(String, String)>,
}

impl Mail {
    /// The first header of this name, unfolded, not decoded.
    pub fn header(&self, name: &str) -> Option<String> {
        let head = self.data.split("\r\n\r\n").next().unwrap_or_default();
        let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
        unfolded.split("\r\n").find_map(|line| {
            let (n, v) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
        })
    }
    /// Everything after the first blank line, not decoded.
    pub fn body(&self) -> &str {
        self.data.split_once("\r\n\r\n").map_or("", |(_, b)| b)
    }
    /// The whole mail with quoted-printable soft breaks and escapes undone, for `contains`.
    pub fn readable(&self) -> String {
        let joined = self.data.replace("=\r\n", "");
        let mut out = Vec::with_capacity(joined.len());
        let bytes = joined.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
            match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
                Some(b) if bytes[i] == b'=' => {
                    out.push(b);
                    i += 3;
                }
                _ => {
                    out.push(bytes[i]);
                    i += 1;
                }
            }
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

pub struct SmtpSink {
    server: Server,
    mails: Recorder<Mail>,
    identity: Identity,
}

impl SmtpSink {
    pub fn start(options: SmtpOptions) -> SmtpSink {
        let (mails, identity) = (Recorder::new(), Identity::localhost());
        let shared = Arc::new(Shared {
            refuse: AtomicUsize::new(options.refuse_first),
            options,
            mails: mails.clone(),
            identity: identity.clone(),
        });
        let server = Server::start(move |stream| {
            let _ = Session::serve(&shared, stream); // a peer that breaks off is the peer's affair
        });
        SmtpSink { server, mails, identity }
    }

    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }
    /// The certificate to trust; it is for `localhost` and `127.0.0.1`.
    pub fn ca_pem(&self) -> &str {
        &self.identity.cert_pem
    }
    pub fn mails(&self) -> Vec<Mail> {
        self.mails.all()
    }
    /// Blocks until `n` mails have come in all; panics with what came when the deadline passes.
    pub fn wait_for(&self, n: usize, deadline: Duration) -> Vec<Mail> {
        let got = self.mails.wait_until(deadline, |m| m.len() >= n);
        got.unwrap_or_else(|got| panic!("waited {deadline:?} for {n} mails, got {}: {got:#?}", got.len()))
    }
    /// Blocks until `enough` holds for the mails so far.
    pub fn wait_until(&self, deadline: Duration, enough: impl Fn(&[Mail]) -> bool) -> Vec<Mail> {
        let got = self.mails.wait_until(deadline, enough);
        got.unwrap_or_else(|got| panic!("waited {deadline:?} for mails, got {}: {got:#?}", got.len()))
    }
}

struct Shared {
    options: SmtpOptions,
    refuse: AtomicUsize,
    mails: Recorder<Mail>,
    identity: Identity,
}

/// One connection. TLS replaces the stream in mid-session, so the raw one is kept beside until then.
struct Session<'a> {
    shared: &'a Shared,
    stream: BufReader<Box<dyn Stream>>,
    hello: String,
    over_tls: bool,
    auth: Option<(String, String)>,
    from: Option<String>,
    to: Vec<String>,
}

enum Next {
    Go,
    StartTls,
    Quit,
}

impl<'a> Session<'a> {
    fn serve(shared: &'a Shared, raw: TcpStream) -> io::Result<()> {
        let over_tls = shared.options.implicit_tls;
        let first: Box<dyn Stream> =
            if over_tls { accept_tls(raw.try_clone()?, &shared.identity.server) } else { Box::new(raw.try_clone()?) };
        let stream = BufReader::new(first);
        let (hello, to) = (String::new(), Vec::new());
        let mut session = Session { shared, stream, hello, over_tls, auth: None, from: None, to };
        session.say("220 testkit ESMTP")?;
        while let Some(line) = session.line()? {
            match session.command(&line)? {
                Next::Go => {}
                Next::Quit => return Ok(()),
                Next::StartTls => {
                    session.stream = BufReader::new(accept_tls(raw.try_clone()?, &shared.identity.server));
                    session.over_tls = true;
                    session.hello.clear();
                }
            }
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.stream.by_ref().take(1 << 20).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()))
    }

    fn say(&mut self, answer: &str) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(answer.as_bytes())?;
        stream.write_all(b"\r\n")?;
        stream.flush()
    }

    fn offers_auth(&self) -> bool {
        let options = &self.shared.options;
        options.credentials.is_some() && (self.over_tls || !options.starttls)
    }

    fn command(&mut self, line: &str) -> io::Result<Next> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                self.hello = rest.to_owned();
                let mut answer = "250-testkit\r\n250-8BITMIME\r\n".to_owned();
                if self.shared.options.starttls && !self.over_tls {
                    answer += "250-STARTTLS\r\n";
                }
                if self.offers_auth() {
                    answer += &format!("250-AUTH {}\r\n", self.shared.options.mechanisms.join(" "));
                }
                self.say(&(answer + "250 SIZE 33554432"))?;
            }
            "HELO" => {
                self.hello = rest.to_owned();
                self.say("250 testkit")?;
            }
            "STARTTLS" if self.shared.options.starttls && !self.over_tls => {
                self.say("220 go ahead")?;
                return Ok(Next::StartTls);
            }
            "AUTH" if self.offers_auth() => self.authenticate(rest)?,
            "MAIL" if self.shared.options.credentials.is_some() && self.auth.is_none() => {
                self.say("530 5.7.0 Authentication required")?;
            }
            "MAIL" => {
                self.from = Some(address(rest));
                self.to.clear();
                self.say("250 ok")?;
            }
            "RCPT" if self.from.is_some() => {
                self.to.push(address(rest));
                self.say("250 ok")?;
            }
            "DATA" if !self.to.is_empty() => self.data()?,
            "RSET" => {
                self.from = None;
                self.to.clear();
                self.say("250 ok")?;
            }
            "NOOP" => self.say("250 ok")?,
            "QUIT" => {
                self.say("221 bye")?;
                return Ok(Next::Quit);
            }
            _ => self.say("503 5.5.1 not now")?,
        }
        Ok(Next::Go)
    }

    fn authenticate(&mut self, rest: &str) -> io::Result<()> {
        let (mechanism, initial) = rest.split_once(' ').unwrap_or((rest, ""));
        let mechanism = mechanism.to_ascii_uppercase();
        if !self.shared.options.mechanisms.contains(&mechanism.as_str()) {
            return self.say("504 5.5.4 unknown mechanism");
        }
        let (user, password) = if mechanism == "LOGIN" {
            let user = if initial.is_empty() { self.ask("VXNlcm5hbWU6")? } else { decode(initial) };
            (user, self.ask("UGFzc3dvcmQ6")?)
        } else {
            let all = if initial.is_empty() { self.ask("")? } else { decode(initial) };
            let mut parts = all.split('\0').skip(1).map(str::to_owned);
            (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
        };
        if self.shared.options.credentials == Some((user.clone(), password)) {
            self.auth = Some((mechanism, user));
            self.say("235 2.7.0 welcome")
        } else {
            self.say("535 5.7.8 Authentication credentials invalid")
        }
    }

    fn ask(&mut self, challenge: &str) -> io::Result<String> {
        self.say(&format!("334 {challenge}"))?;
        Ok(decode(&self.line()?.unwrap_or_default()))
    }

    fn data(&mut self) -> io::Result<()> {
        self.say("354 go on")?;
        let mut data = String::new();
        loop {
            let Some(line) = self.line()? else { return Ok(()) };
            if line == "." {
                break;
            }
            data += line.strip_prefix('.').unwrap_or(&line);
            data += "\r\n";
        }
        let (from, to) = (self.from.take().unwrap_or_default(), std::mem::take(&mut self.to));
        let left = self.shared.refuse.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            return self.say("451 4.3.0 try again later");
        }
        let (hello, over_tls, auth) = (self.hello.clone(), self.over_tls, self.auth.clone());
        self.shared.mails.push(Mail { hello, from, to, data, over_tls, auth });
        self.say("250 kept")
    }
}

/// `FROM:<a@b> SIZE=3` -> `a@b`
fn address(argument: &str) -> String {
    let inside = argument.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(a, _)| a);
    inside.unwrap_or(argument).trim().to_owned()
}

fn decode(base64: &str) -> String {
    String::from_utf8_lossy(&STANDARD.decode(base64.trim()).unwrap_or_default()).into_owned()
}
