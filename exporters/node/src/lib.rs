//! Host metrics with node_exporter's names.
