//! A Compose file, read.
