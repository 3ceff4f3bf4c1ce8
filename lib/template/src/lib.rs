//! The Go-template language of rules, notifications and consoles.
