//! The cluster's CA: shown, and replaced while everything runs.

use super::{Change, Control, Refusal};
use crate::ca::{bring, cross_sign, laggards, make_root, root_digest};
use crate::tls::only_certificate;
use api::convert;
use api::model::Timestamp;
use api::proto::{self, CaLaggard, CaStatus, GetCaRequest, RotateCaRequest};
use api::state::{Op, State};
use tonic::Status;
use x509_parser::prelude::{FromDer, X509Certificate};

pub async fn get(control: &Control, _: GetCaRequest) -> Result<CaStatus, Status> {
    Ok(control.read(show).await??)
}

fn damaged(error: impl std::fmt::Display) -> Refusal {
    Refusal::first(format!("the cluster's CA can't be read: {error}"))
}

fn show(state: &State) -> Result<CaStatus, Refusal> {
    let cluster = state
        .cluster()
        .ok_or_else(|| Refusal::not_found("there is no cluster yet"))?;
    let der = only_certificate(&cluster.ca.cert_pem).map_err(damaged)?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(damaged)?;
    let digest = |pem: &str| root_digest(pem).map_err(damaged);
    let retiring_digest = match &cluster.retiring {
        Some(old) => digest(&old.cert_pem)?,
        None => String::new(),
    };
    let laggards = laggards(state).into_iter().map(|node| CaLaggard {
        node_id: convert::id_bytes(node.id.0),
        hostname: node.description.hostname.clone(),
        state: proto::NodeState::from(node.status.state).into(),
    });
    Ok(CaStatus {
        cert_pem: cluster.ca.cert_pem.clone(),
        digest: digest(&cluster.ca.cert_pem)?,
        subject: parsed.subject().to_string(),
        not_before: parsed.validity().not_before.timestamp() * 1_000,
        not_after: parsed.validity().not_after.timestamp() * 1_000,
        retiring_since: cluster.retiring.as_ref().map_or(0, |old| old.since.0),
        laggards: laggards.collect(),
        nodes: u32::try_from(state.nodes().len()).unwrap_or(u32::MAX),
        cert_expiry_ms: cluster.spec.cert_expiry_ms,
        retiring_digest,
    })
}

pub async fn rotate(control: &Control, request: RotateCaRequest) -> Result<CaStatus, Status> {
    if request.ca_cert_pem.is_empty() != request.ca_key_pem.is_empty() {
        return Err(Refusal::invalid(
            "a CA of your own is a certificate and its key: give both, or neither to have one made",
        )
        .into());
    }
    let brought = !request.ca_cert_pem.is_empty();
    control
        .change(|state, at: Timestamp| {
            let cluster = state
                .cluster()
                .ok_or_else(|| Refusal::not_found("there is no cluster yet"))?;
            let refused = |error: crate::ca::CaError| Refusal::invalid(chain(&error));
            let new = match brought {
                true => Some(
                    bring(
                        &request.ca_cert_pem,
                        &request.ca_key_pem,
                        cluster.spec.cert_expiry_ms,
                        at,
                    )
                    .map_err(refused)?,
                ),
                false => None,
            };
            let is_current = new.as_ref().is_some_and(|new| {
                root_digest(&new.cert_pem).ok() == root_digest(&cluster.ca.cert_pem).ok()
            });
            // The same wish again is the one that is under way, or done.
            if is_current || (cluster.retiring.is_some() && !brought) {
                return Ok(Change {
                    ops: Vec::new(),
                    answer: (),
                });
            }
            if cluster.retiring.is_some() {
                return Err(Refusal::first(
                    "the CA is being replaced by another already; `clusterctl ca show` shows which nodes that waits for",
                ));
            }
            let new = match new {
                Some(new) => new,
                None => make_root(cluster.id, at).map_err(refused)?,
            };
            let mut changed = (**cluster).clone();
            changed.retiring = Some(cross_sign(&cluster.ca, &new, at).map_err(refused)?);
            changed.ca = new;
            Ok(Change {
                ops: vec![Op::UpdateCluster {
                    at_revision: cluster.meta.revision,
                    cluster: Box::new(changed),
                }],
                answer: (),
            })
        })
        .await?;
    tracing::info!("the cluster's CA is being replaced");
    Ok(control.read(show).await??)
}

/// An error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
