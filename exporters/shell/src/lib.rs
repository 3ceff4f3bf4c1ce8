//! What every exporter shares: listener, landing page, deadlines, self metrics.
