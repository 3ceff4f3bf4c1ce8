//! A checksummed append-only log with group commit and a tolerant reader.
