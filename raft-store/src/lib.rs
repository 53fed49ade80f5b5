//! The replicated store: openraft on sled, snapshots in files.
