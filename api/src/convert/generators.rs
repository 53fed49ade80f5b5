//! Any object, transaction and tables, for property tests.

mod blobs;
mod nodes;
mod services;

pub(crate) use blobs::blob;
use blobs::{blob_file, blob_key, blob_spec};
pub(crate) use nodes::node;
use nodes::{description, node_cert, node_spec, node_status};
pub(crate) use services::service;
use services::{port, service_spec, template};

use crate::model::*;
use crate::state::{Op, Tables, Transaction};
use ipnet::Ipv4Net;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use std::net::Ipv4Addr;
use std::sync::Arc;

fn text() -> impl Strategy<Value = String> {
    ".{0,8}"
}

fn labels() -> impl Strategy<Value = Labels> {
    btree_map(text(), text(), 0..3)
}

fn texts() -> impl Strategy<Value = Vec<String>> {
    vec(text(), 0..3)
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp)
}

fn addr() -> impl Strategy<Value = Ipv4Addr> {
    any::<u32>().prop_map(Ipv4Addr::from)
}

fn net() -> impl Strategy<Value = Ipv4Net> {
    (addr(), 0u8..=32).prop_map(|(addr, prefix)| Ipv4Net::new_assert(addr, prefix))
}

fn meta() -> impl Strategy<Value = Meta> {
    (time(), time(), any::<u64>()).prop_map(|(created_at, updated_at, revision)| Meta {
        created_at,
        updated_at,
        revision,
    })
}

fn vips() -> impl Strategy<Value = std::collections::BTreeMap<NetworkId, Ipv4Addr>> {
    btree_map(any::<u128>().prop_map(NetworkId), addr(), 0..3)
}

fn recovery() -> impl Strategy<Value = Recovery> {
    fn note() -> impl Strategy<Value = BackupNote> {
        (any::<i64>(), any::<u128>(), text(), any::<[u64; 2]>()).prop_map(
            |(at, node, path, [bytes, revision])| BackupNote {
                at: Timestamp(at),
                node: NodeId(node),
                path,
                bytes,
                revision,
            },
        )
    }
    let schedule = (any::<u64>(), any::<[u32; 4]>(), text(), any::<[u8; 32]>()).prop_map(
        |(every_ms, [keep, memory_kib, passes, lanes], dir, key)| BackupSchedule {
            every_ms,
            keep,
            dir,
            salt: key[..16].to_vec(),
            memory_kib,
            passes,
            lanes,
            key: key.to_vec(),
        },
    );
    let failure = (any::<i64>(), any::<u128>(), text()).prop_map(|(at, node, why)| BackupFailure {
        at: Timestamp(at),
        node: NodeId(node),
        why,
    });
    let fenced = btree_set(any::<u128>().prop_map(NodeId), 0..4);
    (
        fenced,
        option::of(schedule),
        vec(note(), 0..3),
        option::of(failure),
        option::of(note()),
    )
        .prop_map(|(fenced, schedule, made, failure, by_hand)| Recovery {
            fenced,
            schedule,
            made,
            failure,
            by_hand,
        })
}

pub(crate) fn cluster() -> impl Strategy<Value = Cluster> {
    let spec = (
        net(),
        0u8..=32,
        any::<[u32; 3]>(),
        any::<bool>(),
        1..=u64::MAX,
    )
        .prop_map(
            |(
                address_pool,
                subnet_prefix,
                [heartbeat_ms, dead_after_ms, task_history],
                worker_exec,
                cert_expiry_ms,
            )| {
                ClusterSpec {
                    address_pool,
                    subnet_prefix,
                    heartbeat_ms,
                    dead_after_ms,
                    task_history,
                    worker_exec,
                    cert_expiry_ms,
                }
            },
        );
    let retiring = option::of(
        (text(), text(), time()).prop_map(|(cert_pem, cross_pem, since)| RetiringCa {
            cert_pem,
            cross_pem,
            since,
        }),
    );
    let revoked = btree_map(any::<u128>().prop_map(NodeId), time(), 0..3);
    let texts = (text(), text(), text(), text());
    let lock = (any::<u64>(), option::of(any::<[u8; 32]>())).prop_map(|(version, key)| Lock {
        version,
        key: key.and_then(|bytes| UnlockKey::from_bytes(&bytes)),
    });
    (
        any::<u128>(),
        meta(),
        spec,
        texts,
        retiring,
        revoked,
        recovery(),
        lock,
    )
        .prop_map(
            |(
                id,
                meta,
                spec,
                (cert_pem, key_pem, worker, manager),
                retiring,
                revoked,
                recovery,
                lock,
            )| {
                Cluster {
                    id: ClusterId(id),
                    meta,
                    spec,
                    ca: ClusterCa { cert_pem, key_pem },
                    retiring,
                    tokens: JoinSecrets { worker, manager },
                    recovery,
                    revoked,
                    lock,
                }
            },
        )
}

