//! Metric families as data: what an exporter gathers and the writers print.
