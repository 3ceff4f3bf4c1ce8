//! The HTTP and TLS client sections: the ones all roles share.
pub use ferula_net::client::ClientConfig as HttpConfig;
pub use ferula_net::client::config::TlsConfig;
