//! Scrape targets that behave badly.
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::http::read_request;
use crate::server::Server;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// Valid samples without end, chunked.
    EndlessBody,
    /// One line without end.
    EndlessLine,
    /// A small gzip body that unpacks to zeros without end.
    GzipBomb,
    /// Accepts, reads the request, never answers.
    NeverAnswers,
    /// Headers without end.
    EndlessHeaders,
    /// A good beginning, then a connection reset.
    ResetInBody,
    /// A reset instead of an answer.
    Reset,
    /// Promises more bytes than it sends.
    ShortBody,
    /// Redirects to itself.
    RedirectLoop,
    /// Not HTTP.
    Garbage,
}

/// Behaves so on every connection until dropped.
pub struct Hostile {
    server: Server,
    stopping: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
}

impl Hostile {
    pub fn start(behaviour: Behaviour) -> Hostile {
        let (stopping, connections) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stop, count) = (Arc::clone(&stopping), Arc::clone(&connections));
        let server = Server::start(move |stream| {
            count.fetch_add(1, Ordering::SeqCst);
            let _ = behave(behaviour, stream, &stop); // ends when the victim has had enough
        });
        Hostile { server, stopping, connections }
    }
    pub fn addr(&self) -> SocketAddr {
        self.server.addr()
    }
    pub fn url(&self) -> String {
        format!("http://{}/metrics", self.addr())
    }
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\n";

fn behave(behaviour: Behaviour, stream: TcpStream, stopping: &AtomicBool) -> io::Result<()> {
    if matches!(behaviour, Behaviour::Reset | Behaviour::ResetInBody) {
        // Closing a socket with unread input makes the kernel send a reset: look at the request, do not take it.
        stream.peek(&mut [0; 1])?;
        if behaviour == Behaviour::ResetInBody {
            (&stream).write_all(format!("{OK}Content-Length: 100000\r\n\r\ngood 1\n").as_bytes())?;
        }
        return Ok(());
    }
    let mut input = BufReader::new(stream.try_clone()?);
    if read_request(&mut input)?.is_none() {
        return Ok(());
    }
    let mut out = stream;
    match behaviour {
        Behaviour::EndlessBody => {
            out.write_all(format!("{OK}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            let mut out = Chunked(out);
            for n in 0u64.. {
                out.write_all(format!("endless{{n=\"{n}\"}} 1\n").repeat(100).as_bytes())?;
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
        Behaviour::EndlessLine => {
            out.write_all(format!("{OK}Transfer-Encoding: chunked\r\n\r\n").as_bytes())?;
            let mut out = Chunked(out);
            while !stopping.load(Ordering::Relaxed) {
                out.write_all(&[b'a'; 8192])?;
            }
        }
        Behaviour::GzipBomb => {
            let head = format!("{OK}Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n");
            out.write_all(head.as_bytes())?;
            let mut bomb = GzEncoder::new(Chunked(out), Compression::fast());
            while !stopping.load(Ordering::Relaxed) {
                bomb.write_all(&[b'0'; 65536])?;
            }
        }
        Behaviour::NeverAnswers => {
            let mut rest = Vec::new();
            io::Read::read_to_end(&mut input, &mut rest)?; // until the victim hangs up
        }
        Behaviour::EndlessHeaders => {
            out.write_all(OK.as_bytes())?;
            while !stopping.load(Ordering::Relaxed) {
                out.write_all(b"X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")?;
            }
        }
        Behaviour::ShortBody => out.write_all(format!("{OK}Content-Length: 1000\r\n\r\ngood 1\n").as_bytes())?,
        Behaviour::RedirectLoop => {
            out.write_all(
                b"HTTP/1.1 302 Found\r\nLocation: /metrics\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            )?;
        }
        Behaviour::Garbage => out.write_all(b"\x16\x03\x01 this is not HTTP\r\n\r\n")?,
        Behaviour::Reset | Behaviour::ResetInBody => {}
    }
    Ok(())
}

struct Chunked(TcpStream);

impl Write for Chunked {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let mut chunk = format!("{:x}\r\n", buf.len()).into_bytes();
        chunk.extend_from_slice(buf);
        chunk.extend_from_slice(b"\r\n");
        self.0.write_all(&chunk)?;
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
