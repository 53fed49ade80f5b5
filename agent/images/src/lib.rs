//! A node's images: pulled, loaded, verified, unpacked and stacked.
