//! A thousand services of a thousand tasks each on ten thousand nodes that are only written down: decided and
//! committed, durably, by one manager's own loop.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use api::{
    model::{
        ClusterSpec, ContainerSpec, Meta, Node, NodeCert, NodeDescription, NodeId, NodeSpec,
        NodeState, NodeStatus, Service, ServiceId, ServiceMode, ServiceSpec, TaskTemplate,
    },
    state::{Op, State, Transaction},
};

use super::{one_manager, peak_mib};
use crate::bench::figure::Figure;

/// How much.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Nodes that take tasks.
    pub nodes: u32,
    /// Services.
    pub services: u32,
    /// Tasks of each.
    pub replicas: u32,
}

/// Changes in one transaction of the preparation.
const CHUNK: usize = 500;
/// The simulated nodes send no heartbeats: they are not to be given up meanwhile, ms.
const DEAD_AFTER_MS: u32 = 3_600_000;
/// How long the whole may take.
const BOUND: Duration = Duration::from_secs(600);

fn node(number: u32) -> Op {
    Op::CreateNode(Box::new(Node {
        id: NodeId(u128::from(number) << 64 | 0xfeed),
        meta: Meta::default(),
        spec: NodeSpec::default(),
        description: NodeDescription {
            hostname: format!("node{number}"),
            os: "linux".into(),
            arch: "x86_64".into(),
            ..NodeDescription::default()
        },
        status: NodeStatus {
            state: NodeState::Ready,
            ..NodeStatus::default()
        },
        addr: Ipv4Addr::from(0x0a00_0000 + number),
        port: 2377,
        cert: NodeCert::default(),
    }))
}

fn service(number: u32, replicas: u32) -> Op {
    Op::CreateService(Box::new(Service {
        id: ServiceId(u128::from(number) << 64 | 0xbeef),
        meta: Meta::default(),
        spec: ServiceSpec {
            name: format!("service{number}"),
            stack: None,
            labels: BTreeMap::new(),
            mode: ServiceMode::Replicated { replicas },
            endpoint_mode: api::model::EndpointMode::Vip,
            ports: vec![],
            template: TaskTemplate {
                container: ContainerSpec {
                    image: "busybox:1".into(),
                    ..ContainerSpec::default()
                },
                ..TaskTemplate::default()
            },
        },
        template_revision: 0,
        vips: BTreeMap::new(),
    }))
}

/// Tasks on the fullest and on the emptiest node, leaving out the manager itself.
fn extremes(state: &State) -> (usize, usize) {
    let counts = state
        .nodes()
        .values()
        .filter(|node| node.status.state == NodeState::Ready)
        .map(|node| state.tasks_of_node(node.id).count());
    counts.fold((0, usize::MAX), |(most, least), count| {
        (most.max(count), least.min(count))
    })
}

/// Measures it, with its state in a folder.
///
/// # Errors
/// When it does not come to an end, or the tasks are spread unevenly.
pub async fn measure(dir: &Path, size: Size) -> Result<Vec<Figure>> {
    let spec = ClusterSpec {
        dead_after_ms: DEAD_AFTER_MS,
        ..ClusterSpec::default()
    };
    let (manager, _founding) = one_manager(dir, spec).await?;
    let handle = manager.handle().clone();
    let nodes: Vec<Op> = (1..=size.nodes).map(node).collect();
    for ops in nodes.chunks(CHUNK) {
        let at = manager::now();
        handle
            .propose(Transaction {
                at,
                ops: ops.to_vec(),
            })
            .await?;
    }
    let wanted = usize::try_from(size.services)? * usize::try_from(size.replicas)?;
    let start = Instant::now();
    let services: Vec<Op> = (1..=size.services)
        .map(|n| service(n, size.replicas))
        .collect();
    for ops in services.chunks(CHUNK) {
        let at = manager::now();
        handle
            .propose(Transaction {
                at,
                ops: ops.to_vec(),
            })
            .await?;
    }
    while handle.read(|state| state.tasks().len()) < wanted {
        ensure!(
            start.elapsed() < BOUND,
            "only {} of {wanted} tasks after {} s",
            handle.read(|state| state.tasks().len()),
            BOUND.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seconds = start.elapsed().as_secs_f64();
    let (most, least) = handle.read(extremes);
    let unplaced = handle.read(|state| state.tasks().values().filter(|t| t.node.is_none()).count());
    manager.shutdown().await;
    ensure!(unplaced == 0, "{unplaced} tasks have no node");
    let row = |name: &str| format!("tasks-{wanted}{name}");
    let figures = [
        Figure::of(&row(""), "ours", "s", &[seconds]),
        Figure::of(&row("-memory"), "ours", "MiB", &[peak_mib()?]),
        Figure::of(
            &row("-uneven"),
            "ours",
            "tasks",
            &[most as f64 - least as f64],
        ),
    ];
    figures
        .into_iter()
        .map(|figure| figure.context("no figure"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn all_are_placed_and_evenly() {
        let dir = tempfile::tempdir().expect("a folder");
        let size = Size {
            nodes: 70,
            services: 7,
            replicas: 300,
        };
        let figures = measure(dir.path(), size).await.expect("measured");
        let uneven = figures
            .iter()
            .find(|figure| figure.row.ends_with("-uneven"))
            .expect("how evenly");
        assert!(uneven.value <= 2.0, "{uneven:?}");
    }
}
