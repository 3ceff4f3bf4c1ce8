//! Routes, groups and delivers alerts.
