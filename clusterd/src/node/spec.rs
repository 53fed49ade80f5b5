//! What a new cluster's settings are to be.

use crate::founding;
use anyhow::{Context, Result, bail};
use api::model::ClusterSpec;
use api::proto::InitRequest;
use ipnet::Ipv4Net;

/// As they were asked for.
///
/// # Errors
/// When they make no sense.
pub(super) fn of(request: &InitRequest) -> Result<ClusterSpec> {
    let mut spec = ClusterSpec {
        worker_exec: !request.no_worker_exec,
        ..ClusterSpec::default()
    };
    if request.heartbeat_ms != 0 {
        spec.heartbeat_ms = request.heartbeat_ms;
        // As with the defaults: a slower heart needs more patience.
        spec.dead_after_ms = spec.dead_after_ms.max(spec.heartbeat_ms.saturating_mul(3));
    }
    if request.dead_after_ms != 0 {
        spec.dead_after_ms = request.dead_after_ms;
    }
    spec.task_history = request.task_history.unwrap_or(spec.task_history);
    if let Some(problem) = spec.problems().into_iter().next() {
        bail!(problem);
    }
    if !request.address_pool.is_empty() {
        let text = &request.address_pool;
        let pool: Ipv4Net = text
            .parse()
            .with_context(|| format!("the address pool {text:?} is no subnet"))?;
        spec.address_pool = pool.trunc();
    }
    if request.subnet_prefix != 0 {
        spec.subnet_prefix = u8::try_from(request.subnet_prefix).unwrap_or(u8::MAX);
    }
    if spec.subnet_prefix < spec.address_pool.prefix_len() || spec.subnet_prefix > 29 {
        bail!(
            "the subnet prefix {} does not fit the address pool {}: give one from {} to 29",
            spec.subnet_prefix,
            spec.address_pool,
            spec.address_pool.prefix_len()
        );
    }
    founding::expiry(request, &mut spec)?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_that_does_not_fit_its_pool_is_refused() {
        let request = |pool: &str, prefix| InitRequest {
            address_pool: pool.into(),
            subnet_prefix: prefix,
            ..InitRequest::default()
        };
        assert_eq!(of(&request("10.64.0.0/12", 22)).unwrap().subnet_prefix, 22);
        for (pool, prefix) in [
            ("10.0.0.0/8", 4),
            ("10.0.0.0/8", 30),
            ("10.0.0.0/8", 400),
            ("ten", 20),
        ] {
            assert!(of(&request(pool, prefix)).is_err(), "{pool} {prefix}");
        }
    }
}
