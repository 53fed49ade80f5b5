//! Which address of this machine the others are to use.

use crate::follow::{self, Origin, Verdict};
use anyhow::{Result, bail};
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::net::Ipv4Addr;

/// An address and the interface that has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Such as `eth0`.
    pub interface: String,
    /// The address.
    pub addr: Ipv4Addr,
}

/// Where this machine is to be reached, and how that was decided.
#[derive(Debug, Clone)]
pub struct Place {
    /// The address.
    pub addr: Ipv4Addr,
    /// How it was decided.
    pub origin: Origin,
}

impl Place {
    /// This one; `given` says whether somebody has said so.
    pub fn new(at: Candidate, given: bool) -> Self {
        Self {
            addr: at.addr,
            origin: Origin {
                interface: Some(at.interface),
                given,
            },
        }
    }
}

/// This machine's IPv4 addresses, but for loopback and those that clusterd made itself.
///
/// # Errors
/// When the system won't list them.
pub fn candidates() -> Result<Vec<Candidate>> {
    Ok(getifaddrs()?
        .filter(|i| {
            i.flags.contains(InterfaceFlags::IFF_UP)
                && !i.flags.contains(InterfaceFlags::IFF_LOOPBACK)
        })
        .filter(|i| !i.interface_name.starts_with("clg"))
        .filter_map(|i| {
            let addr = i.address?.as_sockaddr_in()?.ip();
            Some(Candidate {
                interface: i.interface_name,
                addr,
            })
        })
        .collect())
}

/// The interface of the default route, from `/proc/net/route`.
fn default_route_interface(table: &str) -> Option<&str> {
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace();
        let interface = fields.next()?;
        (fields.next()? == "00000000").then_some(interface)
    })
}

/// Chooses: the wished one if this machine has it, the only one, or the default route's.
///
/// # Errors
/// Names what this machine has and what to give.
pub fn choose(wished: Option<Ipv4Addr>) -> Result<Candidate> {
    let table = route_table();
    decide(wished, &candidates()?, default_route_interface(&table))
}

/// What to do when others know this machine by `known`.
///
/// # Errors
/// When the system won't list its addresses.
pub fn follow(known: Ipv4Addr, origin: &Origin, flag: Option<Ipv4Addr>) -> Result<Verdict> {
    let (table, has) = (route_table(), candidates()?);
    let default_interface = default_route_interface(&table);
    Ok(follow::follow(known, origin, flag, &has, default_interface))
}

fn route_table() -> String {
    std::fs::read_to_string("/proc/net/route").unwrap_or_default()
}

/// Addresses, for people.
pub fn listed(has: &[Candidate]) -> String {
    let all: Vec<String> = has
        .iter()
        .map(|c| format!("{} ({})", c.addr, c.interface))
        .collect();
    match all.is_empty() {
        true => "no address but loopback".to_owned(),
        false => all.join(", "),
    }
}

/// [`choose`], of these.
///
/// # Errors
/// Names what this machine has and what to give.
pub fn decide(
    wished: Option<Ipv4Addr>,
    has: &[Candidate],
    default_interface: Option<&str>,
) -> Result<Candidate> {
    if let Some(addr) = wished {
        if let Some(one) = has.iter().find(|c| c.addr == addr) {
            return Ok(one.clone());
        }
        bail!(
            "the advertise address {addr} is not this machine's; it has {}",
            listed(has)
        );
    }
    match has {
        [] => bail!(
            "this machine has no address that others could reach; bring an interface up, then try again"
        ),
        [only] => Ok(only.clone()),
        several => {
            let mut of_default = several
                .iter()
                .filter(|c| Some(c.interface.as_str()) == default_interface);
            match (of_default.next(), of_default.next()) {
                (Some(one), None) => Ok(one.clone()),
                _ => bail!(
                    "this machine has several addresses; say which with --advertise-addr: {}",
                    listed(has)
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn has(list: &[(&str, [u8; 4])]) -> Vec<Candidate> {
        list.iter()
            .map(|(i, a)| Candidate {
                interface: (*i).into(),
                addr: (*a).into(),
            })
            .collect()
    }

    #[test]
    fn the_only_address_needs_no_saying() {
        assert_eq!(
            decide(None, &has(&[("eth0", [10, 1, 1, 1])]), None)
                .unwrap()
                .addr,
            Ipv4Addr::new(10, 1, 1, 1)
        );
    }

    #[test]
    fn of_several_the_default_routes_is_taken_or_asked_for() {
        let two = has(&[("eth0", [10, 1, 1, 1]), ("eth1", [10, 2, 2, 2])]);
        assert_eq!(
            decide(None, &two, Some("eth1")).unwrap().addr,
            Ipv4Addr::new(10, 2, 2, 2)
        );
        let error = decide(None, &two, None).unwrap_err().to_string();
        assert!(
            error.contains("--advertise-addr: 10.1.1.1 (eth0), 10.2.2.2 (eth1)"),
            "{error}"
        );
    }

    #[test]
    fn an_address_of_another_machine_is_refused() {
        let error = decide(
            Some([9, 9, 9, 9].into()),
            &has(&[("eth0", [10, 1, 1, 1])]),
            None,
        )
        .unwrap_err();
        assert!(
            error.to_string().contains("it has 10.1.1.1 (eth0)"),
            "{error}"
        );
    }

    #[test]
    fn the_default_route_is_found() {
        let table = "Iface\tDestination\tGateway\neth1\t0002A8C0\t0\neth0\t00000000\t0102A8C0\n";
        assert_eq!(default_route_interface(table), Some("eth0"));
        assert_eq!(default_route_interface(""), None);
    }
}
