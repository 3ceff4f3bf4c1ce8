//! Evaluates PromQL over any storage.
