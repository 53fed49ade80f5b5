//! The store on a disk that loses what was not synced, that refuses, that is slow.

mod damage;
mod image;
mod kill;
mod loss;
mod refusal;
mod shim;
mod slow;
mod world;

pub use damage::copy;
