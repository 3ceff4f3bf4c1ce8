//! The workload and the micro benches.
