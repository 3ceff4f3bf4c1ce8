//! The time-series store on Prometheus's own data directory.
