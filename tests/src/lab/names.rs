//! Names and addresses of a lab. Pure.

use std::net::Ipv4Addr;

use anyhow::{Result, anyhow, bail};
use ipnet::Ipv4Net;

/// The lab that is meant when none is named.
pub const DEFAULT: &str = "demo";

/// Node addresses start here: 192.168.205.10 is node1.
const FIRST_NODE: u32 = 10;

/// Refuses names that would not do as a folder, a host's name or an interface's.
pub fn check(name: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 32 || !name.chars().all(fine) || name.starts_with('-') {
        bail!("{name:?} is no name for a lab: use 1 to 32 of a-z, 0-9 and -, not starting with -");
    }
    Ok(())
}

/// The interface by which the machine itself reaches the lab; at most 15 characters.
#[must_use]
pub fn link(name: &str) -> String {
    let full = format!("lab-{name}");
    if full.len() <= 15 {
        return full;
    }
    // FNV-1a: the same for the same name on every machine and in every build.
    let hash = name.bytes().fold(0x811c_9dc5_u32, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    });
    format!("lab-{}-{:06x}", &name[..4], hash & 0x00ff_ffff)
}

/// `node1`, `node2`, ...
#[must_use]
pub fn node(number: usize) -> String {
    format!("node{number}")
}

/// The machine's own address in the lab.
pub fn host_address(subnet: Ipv4Net) -> Result<Ipv4Addr> {
    nth(subnet, 1)
}

/// The address of node `number`, counted from 1.
pub fn node_address(subnet: Ipv4Net, number: usize) -> Result<Ipv4Addr> {
    nth(subnet, FIRST_NODE - 1 + u32::try_from(number)?)
}

fn nth(subnet: Ipv4Net, n: u32) -> Result<Ipv4Addr> {
    let address = Ipv4Addr::from(u32::from(subnet.network()).saturating_add(n));
    if !subnet.contains(&address) || address == subnet.broadcast() {
        bail!("subnet {subnet} is too small: {address} is not a host of it; use a /24");
    }
    Ok(address)
}

/// The subnet of the default lab, which is the one of the Vagrant machines too.
#[must_use]
pub fn default_subnet() -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(192, 168, 205, 0), 24)
}

/// The first of 192.168.206.0/24 ... 192.168.254.0/24 that overlaps nothing in use.
pub fn free_subnet(used: &[Ipv4Net]) -> Result<Ipv4Net> {
    (206..=254)
        .map(|third| Ipv4Net::new_assert(Ipv4Addr::new(192, 168, third, 0), 24))
        .find(|candidate| overlap(*candidate, used).is_none())
        .ok_or_else(|| {
            anyhow!(
                "all of 192.168.206.0/24 to 192.168.254.0/24 are in use: `lab down` a lab, or give --subnet"
            )
        })
}

/// The first of `used` that shares an address with `subnet`.
#[must_use]
pub fn overlap(subnet: Ipv4Net, used: &[Ipv4Net]) -> Option<Ipv4Net> {
    used.iter()
        .copied()
        .find(|u| u.contains(&subnet) || subnet.contains(u))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().expect("a subnet")
    }

    #[test]
    fn link_names_fit_the_kernel_and_differ() {
        assert_eq!(link("demo"), "lab-demo");
        let (a, b) = (link("flask-redis-1234-0"), link("flask-redis-1234-1"));
        assert!(a.len() <= 15 && b.len() <= 15);
        assert_ne!(a, b);
    }

    #[test]
    fn names_are_checked() {
        for good in ["demo", "a", "t-1-2"] {
            check(good).expect(good);
        }
        for bad in ["", "-a", "A", "a/b", "..", "ä", &"a".repeat(33)] {
            check(bad).expect_err(bad);
        }
    }

    #[test]
    fn addresses_are_those_of_the_tutorial() {
        let subnet = default_subnet();
        assert_eq!(
            host_address(subnet).expect("host").to_string(),
            "192.168.205.1"
        );
        assert_eq!(
            node_address(subnet, 1).expect("node1").to_string(),
            "192.168.205.10"
        );
        assert_eq!(
            node_address(subnet, 2).expect("node2").to_string(),
            "192.168.205.11"
        );
        node_address(subnet, 246).expect_err("that is the broadcast address");
        node_address(net("10.0.0.0/28"), 6).expect_err("beyond a /28");
    }

    #[test]
    fn a_free_subnet_overlaps_nothing() {
        assert_eq!(free_subnet(&[]).expect("free"), net("192.168.206.0/24"));
        let used = [net("192.168.206.8/29"), net("192.168.207.0/24")];
        assert_eq!(free_subnet(&used).expect("free"), net("192.168.208.0/24"));
        free_subnet(&[net("192.168.0.0/16")]).expect_err("none is free");
    }
}