fn network_spec() -> impl Strategy<Value = NetworkSpec> {
    (
        text(),
        option::of(text()),
        labels(),
        option::of(net()),
        any::<bool>(),
        any::<bool>(),
    )
        .prop_map(
            |(name, stack, labels, subnet, internal, attachable)| NetworkSpec {
                name,
                stack,
                labels,
                subnet,
                internal,
                attachable,
            },
        )
}

pub(crate) fn network() -> impl Strategy<Value = Network> {
    (any::<u128>(), meta(), network_spec(), any::<u32>(), net()).prop_map(
        |(id, meta, spec, vni, subnet)| Network {
            id: NetworkId(id),
            meta,
            spec,
            vni,
            subnet,
        },
    )
}

fn state() -> impl Strategy<Value = TaskState> {
    select(TaskState::ALL.to_vec())
}

fn task_status() -> impl Strategy<Value = TaskStatus> {
    (
        state(),
        time(),
        text(),
        any::<Option<u32>>(),
        any::<Option<i32>>(),
    )
        .prop_map(|(state, at, message, pid, exit_code)| TaskStatus {
            state,
            at,
            message,
            pid,
            exit_code,
        })
}

fn address() -> impl Strategy<Value = TaskAddress> {
    (any::<u128>(), addr()).prop_map(|(id, addr)| TaskAddress {
        network: NetworkId(id),
        addr,
    })
}

pub(crate) fn task() -> impl Strategy<Value = Task> {
    let ids = (any::<u128>(), any::<u128>(), any::<Option<u128>>());
    let numbers = (any::<u32>(), any::<u64>(), time());
    let held = (vec(address(), 0..3), vec(port(), 0..3));
    (ids, meta(), text(), numbers, state(), held, task_status()).prop_map(
        |(ids, meta, service_name, numbers, desired, held, status)| Task {
            id: TaskId(ids.0),
            meta,
            service: ServiceId(ids.1),
            service_name: service_name.into(),
            slot: numbers.0,
            template_revision: numbers.1,
            node: ids.2.map(NodeId),
            desired,
            not_before: numbers.2,
            addresses: held.0,
            ports: held.1,
            status,
        },
    )
}

pub(crate) fn stack() -> impl Strategy<Value = Stack> {
    (text(), meta(), texts()).prop_map(|(name, meta, volumes)| Stack {
        name,
        meta,
        volumes,
    })
}

pub(crate) fn stack_spec() -> impl Strategy<Value = StackSpec> {
    let service = (
        service_spec(),
        btree_map(text(), texts(), 0..3),
        vec(blob_file(), 0..3),
    )
        .prop_map(|(spec, networks, blobs)| StackService {
            spec,
            networks,
            blobs,
        });
    (
        text(),
        btree_map(text(), network_spec(), 0..3),
        texts(),
        btree_map(text(), labels(), 0..3),
        btree_map(text(), service, 0..3),
        vec(blob_spec(), 0..3),
        vec(blob_key(), 0..3),
    )
        .prop_map(
            |(name, networks, external_networks, volumes, services, blobs, external_blobs)| {
                StackSpec {
                    name,
                    networks,
                    external_networks,
                    volumes,
                    services,
                    blobs,
                    external_blobs,
                }
            },
        )
}

