//! The one binary that plays every role.
fn main() {}
