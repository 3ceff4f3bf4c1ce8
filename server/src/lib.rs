//! The Prometheus role: configuration, wiring, HTTP API, notifier, remote write.
