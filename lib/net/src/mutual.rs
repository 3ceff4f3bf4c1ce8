//! TLS between processes of one kind, each a server and a client of the others: the file behind `--cluster.tls-config`.
//!
//! The file has upstream's two entries, `tls_server_config` (as in `--web.config.file`) and `tls_client_config` (as in
//! `http_config`). It and what it names are read again when they change, so that certificates are renewed without a
//! restart; a file that became wrong changes nothing but a line in the log.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::ServerName;
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::client::config::TlsConfig;
use crate::listen::tls::TlsServerConfig;
use crate::listen::web_config::{Mark, mark};

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MutualTlsError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    tls_server_config: Option<TlsServerConfig>,
    tls_client_config: Option<TlsConfig>,
}

/// The file as it was read last.
struct Read {
    marks: Vec<Mark>,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    /// What every peer's certificate must name; `None`: the address that was dialled.
    server_name: Option<ServerName<'static>>,
}

/// Both sides of the connections between peers.
pub struct MutualTls {
    path: PathBuf,
    read: Mutex<Arc<Read>>,
}

impl std::fmt::Debug for MutualTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MutualTls").field("path", &self.path).finish_non_exhaustive()
    }
}

impl MutualTls {
    /// Reads the file and everything it names, or says what is wrong in upstream's words.
    pub fn load(path: impl Into<PathBuf>) -> Result<Arc<MutualTls>, MutualTlsError> {
        let path = path.into();
        let read = read(&path)?;
        Ok(Arc::new(MutualTls { path, read: Mutex::new(Arc::new(read)) }))
    }

    fn fresh(&self) -> Arc<Read> {
        let held = Arc::clone(&self.read.lock().unwrap_or_else(PoisonError::into_inner));
        if held.marks.iter().all(|m| mark(&m.0) == *m) {
            return held;
        }
        match read(&self.path) {
            Ok(new) => {
                let new = Arc::new(new);
                *self.read.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
                new
            }
            Err(e) => {
                tracing::error!(path = %self.path.display(), error = %e, "The TLS configuration cannot be read again");
                held
            }
        }
    }

    /// The server's side of a handshake; whether the client needs a certificate is `client_auth_type`'s to say.
    pub async fn accept(&self, tcp: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let acceptor = self.fresh().acceptor.clone();
        Ok(acceptor.accept(tcp).await?.into())
    }

    /// The client's side. With TLS 1.3 a refusal of our certificate shows at the first read, not here.
    pub async fn connect(&self, tcp: TcpStream, to: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let read = self.fresh();
        let name = read.server_name.clone().unwrap_or_else(|| ServerName::from(to.ip()));
        Ok(read.connector.connect(name, tcp).await?.into())
    }
}

fn read(path: &Path) -> Result<Read, MutualTlsError> {
    let name = path.display().to_string();
    let mut marks = vec![mark(path)];
    let text = std::fs::read_to_string(path).map_err(|e| MutualTlsError(format!("open {name}: {e}")))?;
    let written: Written = ferula_yaml::from_str(&name, &text).map_err(|e| MutualTlsError(e.to_string()))?;
    let problem = |e: String| MutualTlsError(format!("{name}: {e}"));
    let missing = |entry: &str| problem(format!("missing '{entry}' entry in the TLS configuration"));
    let mut server = written.tls_server_config.ok_or_else(|| missing("tls_server_config"))?;
    let mut client = written.tls_client_config.ok_or_else(|| missing("tls_client_config"))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    server.set_directory(directory);
    client.set_directory(directory);
    marks.extend(server.files().chain(client.files()).map(|f| mark(Path::new(f))));

    let built = crate::listen::tls::server_config(&server, false);
    let built = built.and_then(|c| c.ok_or_else(|| "TLS config is not present".to_owned()));
    let mut accepting = Arc::unwrap_or_clone(built.map_err(|e| problem(format!("invalid TLS server config: {e}")))?);
    // These are not HTTP. And a peer that only speaks never reads a ticket: unread bytes at its close would make the
    // kernel reset the connection, and what it said last could be lost.
    accepting.alpn_protocols.clear();
    accepting.send_tls13_tickets = 0;
    let invalid = |e: String| problem(format!("invalid TLS client config: {e}"));
    client.validate().map_err(invalid)?;
    let connecting = crate::client::tls::client_config(&client).map_err(|e| invalid(e.to_string()))?;
    let server_name = match client.server_name.as_str() {
        "" => None,
        given => Some(ServerName::try_from(given.to_owned()).map_err(|e| invalid(format!("server_name: {e}")))?),
    };
    Ok(Read {
        marks,
        acceptor: TlsAcceptor::from(Arc::new(accepting)),
        connector: TlsConnector::from(Arc::new(connecting)),
        server_name,
    })
}
