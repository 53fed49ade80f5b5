//! What should be on this node, and the way there. Pure: no clock, no I/O.
//!
//! [`desired`] makes a [`Picture`] from the view and the local tasks; [`diff`] makes the ordered
//! [`Op`]s that turn an actual picture into it. `apply(diff(desired, actual), actual) == desired`.

mod desired;
mod diff;
mod gateway;
mod names;
mod picture;
mod validate;
mod vips;

pub use desired::{Local, NodeParams, desired, tolerate};
pub use diff::{NetOp, Op, TaskOp, apply, diff, diff_network, diff_task};
pub use gateway::{choose_pool, gateway_of, next_address};
pub use names::{
    BRIDGE, GATEWAY_BRIDGE, GATEWAY_IF, HOST_VETH_PREFIX, VXLAN, host_veth, mac_of, network_port,
};
pub use picture::{HostPicture, LinkPicture, Mac, NetPicture, PeerAt, Picture, TaskPicture, Vxlan};
pub use validate::{validate_network, validate_task};
pub use vips::{VipChange, VipTable, vip_change, vip_table};
