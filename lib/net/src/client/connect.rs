//! Opening connections: straight, through a proxy, or to a Unix socket.
//!
//! Plain requests through an HTTP proxy are sent to it in absolute form, TLS goes through a CONNECT tunnel.
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tower::Service;

use super::config::TlsConfig;
use super::proxy::{Kind, Proxies, Proxy, bare};
use super::tls;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A proxy's answer to CONNECT; more than this is no answer to it.
const ANSWER_BYTES_MAX: usize = 16 << 10;

/// Dials what a request names.
#[derive(Clone)]
pub(super) struct Connector {
    http: HttpConnector,
    proxies: Arc<Proxies>,
    /// For proxies that are reached by TLS.
    tls: Arc<TlsConfig>,
}

impl Connector {
    pub(super) fn new(http: HttpConnector, proxies: Arc<Proxies>, tls: &TlsConfig) -> Connector {
        Connector { http, proxies, tls: Arc::new(tls.clone()) }
    }
}

/// A Unix socket as the authority of a URI: a form no host name has, so that the pool keeps sockets apart.
const UNIX_PREFIX: &str = "unix~";

pub(super) fn unix_authority(path: &std::path::Path) -> String {
    use std::fmt::Write;
    use std::os::unix::ffi::OsStrExt;
    let mut out = UNIX_PREFIX.to_owned();
    for byte in path.as_os_str().as_bytes() {
        let _ = write!(out, "{byte:02x}"); // writing to a String cannot fail
    }
    out
}

fn unix_path(host: &str) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    let hex = host.strip_prefix(UNIX_PREFIX)?;
    let digits = hex.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let bytes: Option<Vec<u8>> = digits.collect();
    Some(std::ffi::OsString::from_vec(bytes?).into())
}

/// An open connection.
pub(super) enum Stream {
    Tcp(TokioIo<TcpStream>),
    /// To a proxy that forwards plain requests.
    Proxied(TokioIo<TcpStream>),
    /// To a proxy over TLS, and whether requests are forwarded in absolute form.
    ProxyTls(Box<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>>, bool),
    Unix(TokioIo<UnixStream>),
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        match self {
            Stream::Tcp(io) => io.connected(),
            Stream::Proxied(io) => io.connected().proxy(true),
            Stream::ProxyTls(_, forward) => Connected::new().proxy(*forward),
            Stream::Unix(_) => Connected::new(),
        }
    }
}

macro_rules! each {
    ($stream:expr, $io:ident => $call:expr) => {
        match $stream.get_mut() {
            Stream::Tcp(io) | Stream::Proxied(io) => {
                let $io = Pin::new(io);
                $call
            }
            Stream::ProxyTls(io, _) => {
                let $io = Pin::new(io.as_mut());
                $call
            }
            Stream::Unix(io) => {
                let $io = Pin::new(io);
                $call
            }
        }
    };
}

impl Read for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_read(cx, buf))
    }
}

impl Write for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write(cx, buf))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_shutdown(cx))
    }
    fn is_write_vectored(&self) -> bool {
        match self {
            Stream::Tcp(io) | Stream::Proxied(io) => io.is_write_vectored(),
            Stream::ProxyTls(io, _) => io.is_write_vectored(),
            Stream::Unix(io) => io.is_write_vectored(),
        }
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write_vectored(cx, bufs))
    }
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.http.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if let Some(path) = uri.host().and_then(unix_path) {
            return Box::pin(async move {
                let stream = UnixStream::connect(&path).await;
                let stream = stream.map_err(|e| format!("dial unix {}: connect: {e}", path.display()))?;
                Ok(Stream::Unix(TokioIo::new(stream)))
            });
        }
        if self.proxies.of(&uri).is_none() {
            let dial = self.http.call(uri);
            return Box::pin(async move { Ok(Stream::Tcp(dial.await?)) });
        }
        let (mut http, proxies, tls) = (self.http.clone(), Arc::clone(&self.proxies), Arc::clone(&self.tls));
        Box::pin(async move {
            let Some(proxy) = proxies.of(&uri) else { return Err("the proxy is gone".into()) };
            through(&mut http, proxy, &proxies.connect_headers, &tls, &uri).await.map_err(|e| {
                let what = if proxy.kind == Kind::Socks5 { "socks connect" } else { "proxyconnect" };
                format!("{what} tcp: {e}").into()
            })
        })
    }
}

