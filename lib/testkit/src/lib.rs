//! Test peers: SMTP and webhook sinks, hostile targets, launchers.
