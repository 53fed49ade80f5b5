//! Names and addresses that follow from others.

use super::Mac;
use crate::TaskId;
use std::net::Ipv4Addr;

/// The host's bridge that has the gateway's address and its pool. It has no ports: each task's link
/// is routed by itself, so tasks don't meet on it, and a host that filters bridged packets
/// (`br_netfilter`) filters none of theirs.
pub const GATEWAY_BRIDGE: &str = "clgw0";
/// A task's link to the host.
pub const GATEWAY_IF: &str = "gw0";
/// Prefix of the host's ends of those links; 12 characters follow. The bridge's name has it too.
pub const HOST_VETH_PREFIX: &str = "clg";
/// The bridge in a network's namespace.
pub const BRIDGE: &str = "br0";
/// The VXLAN port in a network's namespace.
pub const VXLAN: &str = "vx0";

/// MAC address of whoever has `addr`: no table of MACs is needed anywhere, and a reused address
/// keeps its MAC, so no neighbour cache is ever stale.
#[must_use]
pub fn mac_of(addr: Ipv4Addr) -> Mac {
    let [a, b, c, d] = addr.octets();
    [0x02, 0x42, a, b, c, d]
}

/// Name of the host's end of a task's gateway link (15 characters, the kernel's limit).
#[must_use]
pub fn host_veth(task: &TaskId) -> String {
    format!("{HOST_VETH_PREFIX}{}", digest(task.as_str(), 12))
}

/// Name of the bridge's end of a task's link, inside the network's namespace.
#[must_use]
pub fn network_port(task: &TaskId) -> String {
    format!("p-{}", digest(task.as_str(), 13))
}

/// FNV-1a of `text` in base 36. Ids are opaque, so their beginnings may coincide; their hashes won't.
fn digest(text: &str, len: usize) -> String {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let mut out = String::with_capacity(len);
    for _ in 0..len {
        let digit = u32::try_from(hash % 36).unwrap_or_default();
        out.push(char::from_digit(digit, 36).unwrap_or('0'));
        hash /= 36;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_differ() {
        let a = TaskId::new("0123456789abcdefghijklmna").unwrap();
        let b = TaskId::new("0123456789abcdefghijklmnb").unwrap();
        assert_eq!(host_veth(&a).len(), 15);
        assert_eq!(network_port(&a).len(), 15);
        assert_ne!(host_veth(&a), host_veth(&b));
        assert_ne!(network_port(&a), network_port(&b));
    }
}
