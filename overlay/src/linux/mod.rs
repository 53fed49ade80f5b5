//! The kernel's side: performs a plan, reads what is there.

mod host_table;
mod host_thread;
mod link;
mod nfnl;
mod ns;
mod ports;
mod probe;
mod read;
mod resolver_sockets;
mod rtnl;

pub use host_table::HostTable;
pub use host_thread::HostThread;
pub use link::{
    delete_link, join_bridge, link_exists, make_bridge, make_gateway, make_link, make_vxlan,
    route_veth, set_addr, set_fdb, set_gateway_route, set_neigh,
};
pub use nfnl::{NftSocket, TABLE};
pub use ns::{Ns, mounted_ids};
pub use ports::Reservation;
pub use probe::{Underlay, probe};
pub use read::{address_of, host_routes, read_host_links, read_network, read_task};
pub use resolver_sockets::{RESOLVER, ResolverSockets};
pub use rtnl::Rtnl;
