//! The node-local network between tasks and the host: which subnet, which addresses.

use crate::Error;
use ipnet::Ipv4Net;
use std::{collections::BTreeSet, net::Ipv4Addr};

/// First candidate that overlaps none of the host's routes.
///
/// # Errors
/// [`Error::NoGatewayPool`] with the routes in the way.
pub fn choose_pool(candidates: &[Ipv4Net], routes: &[Ipv4Net]) -> Result<Ipv4Net, Error> {
    let overlaps = |a: &Ipv4Net, b: &Ipv4Net| {
        b.prefix_len() > 0 && (a.contains(&b.network()) || b.contains(&a.network()))
    };
    candidates
        .iter()
        .find(|pool| !routes.iter().any(|route| overlaps(pool, route)))
        .map(Ipv4Net::trunc)
        .ok_or_else(|| {
            let list = |nets: &mut dyn Iterator<Item = &Ipv4Net>| {
                nets.map(ToString::to_string).collect::<Vec<_>>().join(", ")
            };
            Error::NoGatewayPool {
                pools: list(&mut candidates.iter()),
                routes: list(
                    &mut routes
                        .iter()
                        .filter(|route| candidates.iter().any(|pool| overlaps(pool, route))),
                ),
            }
        })
}

/// The bridge's own address in a pool: the first host.
#[must_use]
pub fn gateway_of(pool: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(pool.network()).saturating_add(1))
}

/// A free address, going on from `after` so that an address just freed isn't reused at once
/// (connections of its last holder may still be tracked).
///
/// # Errors
/// [`Error::GatewayPoolFull`].
pub fn next_address(
    pool: Ipv4Net,
    used: &BTreeSet<Ipv4Addr>,
    after: Ipv4Addr,
) -> Result<Ipv4Addr, Error> {
    // The network's own address, the bridge's and the broadcast address are no task's.
    let first = u32::from(pool.network()).saturating_add(2);
    let last = u32::from(pool.broadcast()).saturating_sub(1);
    let start = u32::from(after).saturating_add(1).max(first);
    (start..=last)
        .chain(first..start.min(last.saturating_add(1)))
        .map(Ipv4Addr::from)
        .find(|addr| !used.contains(addr))
        .ok_or(Error::GatewayPoolFull {
            pool,
            used: used.len(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(s: &str) -> Ipv4Net {
        s.parse().unwrap()
    }

    #[test]
    fn the_first_pool_clear_of_routes_is_taken() {
        let pools = [net("172.30.0.0/16"), net("172.29.0.0/16")];
        let default = net("0.0.0.0/0");
        assert_eq!(choose_pool(&pools, &[default]).unwrap(), pools[0]);
        assert_eq!(
            choose_pool(&pools, &[default, net("172.30.5.0/24")]).unwrap(),
            pools[1]
        );
        let error = choose_pool(&pools, &[net("172.16.0.0/12")]).unwrap_err();
        assert!(error.to_string().contains("172.16.0.0/12"), "{error}");
    }

    #[test]
    fn addresses_go_round_and_run_out() {
        let pool = net("10.0.0.0/29");
        let mut used = BTreeSet::new();
        let mut last = gateway_of(pool);
        for n in 2..=6 {
            last = next_address(pool, &used, last).unwrap();
            assert_eq!(last, Ipv4Addr::new(10, 0, 0, n));
            used.insert(last);
        }
        assert!(next_address(pool, &used, last).is_err());
        used.remove(&Ipv4Addr::new(10, 0, 0, 3));
        assert_eq!(
            next_address(pool, &used, last).unwrap(),
            Ipv4Addr::new(10, 0, 0, 3)
        );
    }
}
