//! Pulls targets, parses, appends.
