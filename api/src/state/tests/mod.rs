//! The state's invariants, each under random transactions ([`random`]), and its rules by hand.

mod blobs;
mod forward_only;
mod indexes;
mod one_holder;
mod random;
mod references;
mod rules;
mod templates;
mod whole_or_nothing;

use super::*;
use crate::model::*;
use proptest::prelude::*;
use random::history;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Stands for the revision that the object has when its transaction begins.
const CURRENT: u64 = u64::MAX;

/// Everything that [`State`] holds, for comparing.
type Contents = (
    Option<Arc<Cluster>>,
    Table<NodeId, Arc<Node>>,
    Table<NetworkId, Arc<Network>>,
    Table<ServiceId, Arc<Service>>,
    Table<Arc<str>, Arc<Stack>>,
    Table<BlobId, Arc<Blob>>,
    Table<TaskId, Arc<Task>>,
    Table<(ServiceId, u64), Arc<TaskTemplate>>,
    Indexes,
);

/// All but the revision, to be shown when it differs.
fn contents(state: &State) -> Contents {
    let s = state.clone();
    (
        s.cluster,
        s.nodes,
        s.networks,
        s.services,
        s.stacks,
        s.blobs,
        s.tasks,
        s.templates,
        s.indexes,
    )
}

pub(super) fn node(id: u128) -> Node {
    Node {
        id: NodeId(id),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        description: NodeDescription::default(),
        status: NodeStatus::default(),
        addr: Ipv4Addr::LOCALHOST,
        port: 2377,
        cert: NodeCert::default(),
    }
}

/// The subnet of each number: 10.0.N.0/24.
pub(super) fn network(id: u128, name: &str, vni: u32, subnet: u8) -> Network {
    Network {
        id: NetworkId(id),
        meta: Meta::default(),
        spec: NetworkSpec {
            name: name.into(),
            ..NetworkSpec::default()
        },
        vni,
        subnet: ipnet::Ipv4Net::new_assert([10, 0, subnet, 0].into(), 24),
    }
}

pub(super) fn spec(name: &str, image: &str, networks: &[u128]) -> ServiceSpec {
    let attach = |id: &u128| NetworkAttachment {
        network: NetworkId(*id),
        aliases: Vec::new(),
    };
    let mut spec = ServiceSpec {
        name: name.into(),
        ..ServiceSpec::default()
    };
    spec.template.container.image = image.into();
    spec.template.networks = networks.iter().map(attach).collect();
    spec
}

pub(super) fn blob(id: u128, name: &str, stack: Option<&str>, version: u32) -> Blob {
    Blob {
        id: BlobId(id),
        meta: Meta::default(),
        version,
        spec: BlobSpec {
            kind: BlobKind::Secret,
            name: name.into(),
            stack: stack.map(Into::into),
            labels: Labels::new(),
            data: b"x".to_vec().into(),
        },
    }
}

/// The template of a service with these secrets.
pub(super) fn with_blobs(mut spec: ServiceSpec, blobs: &[u128]) -> ServiceSpec {
    let reference = |id: &u128| BlobRef {
        blob: BlobId(*id),
        file: BlobFile {
            source: BlobKey {
                kind: BlobKind::Secret,
                name: format!("b{id}"),
            },
            target: format!("/run/secrets/b{id}"),
            uid: 0,
            gid: 0,
            mode: FILE_MODE,
        },
    };
    spec.template.blobs = blobs.iter().map(reference).collect();
    spec
}

pub(super) fn service(id: u128, spec: ServiceSpec, vips: BTreeMap<NetworkId, Ipv4Addr>) -> Service {
    Service {
        id: ServiceId(id),
        meta: Meta::default(),
        spec,
        template_revision: 0,
        vips,
    }
}

pub(super) fn task(id: u128, service: u128, template_revision: u64) -> Task {
    Task {
        id: TaskId(id),
        meta: Meta::default(),
        service: ServiceId(service),
        service_name: "a".into(),
        slot: 1,
        template_revision,
        node: None,
        desired: TaskState::Running,
        not_before: Timestamp(0),
        addresses: Vec::new(),
        ports: Vec::new(),
        status: TaskStatus::default(),
    }
}

fn cluster(id: u128) -> Cluster {
    Cluster {
        id: ClusterId(id),
        meta: Meta::default(),
        spec: ClusterSpec::default(),
        ca: ClusterCa {
            cert_pem: String::new(),
            key_pem: String::new(),
        },
        retiring: None,
        tokens: JoinSecrets {
            worker: String::new(),
            manager: String::new(),
        },
        recovery: Default::default(),
        revoked: BTreeMap::new(),
        lock: Default::default(),
    }
}

/// Puts the current revisions in. The transaction will be applied at `revision`.
fn resolve(state: &State, revision: u64, mut ops: Vec<Op>) -> Transaction {
    for op in &mut ops {
        let (field, current) = match op {
            Op::UpdateCluster { at_revision, .. } => {
                (at_revision, state.cluster().map(|c| c.meta.revision))
            }
            Op::UpdateNode {
                id, at_revision, ..
            } => (at_revision, state.nodes().get(id).map(|n| n.meta.revision)),
            Op::UpdateService {
                id,
                at_revision,
                spec,
                ..
            } => {
                let service = state.services().get(id);
                if let Some(service) = service {
                    spec.name.clone_from(&service.spec.name);
                }
                (at_revision, service.map(|s| s.meta.revision))
            }
            Op::UpdateBlob {
                id, at_revision, ..
            } => (at_revision, state.blobs().get(id).map(|b| b.meta.revision)),
            Op::CreateTask(task) => {
                let current = state
                    .services()
                    .get(&task.service)
                    .map(|s| s.template_revision);
                (&mut task.template_revision, current)
            }
            _ => continue,
        };
        if *field == CURRENT {
            *field = current.unwrap_or(revision);
        }
    }
    Transaction {
        at: Timestamp(i64::try_from(revision).unwrap_or(0)),
        ops,
    }
}

/// Plays a history; after each transaction `check` sees the state before, the state now, and the outcome.
fn play(
    history: Vec<Vec<u128>>,
    mut check: impl FnMut(&State, &State, &Result<Vec<Event>, ApplyError>),
) -> State {
    let mut state = State::new();
    for seeds in history {
        let transaction = random::transaction(&state, &seeds);
        let before = state.clone();
        let outcome = state.apply(before.revision() + 1, transaction);
        check(&before, &state, &outcome);
    }
    state
}

/// The state after these transactions, all of which have to be taken.
pub(super) fn state(transactions: Vec<Vec<Op>>) -> State {
    let mut state = State::new();
    for ops in transactions {
        let revision = state.revision() + 1;
        let transaction = resolve(&state, revision, ops);
        if let Err(error) = state.apply(revision, transaction) {
            panic!("refused: {error}");
        }
    }
    state
}
