//! The cluster's settings.

use super::{Change, Control, Refusal, validate};
use api::convert;
use api::model::Cluster;
use api::proto::{
    ClusterInfo, ClusterSpec, GetUnlockKeyReply, GetUnlockKeyRequest, InspectClusterRequest, Meta,
    UpdateClusterRequest,
};
use api::state::{Op, State};
use tonic::Status;

fn there(state: &State) -> Result<&Cluster, Refusal> {
    state
        .cluster()
        .map(|cluster| &**cluster)
        .ok_or_else(|| Refusal::not_found("there is no cluster yet"))
}

fn info(cluster: &Cluster) -> ClusterInfo {
    ClusterInfo {
        id: convert::id_bytes(cluster.id.0),
        meta: Some(Meta::from(&cluster.meta)),
        spec: Some(ClusterSpec::from(&cluster.spec)),
        autolock: cluster.lock.key.is_some(),
        unlock_key: String::new(),
    }
}

pub async fn inspect(control: &Control, _: InspectClusterRequest) -> Result<ClusterInfo, Status> {
    Ok(control.read(|state| there(state).map(info)).await??)
}

pub async fn update(
    control: &Control,
    request: UpdateClusterRequest,
) -> Result<ClusterInfo, Status> {
    control
        .change(|state, _| {
            let old = there(state)?;
            let mut cluster = old.clone();
            let spec = &mut cluster.spec;
            spec.heartbeat_ms = request.heartbeat_ms.unwrap_or(spec.heartbeat_ms);
            spec.dead_after_ms = request.dead_after_ms.unwrap_or(spec.dead_after_ms);
            spec.task_history = request.task_history.unwrap_or(spec.task_history);
            spec.worker_exec = request.worker_exec.unwrap_or(spec.worker_exec);
            let mut problems = spec.problems();
            let services = state.services().values();
            problems.extend(validate::leases(services.map(|s| &s.spec), spec));
            if !problems.is_empty() {
                return Err(Refusal::invalid(problems.join("; ")));
            }
            if let Some(locks) = request.autolock
                && locks != old.lock.key.is_some()
            {
                cluster.lock = old.lock.next(locks);
            }
            let ops = if cluster == *old {
                Vec::new()
            } else {
                vec![Op::UpdateCluster {
                    at_revision: old.meta.revision,
                    cluster: Box::new(cluster.clone()),
                }]
            };
            let mut answer = info(&cluster);
            if cluster.lock != old.lock
                && let Some(key) = &cluster.lock.key
            {
                answer.unlock_key = key.text().to_string();
            }
            Ok(Change { ops, answer })
        })
        .await
}

pub async fn unlock_key(
    control: &Control,
    request: GetUnlockKeyRequest,
) -> Result<GetUnlockKeyReply, Status> {
    control
        .change(|state, _| {
            let old = there(state)?;
            let mut cluster = old.clone();
            if request.rotate && old.lock.key.is_some() {
                cluster.lock = old.lock.next(true);
            }
            let key = cluster.lock.key.as_ref().ok_or_else(|| {
                Refusal::first(
                    "managers are not locked, so there is no unlock key; `clusterctl cluster update --autolock=true` \
                     makes one",
                )
            })?;
            let answer = GetUnlockKeyReply {
                key: key.text().to_string(),
            };
            let ops = if cluster == *old {
                Vec::new()
            } else {
                vec![Op::UpdateCluster {
                    at_revision: old.meta.revision,
                    cluster: Box::new(cluster),
                }]
            };
            Ok(Change { ops, answer })
        })
        .await
}