fn op() -> impl Strategy<Value = Op> {
    let id = any::<u128>;
    let revision = any::<u64>;
    prop_oneof![
        cluster().prop_map(|c| Op::CreateCluster(Box::new(c))),
        (cluster(), revision()).prop_map(|(c, at_revision)| Op::UpdateCluster {
            cluster: Box::new(c),
            at_revision
        }),
        node().prop_map(|n| Op::CreateNode(Box::new(n))),
        (id(), node_spec(), revision()).prop_map(|(id, spec, at_revision)| Op::UpdateNode {
            id: NodeId(id),
            spec,
            at_revision
        }),
        (
            id(),
            node_status(),
            option::of(description()),
            option::of((addr(), any::<u16>()))
        )
            .prop_map(|(id, status, description, addr)| Op::SetNodeStatus {
                id: NodeId(id),
                status,
                description,
                addr
            }),
        (id(), node_cert()).prop_map(|(id, cert)| Op::SetNodeCert {
            id: NodeId(id),
            cert
        }),
        id().prop_map(|i| Op::RemoveNode(NodeId(i))),
        network().prop_map(|n| Op::CreateNetwork(Box::new(n))),
        id().prop_map(|i| Op::RemoveNetwork(NetworkId(i))),
        service().prop_map(|s| Op::CreateService(Box::new(s))),
        (id(), service_spec(), vips(), revision()).prop_map(|(id, spec, vips, at_revision)| {
            Op::UpdateService {
                id: ServiceId(id),
                spec: Box::new(spec),
                vips,
                at_revision,
            }
        }),
        id().prop_map(|i| Op::RemoveService(ServiceId(i))),
        stack().prop_map(Op::PutStack),
        text().prop_map(Op::RemoveStack),
        task().prop_map(|t| Op::CreateTask(Box::new(t))),
        (id(), id(), vec(address(), 0..3), vec(port(), 0..3)).prop_map(
            |(id, node, addresses, ports)| {
                Op::AssignTask {
                    id: TaskId(id),
                    node: NodeId(node),
                    addresses,
                    ports,
                }
            }
        ),
        (id(), state()).prop_map(|(id, desired)| Op::SetTaskDesired {
            id: TaskId(id),
            desired
        }),
        (id(), task_status()).prop_map(|(id, status)| Op::SetTaskStatus {
            id: TaskId(id),
            status
        }),
        id().prop_map(|i| Op::RemoveTask(TaskId(i))),
        blob().prop_map(|b| Op::CreateBlob(Box::new(b))),
        (id(), labels(), revision()).prop_map(|(id, labels, at_revision)| Op::UpdateBlob {
            id: BlobId(id),
            labels,
            at_revision
        }),
        id().prop_map(|i| Op::RemoveBlob(BlobId(i))),
    ]
}

pub(crate) fn transaction() -> impl Strategy<Value = Transaction> {
    (time(), vec(op(), 0..5)).prop_map(|(at, ops)| Transaction { at, ops })
}

fn shared<T: std::fmt::Debug>(
    strategy: impl Strategy<Value = T>,
) -> impl Strategy<Value = Vec<Arc<T>>> {
    vec(strategy.prop_map(Arc::new), 0..3)
}

pub(crate) fn tables() -> impl Strategy<Value = Tables> {
    let templates = vec(
        (
            any::<u128>().prop_map(ServiceId),
            any::<u64>(),
            template().prop_map(Arc::new),
        ),
        0..3,
    );
    (
        any::<u64>(),
        option::of(cluster().prop_map(Arc::new)),
        shared(node()),
        shared(network()),
        shared(service()),
        shared(stack()),
        shared(task()),
        templates,
        shared(blob()),
    )
        .prop_map(
            |(revision, cluster, nodes, networks, services, stacks, tasks, templates, blobs)| {
                Tables {
                    revision,
                    cluster,
                    nodes,
                    networks,
                    services,
                    stacks,
                    tasks,
                    templates,
                    blobs,
                }
            },
        )
}
