//! Labs: made, entered, disturbed, removed.

mod builder;
pub mod clock;
pub mod daemon;
mod deaf;
pub mod down;
pub mod enter;
mod find;
pub mod holder;
pub mod links;
pub mod names;
mod node;
pub mod record;
pub mod status;
mod up;

pub use builder::{Builder, Lab};
pub use down::down;
pub use find::cgroup_roots;
pub use node::Node;
pub use up::{Options, up};
