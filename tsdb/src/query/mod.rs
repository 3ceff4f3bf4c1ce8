//! Answering queries: [`select`] turns matchers into series; head and blocks have a querier each, merged by lib/storage.
pub mod block_querier;
pub mod head_querier;
pub mod pending;
pub mod resolved;
pub mod run;
pub mod samples;
pub mod select;
pub mod together;
