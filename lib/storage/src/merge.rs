//! Merging series of several sources (head, blocks, remote) into one, by label order and time.
