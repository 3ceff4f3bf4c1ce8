//! The HTTP client of scrapes, notifications and probes.
