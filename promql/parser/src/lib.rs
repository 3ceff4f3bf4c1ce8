//! PromQL text to a typed syntax tree with positions.
