#![doc = include_str!("../README.md")]
#![allow(clippy::doc_lazy_continuation)] // comments of the .proto files

/// Remote write 1.0, remote read.
pub mod remote {
    include!(concat!(env!("OUT_DIR"), "/prometheus.rs"));
}
/// Remote write 2.0.
pub mod remote_v2 {
    include!(concat!(env!("OUT_DIR"), "/io.prometheus.write.v2.rs"));
}
/// The protobuf exposition format.
pub mod metrics {
    include!(concat!(env!("OUT_DIR"), "/io.prometheus.client.rs"));
}
/// Alertmanager's silences and notification log on disk.
pub mod alertmanager {
    include!(concat!(env!("OUT_DIR"), "/alertmanager.rs"));
}

/// Spans on their way to a collector.
pub mod trace {
    include!(concat!(env!("OUT_DIR"), "/opentelemetry.rs"));
}

pub use prost::{DecodeError, Message};
