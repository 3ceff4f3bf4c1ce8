//! Answering queries: [`select`] turns matchers into series, [`querier`] walks head and blocks.
pub mod head_querier;
pub mod select;