async fn through(
    http: &mut HttpConnector,
    proxy: &Proxy,
    headers: &[(String, HeaderValue)],
    tls: &TlsConfig,
    uri: &Uri,
) -> Result<Stream, BoxError> {
    let at = if proxy.host.contains(':') { format!("[{}]", proxy.host) } else { proxy.host.clone() };
    let address: Uri = format!("http://{at}:{}/", proxy.port).parse()?;
    let tcp = http.call(address).await.map_err(|e| {
        let text = super::error::innermost(&e);
        if text.to_lowercase().contains("connection refused") {
            format!("dial tcp {at}:{}: connect: connection refused", proxy.port)
        } else {
            text
        }
    })?;
    let tunnel = uri.scheme_str() == Some("https");
    match proxy.kind {
        Kind::Http if !tunnel => Ok(Stream::Proxied(tcp)),
        Kind::Http => {
            let mut tcp = tcp.into_inner();
            open_tunnel(&mut tcp, proxy, headers, uri).await?;
            Ok(Stream::Tcp(TokioIo::new(tcp)))
        }
        Kind::Https => {
            let config = tls::client_config(tls)?;
            let name = rustls_pki_types::ServerName::try_from(proxy.host.clone())?;
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let mut stream = connector.connect(name, tcp.into_inner()).await?;
            if tunnel {
                open_tunnel(&mut stream, proxy, headers, uri).await?;
            }
            Ok(Stream::ProxyTls(Box::new(TokioIo::new(stream)), !tunnel))
        }
        Kind::Socks5 => {
            let mut tcp = tcp.into_inner();
            socks5(&mut tcp, proxy, uri).await?;
            Ok(Stream::Tcp(TokioIo::new(tcp)))
        }
    }
}

fn host_and_port(uri: &Uri) -> (&str, u16) {
    let default = if uri.scheme_str() == Some("https") { 443 } else { 80 };
    (uri.host().unwrap_or(""), uri.port_u16().unwrap_or(default))
}

/// Asks for a tunnel by CONNECT (RFC 9110, 9.3.6).
async fn open_tunnel<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    proxy: &Proxy,
    headers: &[(String, HeaderValue)],
    uri: &Uri,
) -> Result<(), BoxError> {
    let (host, port) = host_and_port(uri);
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n").into_bytes();
    let own = proxy.authorization();
    let own = own.iter().map(|v| ("Proxy-Authorization", v));
    for (name, value) in headers.iter().map(|(n, v)| (n.as_str(), v)).chain(own) {
        request.extend_from_slice(name.as_bytes());
        request.extend_from_slice(b": ");
        request.extend_from_slice(value.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    stream.write_all(&request).await?;
    stream.flush().await?;
    // Byte by byte: whatever follows the answer belongs to TLS.
    let mut answer = Vec::with_capacity(256);
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= ANSWER_BYTES_MAX {
            return Err("the answer to CONNECT is too long".into());
        }
        answer.push(stream.read_u8().await?);
    }
    let line = answer.split(|b| *b == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.splitn(3, ' ');
    let (version, code, reason) = (words.next(), words.next(), words.next().unwrap_or(""));
    if !version.is_some_and(|v| v.starts_with("HTTP/1.")) {
        return Err("malformed answer to CONNECT".into());
    }
    match code {
        Some("200") => Ok(()),
        Some(code) if reason.is_empty() => Err(format!("unexpected status {code:.9}").into()),
        _ => Err(format!("{reason:.100}").into()),
    }
}

/// RFC 1928, with user and password by RFC 1929.
async fn socks5(tcp: &mut TcpStream, proxy: &Proxy, uri: &Uri) -> Result<(), BoxError> {
    let method = if proxy.credentials.is_some() { 2 } else { 0 };
    tcp.write_all(&[5, 1, method]).await?;
    let mut two = [0u8; 2];
    tcp.read_exact(&mut two).await?;
    if two != [5, method] {
        return Err("no acceptable authentication methods".into());
    }
    let short = |text: &str| u8::try_from(text.len()).map_err(|_| "a name is longer than 255 bytes");
    if let Some((user, password)) = &proxy.credentials {
        let mut message = vec![1, short(user)?];
        message.extend_from_slice(user.as_bytes());
        message.push(short(password)?);
        message.extend_from_slice(password.as_bytes());
        tcp.write_all(&message).await?;
        tcp.read_exact(&mut two).await?;
        if two[1] != 0 {
            return Err("username/password authentication failed".into());
        }
    }
    let (host, port) = host_and_port(uri);
    let mut message = vec![5, 1, 0];
    match bare(host).parse() {
        Ok(std::net::IpAddr::V4(a)) => {
            message.push(1);
            message.extend_from_slice(&a.octets());
        }
        Ok(std::net::IpAddr::V6(a)) => {
            message.push(4);
            message.extend_from_slice(&a.octets());
        }
        Err(_) => {
            message.extend_from_slice(&[3, short(host)?]);
            message.extend_from_slice(host.as_bytes());
        }
    }
    message.extend_from_slice(&port.to_be_bytes());
    tcp.write_all(&message).await?;
    let mut head = [0u8; 4];
    tcp.read_exact(&mut head).await?;
    if head[1] != 0 {
        let what = match head[1] {
            1 => "general SOCKS server failure",
            2 => "connection not allowed by ruleset",
            3 => "network unreachable",
            4 => "host unreachable",
            5 => "connection refused",
            _ => "unknown error",
        };
        return Err(what.into());
    }
    let rest = match head[3] {
        1 => 4,
        4 => 16,
        3 => usize::from(tcp.read_u8().await?),
        _ => return Err("unknown address type".into()),
    };
    let mut bound = [0u8; 257];
    let bound = bound.get_mut(..rest + 2).ok_or("unknown address type")?;
    tcp.read_exact(bound).await?;
    Ok(())
}
