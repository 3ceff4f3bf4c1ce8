//! Writing: text 0.0.4, text 1.0.0 and OpenMetrics.
