//! How every role exposes its own metrics.
