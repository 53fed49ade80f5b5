//! The cluster and its settings.

use super::{ConvertError, Problem, id_bytes, ids, need, subnet};
use crate::model::{
    CERT_EXPIRY_MS, Cluster, ClusterCa, ClusterId, ClusterSpec, JoinSecrets, Lock, NodeId,
    RetiringCa, Timestamp, UnlockKey,
};
use crate::proto;

impl From<&Cluster> for proto::Cluster {
    fn from(cluster: &Cluster) -> Self {
        Self {
            id: id_bytes(cluster.id.0),
            meta: Some((&cluster.meta).into()),
            spec: Some((&cluster.spec).into()),
            ca_cert_pem: cluster.ca.cert_pem.clone(),
            ca_key_pem: cluster.ca.key_pem.clone(),
            worker_secret: cluster.tokens.worker.clone(),
            manager_secret: cluster.tokens.manager.clone(),
            recovery: Some((&cluster.recovery).into()),
            retiring: cluster.retiring.as_ref().map(|old| proto::RetiringCa {
                cert_pem: old.cert_pem.clone(),
                cross_pem: old.cross_pem.clone(),
                since: old.since.0,
            }),
            revoked: cluster
                .revoked
                .iter()
                .map(|(node, until)| proto::Revoked {
                    node: id_bytes(node.0),
                    until: until.0,
                })
                .collect(),
            lock: (cluster.lock != Lock::default()).then(|| (&cluster.lock).into()),
        }
    }
}

impl TryFrom<proto::Cluster> for Cluster {
    type Error = ConvertError;

    fn try_from(cluster: proto::Cluster) -> Result<Self, ConvertError> {
        Ok(Self {
            id: ClusterId(ids::read("Cluster", "id", &cluster.id)?),
            meta: need("Cluster", "meta", cluster.meta)?.into(),
            spec: need("Cluster", "spec", cluster.spec)?.try_into()?,
            ca: ClusterCa {
                cert_pem: cluster.ca_cert_pem,
                key_pem: cluster.ca_key_pem,
            },
            retiring: cluster.retiring.map(|old| RetiringCa {
                cert_pem: old.cert_pem,
                cross_pem: old.cross_pem,
                since: Timestamp(old.since),
            }),
            tokens: JoinSecrets {
                worker: cluster.worker_secret,
                manager: cluster.manager_secret,
            },
            recovery: cluster.recovery.unwrap_or_default().try_into()?,
            revoked: cluster
                .revoked
                .into_iter()
                .map(|one| {
                    let node = NodeId(ids::read("Revoked", "node", &one.node)?);
                    Ok((node, Timestamp(one.until)))
                })
                .collect::<Result<_, ConvertError>>()?,
            lock: cluster
                .lock
                .map(Lock::try_from)
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

impl From<&Lock> for proto::ClusterLock {
    fn from(lock: &Lock) -> Self {
        let key = lock.key.as_ref().map(|key| key.bytes().to_vec().into());
        Self {
            version: lock.version,
            key: key.unwrap_or_default(),
        }
    }
}

impl TryFrom<proto::ClusterLock> for Lock {
    type Error = ConvertError;

    fn try_from(lock: proto::ClusterLock) -> Result<Self, ConvertError> {
        let key = match lock.key.len() {
            0 => None,
            length => Some(UnlockKey::from_bytes(&lock.key).ok_or_else(|| {
                let problem =
                    Problem::Text(format!("an unlock key has 32 bytes, this one has {length}"));
                ConvertError::new("ClusterLock", "key", problem)
            })?),
        };
        Ok(Self {
            version: lock.version,
            key,
        })
    }
}

impl From<&ClusterSpec> for proto::ClusterSpec {
    fn from(spec: &ClusterSpec) -> Self {
        Self {
            address_pool: spec.address_pool.to_string(),
            subnet_prefix: spec.subnet_prefix.into(),
            heartbeat_ms: spec.heartbeat_ms,
            dead_after_ms: spec.dead_after_ms,
            task_history: spec.task_history,
            worker_exec: spec.worker_exec,
            cert_expiry_ms: spec.cert_expiry_ms,
        }
    }
}

impl TryFrom<proto::ClusterSpec> for ClusterSpec {
    type Error = ConvertError;

    fn try_from(spec: proto::ClusterSpec) -> Result<Self, ConvertError> {
        let too_long = || {
            let problem = Problem::TooLarge {
                value: spec.subnet_prefix.into(),
                most: 32,
            };
            ConvertError::new("ClusterSpec", "subnet_prefix", problem)
        };
        let prefix = u8::try_from(spec.subnet_prefix)
            .ok()
            .filter(|p| *p <= 32)
            .ok_or_else(too_long)?;
        Ok(Self {
            address_pool: subnet("ClusterSpec", "address_pool", &spec.address_pool)?,
            subnet_prefix: prefix,
            heartbeat_ms: spec.heartbeat_ms,
            dead_after_ms: spec.dead_after_ms,
            task_history: spec.task_history,
            worker_exec: spec.worker_exec,
            // Of a version that knew no other.
            cert_expiry_ms: match spec.cert_expiry_ms {
                0 => CERT_EXPIRY_MS,
                ms => ms,
            },
        })
    }
}
