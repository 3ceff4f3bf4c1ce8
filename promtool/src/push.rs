//! `push metrics`: an exposition, sent by remote write 1.0.
use ferula_exposition::parse::{Entry, Limits, Parser, Syntax};
use ferula_proto::Message;
use ferula_proto::remote::{Label, Sample, TimeSeries, WriteRequest};

use crate::command_line::Parsed;
use crate::server::Server;
use crate::{FAILURE, Streams};

pub(crate) fn run(parsed: &Parsed, streams: &mut Streams<'_>) -> u8 {
    let server = match Server::new(parsed.arg("remote-write-url"), parsed) {
        Ok(server) => server,
        Err(e) => {
            streams.complain(e);
            return FAILURE;
        }
    };
    let labels = parsed.pairs("label");
    let files = parsed.args("metric-files");
    let (mut failed, mut unreadable) = (false, false);
    let mut push = |name: &str, body: &[u8], streams: &mut Streams<'_>| match request(body, &labels)
        .and_then(|request| send(&server, &request))
    {
        Ok(()) => streams.say(format_args!("  SUCCESS: metrics {name}pushed to remote write.")),
        Err(e) => {
            streams.complain(format_args!("  FAILED: {e}"));
            failed = true;
        }
    };
    if files.is_empty() {
        streams.say("Parsing standard input");
        let mut body = Vec::new();
        if let Err(e) = streams.input.read_to_end(&mut body) {
            streams.complain(format_args!("  FAILED: {e}"));
            return FAILURE;
        }
        push("", &body, streams);
    }
    for file in files {
        streams.say(format_args!("Parsing metrics file {file}"));
        match std::fs::read(file) {
            Ok(body) => push(&format!("file {file} "), &body, streams),
            Err(e) => {
                streams.complain(format_args!("  FAILED: {e}"));
                unreadable = true;
            }
        }
    }
    if failed || unreadable { FAILURE } else { 0 }
}

/// All samples of an exposition as of now, with further labels.
fn request(body: &[u8], labels: &[(String, String)]) -> Result<WriteRequest, String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut parser = Parser::new(body, Syntax::Text, Limits::default());
    let mut request = WriteRequest::default();
    while let Some(entry) = parser.next() {
        let entry = entry.map_err(|e| format!("text format parsing error in line {}: {}", e.line, e.reason))?;
        let Entry::Sample(s) = entry else { continue };
        let mut all: Vec<Label> = labels.iter().map(|(n, v)| Label { name: n.clone(), value: v.clone() }).collect();
        parser.labels(|n, v| {
            // The sample's own labels count.
            all.retain(|l| l.name != n);
            all.push(Label { name: n.into_owned(), value: v.into_owned() });
        });
        all.sort_by(|a, b| a.name.cmp(&b.name));
        request.timeseries.push(TimeSeries {
            labels: all,
            samples: vec![Sample { value: s.value, timestamp: s.t_ms.unwrap_or(now) }],
            ..TimeSeries::default()
        });
    }
    Ok(request)
}

fn send(server: &Server, request: &WriteRequest) -> Result<(), String> {
    let body = snap::raw::Encoder::new().compress_vec(&request.encode_to_vec()).map_err(|e| e.to_string())?;
    let headers = [("content-encoding", "snappy"), ("x-prometheus-remote-write-version", "0.1.0")];
    let answer = server.post("application/x-protobuf", body, &headers)?;
    if answer.status.is_success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    Err(format!("server returned HTTP status {}: {text}", answer.status))
}
