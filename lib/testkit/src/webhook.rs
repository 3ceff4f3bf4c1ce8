//! Receives HTTP requests, records them, answers what the test scripted.
use std::collections::VecDeque;
use std::io::BufReader;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::http::{HttpAnswer, HttpRequest, read_request};
use crate::recorder::Recorder;
use crate::server::{Server, Stream, accept_tls};
use crate::tls::Identity;

pub struct WebhookSink {
    server: Server,
    requests: Recorder<HttpRequest>,
    script: Arc<Mutex<Script>>,
    identity: Option<Identity>,
}

struct Script {
    next: VecDeque<HttpAnswer>,
    otherwise: HttpAnswer,
}

impl WebhookSink {
    pub fn start() -> WebhookSink {
        WebhookSink::launch(None)
    }

    /// HTTPS with a certificate of its own, see [`WebhookSink::ca_pem`].
    pub fn start_tls() -> WebhookSink {
        WebhookSink::launch(Some(Identity::localhost()))
    }

    fn launch(identity: Option<Identity>) -> WebhookSink {
        let requests = Recorder::new();
        let script = Arc::new(Mutex::new(Script { next: VecDeque::new(), otherwise: HttpAnswer::status(200) }));
        let (record, answers) = (requests.clone(), Arc::clone(&script));
        let tls = identity.as_ref().map(|i| Arc::clone(&i.server));
        let server = Server::start(move |stream| {
            let stream: Box<dyn Stream> = match &tls {
                Some(config) => accept_tls(stream, config),
                None => Box::new(stream),
            };
            let mut stream = BufReader::new(stream);
            while let Ok(Some(request)) = read_request(&mut stream) {
                let answer = {
                    let mut script = answers.lock().unwrap();
                    script.next.pop_front().unwrap_or_else(|| script.otherwise.clone())
                };
                record.push(request);
                if answer.write(stream.get_mut()).is_err() {
                    return;
                }
            }
        });
        WebhookSink { server, requests, script, identity }
    }

    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }
    /// `path` begins with a slash.
    pub fn url(&self, path: &str) -> String {
        let scheme = if self.identity.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path}", self.addr())
    }
    /// The certificate to trust, when started with TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.identity.as_ref().map(|i| i.cert_pem.as_str())
    }
    /// Queues an answer for one request; without one, the request gets the standing answer (200).
    pub fn answer_next(&self, answer: HttpAnswer) {
        self.script.lock().unwrap().next.push_back(answer);
    }
    pub fn answer_always(&self, answer: HttpAnswer) {
        self.script.lock().unwrap().otherwise = answer;
    }
    pub fn requests(&self) -> Vec<HttpRequest> {
        self.requests.all()
    }
    pub fn clear(&self) {
        self.requests.clear();
    }
    /// Blocks until `n` requests have come in all; panics with what came when the deadline passes.
    pub fn wait_for(&self, n: usize, deadline: Duration) -> Vec<HttpRequest> {
        self.wait_until(deadline, |r| r.len() >= n)
    }
    /// Blocks until `enough` holds for the requests so far.
    pub fn wait_until(&self, deadline: Duration, enough: impl Fn(&[HttpRequest]) -> bool) -> Vec<HttpRequest> {
        self.requests.wait_until(deadline, enough).unwrap_or_else(|got| {
            let got: Vec<String> = got.iter().map(|r| format!("{} {} {}", r.method, r.path, r.text())).collect();
            panic!("waited {deadline:?} for webhooks, got {}: {got:#?}", got.len())
        })
    }
}
