//! Strict YAML with file, line and column, and secrets that do not print.
