//! As much of HTTP/1.1 as sinks and pollers need.
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const BODY_BYTES_MAX: u64 = 256 << 20;

/// What a client sent.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    pub method: String,
    /// Path and query as sent.
    pub path: String,
    /// In order, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl HttpRequest {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
    /// Panics when the body is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {}", self.text()))
    }
}

/// What a sink answers.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl HttpAnswer {
    pub fn status(status: u16) -> HttpAnswer {
        HttpAnswer { status, headers: Vec::new(), body: Vec::new() }
    }
    pub fn with_body(status: u16, body: impl Into<Vec<u8>>) -> HttpAnswer {
        HttpAnswer { status, headers: Vec::new(), body: body.into() }
    }
    pub fn header(mut self, name: &str, value: &str) -> HttpAnswer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
    pub(crate) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut head = format!("HTTP/1.1 {} Status\r\nContent-Length: {}\r\n", self.status, self.body.len());
        for (n, v) in &self.headers {
            head += &format!("{n}: {v}\r\n");
        }
        head += "\r\n";
        out.write_all(head.as_bytes())?;
        out.write_all(&self.body)?;
        out.flush()
    }
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

fn read_line(input: &mut dyn BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    if input.take(64 * 1024).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned()))
}

type Headers = Vec<(String, String)>;

/// Start line and headers; `None` when the peer closed.
pub(crate) fn read_head(input: &mut dyn BufRead) -> io::Result<Option<(String, Headers)>> {
    let Some(start) = read_line(input)? else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        let line = read_line(input)?.ok_or_else(|| bad("headers end early"))?;
        if line.is_empty() {
            return Ok(Some((start, headers)));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("header without colon"))?;
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_body(input: &mut dyn BufRead, headers: &[(String, String)], until_close: bool) -> io::Result<Vec<u8>> {
    let find = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
    let mut body = Vec::new();
    if find("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked")) {
        loop {
            let size = read_line(input)?.ok_or_else(|| bad("body ends early"))?;
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| bad("chunk size"))?;
            if size + body.len() as u64 > BODY_BYTES_MAX {
                return Err(bad("body too large"));
            }
            if size == 0 {
                while read_line(input)?.is_some_and(|l| !l.is_empty()) {}
                return Ok(body);
            }
            if input.take(size).read_to_end(&mut body)? as u64 != size {
                return Err(bad("body ends early"));
            }
            read_line(input)?;
        }
    }
    let length = match find("content-length") {
        Some(v) => v.parse().map_err(|_| bad("content-length"))?,
        None if until_close => BODY_BYTES_MAX,
        None => 0,
    };
    if length > BODY_BYTES_MAX {
        return Err(bad("body too large"));
    }
    let got = input.take(length).read_to_end(&mut body)? as u64;
    if got != length && find("content-length").is_some() {
        return Err(bad("body ends early"));
    }
    Ok(body)
}

/// The next request of a connection; `None` when the peer closed.
pub(crate) fn read_request(input: &mut dyn BufRead) -> io::Result<Option<HttpRequest>> {
    let Some((start, headers)) = read_head(input)? else { return Ok(None) };
    let mut parts = start.split(' ');
    let (method, path) = (parts.next().unwrap_or_default().to_owned(), parts.next().unwrap_or_default().to_owned());
    let body = read_body(input, &headers, false)?;
    Ok(Some(HttpRequest { method, path, headers, body }))
}

/// One GET on a connection of its own: status and body.
pub fn http_get(addr: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    http_request(addr, "GET", path, "", b"")
}

/// One POST on a connection of its own: status and body. An empty content type sends none.
pub fn http_post(
    addr: SocketAddr,
    path: &str,
    content_type: &str,
    body: impl AsRef<[u8]>,
) -> io::Result<(u16, String)> {
    http_request(addr, "POST", path, content_type, body.as_ref())
}

fn http_request(
    addr: SocketAddr,
    method: &str,
    path: &str,
    content_type: &str,
    body: &[u8],
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n")?;
    if method == "POST" {
        write!(stream, "Content-Length: {}\r\n", body.len())?;
    }
    if !content_type.is_empty() {
        write!(stream, "Content-Type: {content_type}\r\n")?;
    }
    stream.write_all(b"\r\n")?;
    stream.write_all(body)?;
    let mut input = BufReader::new(stream);
    let (start, headers) = read_head(&mut input)?.ok_or_else(|| bad("no answer"))?;
    let status = start.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| bad("status line"))?;
    let body = read_body(&mut input, &headers, true)?;
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
