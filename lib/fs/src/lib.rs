//! Files behind one trait, real or faulty, and guarded read-only mappings.
