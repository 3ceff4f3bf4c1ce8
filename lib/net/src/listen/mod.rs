//! The accept loop every role serves HTTP with.
