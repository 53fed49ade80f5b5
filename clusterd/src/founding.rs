//! What a new cluster's certificates are to be like.

use anyhow::{Context, Result, bail};
use api::model::{ClusterCa, ClusterSpec};
use api::proto::InitRequest;

/// Shorter lives are over before a busy network has renewed them, milliseconds.
const EXPIRY_MIN_MS: u64 = 10_000;
/// Longer ones would outlive the CA, milliseconds: 10 years.
const EXPIRY_MAX_MS: u64 = 10 * 365 * 24 * 3_600 * 1_000;

/// How long nodes' certificates are valid.
///
/// # Errors
/// When that is too short or too long.
pub fn expiry(request: &InitRequest, spec: &mut ClusterSpec) -> Result<()> {
    match request.cert_expiry_ms {
        0 => {}
        ms @ EXPIRY_MIN_MS..=EXPIRY_MAX_MS => spec.cert_expiry_ms = ms,
        ms => bail!(
            "certificates can't be valid for {} s: give --cert-expiry from 10s (for trials; an hour or more for use) \
             to 87600h",
            ms / 1_000
        ),
    }
    Ok(())
}

/// The CA that was brought along, checked.
///
/// # Errors
/// Which rule it breaks.
pub fn own_ca(request: &InitRequest, spec: &ClusterSpec) -> Result<Option<ClusterCa>> {
    let (cert, key) = (&request.ca_cert_pem, &request.ca_key_pem);
    match (cert.is_empty(), key.is_empty()) {
        (true, true) => Ok(None),
        (false, false) => {
            let ca = manager::ca::bring(cert, key, spec.cert_expiry_ms, manager::now());
            ca.map(Some).context("the CA was not taken")
        }
        _ => bail!(
            "a CA of your own is a certificate and its key: give --ca-cert and --ca-key, or neither"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_too_short_or_too_long_is_refused() {
        let mut spec = ClusterSpec::default();
        let request = |cert_expiry_ms| InitRequest {
            cert_expiry_ms,
            ..InitRequest::default()
        };
        for ms in [1, 9_999, EXPIRY_MAX_MS + 1] {
            let text = expiry(&request(ms), &mut spec).unwrap_err().to_string();
            assert!(text.contains("--cert-expiry"), "{text}");
        }
        expiry(&request(60_000), &mut spec).unwrap();
        expiry(&request(0), &mut spec).unwrap();
        assert_eq!(spec.cert_expiry_ms, 60_000);
    }
}
