//! Nodes.

use super::*;

pub(super) fn node_spec() -> impl Strategy<Value = NodeSpec> {
    let role = select(vec![Role::Worker, Role::Manager]);
    let availability = select(vec![
        Availability::Active,
        Availability::Pause,
        Availability::Drain,
    ]);
    (role, availability, labels()).prop_map(|(role, availability, labels)| NodeSpec {
        role,
        availability,
        labels,
    })
}

pub(super) fn description() -> impl Strategy<Value = NodeDescription> {
    (
        text(),
        text(),
        text(),
        any::<u64>(),
        any::<u64>(),
        text(),
        labels(),
    )
        .prop_map(
            |(hostname, os, arch, nano_cpus, memory_bytes, version, engine_labels)| {
                NodeDescription {
                    hostname,
                    os,
                    arch,
                    nano_cpus,
                    memory_bytes,
                    version,
                    engine_labels,
                }
            },
        )
}

pub(super) fn node_status() -> impl Strategy<Value = NodeStatus> {
    let state = select(vec![NodeState::Unknown, NodeState::Ready, NodeState::Down]);
    (state, text(), time(), any::<u64>()).prop_map(|(state, message, since, silent_ms)| {
        NodeStatus {
            state,
            message,
            since,
            silent_ms,
        }
    })
}

pub(super) fn node_cert() -> impl Strategy<Value = NodeCert> {
    let role = select(vec![Role::Worker, Role::Manager]);
    (role, text(), text(), time()).prop_map(|(role, key_digest, issuer, not_after)| NodeCert {
        role,
        key_digest,
        issuer,
        not_after,
    })
}

pub(crate) fn node() -> impl Strategy<Value = Node> {
    (
        any::<u128>(),
        meta(),
        node_spec(),
        description(),
        node_status(),
        addr(),
        any::<u16>(),
        node_cert(),
    )
        .prop_map(
            |(id, meta, spec, description, status, addr, port, cert)| Node {
                id: NodeId(id),
                meta,
                spec,
                description,
                status,
                addr,
                port,
                cert,
            },
        )
}
