//! How far the replacement of the CA is: pure.

use super::root::root_digest;
use crate::tls::is_vouched;
use api::model::{Cluster, Node, Timestamp};
use api::state::State;
use std::sync::Arc;

/// Which of the cluster's roots has signed a certificate, by its digest; empty when none has.
#[must_use]
pub fn issuer_of(cluster: &Cluster, cert_pem: &str, not_after: Timestamp) -> String {
    // At a moment when it was valid, whatever the time is now.
    let then = Timestamp(not_after.0.saturating_sub(1_000));
    let roots = [
        Some(cluster.ca.cert_pem.as_str()),
        cluster.retiring.as_ref().map(|old| old.cert_pem.as_str()),
    ];
    // By the certificate alone: what stands between leads to either.
    let alone = first_block(cert_pem);
    roots
        .into_iter()
        .flatten()
        .find(|root| is_vouched(root, alone, then).is_ok())
        .and_then(|root| root_digest(root).ok())
        .unwrap_or_default()
}

fn first_block(pem: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----";
    pem.find(END).map_or(pem, |at| &pem[..at + END.len()])
}

/// Nodes that have no certificate of the root that signs now.
#[must_use]
pub fn laggards(state: &State) -> Vec<Arc<Node>> {
    let Some(issuer) = state
        .cluster()
        .and_then(|cluster| root_digest(&cluster.ca.cert_pem).ok())
    else {
        return Vec::new();
    };
    state
        .nodes()
        .values()
        .filter(|node| node.cert.issuer != issuer)
        .cloned()
        .collect()
}
