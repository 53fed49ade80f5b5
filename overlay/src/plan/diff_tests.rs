use super::*;
use crate::{
    Attachment, Endpoint, Network, NetworkId, PublishedPort, Service, ServiceId, TaskNet, View,
    plan::{Local, NodeParams, desired, tolerate},
};
use proptest::prelude::*;
use std::sync::Arc;

const PARAMS: fn() -> NodeParams = || NodeParams {
    vtep: Ipv4Addr::new(192, 168, 0, 1),
    vxlan_port: 4789,
    underlay_mtu: 1500,
    pool: "172.30.0.0/16".parse().unwrap(),
};

/// A node in some state: few names, so that states share objects and differ in them.
#[derive(Debug, Clone)]
struct World {
    /// Per network: endpoints as (last octet, node, ready).
    networks: Vec<Vec<(u8, u8, bool)>>,
    /// Tasks: number, gateway address, whether it publishes. The number says which networks it is on,
    /// for that never changes.
    tasks: BTreeMap<u8, (u8, bool)>,
}

fn world() -> impl Strategy<Value = World> {
    let endpoints = prop::collection::vec((2..9_u8, 1..4_u8, any::<bool>()), 0..6);
    let task = (2..6_u8, any::<bool>());
    (
        prop::collection::vec(endpoints, 2),
        prop::collection::btree_map(0..5_u8, task, 0..4),
    )
        .prop_map(|(networks, tasks)| World { networks, tasks })
}

fn picture_of(world: &World) -> Picture {
    let mut view = View::default();
    for (n, endpoints) in world.networks.iter().enumerate() {
        let n = u8::try_from(n).unwrap();
        let service = ServiceId::new("web").unwrap();
        let network = Network {
            name: format!("net{n}"),
            vni: 4096 + u32::from(n),
            subnet: format!("10.0.{n}.0/24").parse().unwrap(),
            endpoints: endpoints
                .iter()
                .map(|(last, node, ready)| {
                    let id = crate::TaskId::new(format!("e{last}")).unwrap();
                    let endpoint = Endpoint {
                        addr: Ipv4Addr::new(10, 0, n, *last),
                        node: Ipv4Addr::new(192, 168, 0, *node),
                        service: Some(service.clone()),
                        names: Vec::new(),
                        aliases: Vec::new(),
                        ready: *ready,
                    };
                    (id, endpoint)
                })
                .collect(),
            services: [(
                service.clone(),
                Service {
                    names: vec!["web".into()],
                    stack: None,
                    vip: (n == 0).then(|| Ipv4Addr::new(10, 0, n, 100)),
                },
            )]
            .into(),
        };
        view.networks
            .insert(NetworkId::new(format!("n{n}")).unwrap(), Arc::new(network));
    }
    let locals: Vec<_> = world
        .tasks
        .iter()
        .map(|(task, (gateway, publishes))| Local {
            gateway_addr: Ipv4Addr::new(172, 30, 0, *gateway),
            attached: true,
            net: Arc::new(TaskNet {
                id: crate::TaskId::new(format!("t{task}")).unwrap(),
                hostname: "h".into(),
                names: Vec::new(),
                networks: [0, 1]
                    .into_iter()
                    .filter(|n| task & (1 << n) != 0)
                    .map(|n| Attachment {
                        network: NetworkId::new(format!("n{n}")).unwrap(),
                        addr: Ipv4Addr::new(10, 0, n, 50 + *task),
                        aliases: Vec::new(),
                    })
                    .collect(),
                ports: Vec::from_iter(publishes.then(|| PublishedPort {
                    protocol: Protocol::Tcp,
                    published: 8000 + u16::from(*task),
                    target: 80,
                })),
            }),
        })
        .collect();
    desired(&PARAMS(), &view, &locals)
}

/// Breaks a picture as people and power failures do.
fn damage(picture: &mut Picture, seed: u32) {
    let hit = |bit: u32| seed & (1 << bit) != 0;
    if hit(0) {
        picture.host.published = None;
    }
    if hit(1) {
        picture.host.gateway = None;
    }
    if hit(2) {
        picture.host.veths.values_mut().for_each(|to| *to = None);
    }
    if hit(3) {
        picture.host.veths.clear();
    }
    if hit(4) {
        picture.host.veths.insert("clgleftover0000".into(), None);
    }
    for network in picture.networks.values_mut() {
        if hit(5) {
            network.vxlan = None;
            network.fdb.clear();
            network.neigh.clear();
        }
        if hit(6) {
            network.bridge = false;
        }
        if hit(7) {
            network
                .ports
                .values_mut()
                .for_each(|joined| *joined = false);
        }
        if hit(8) {
            network.fdb.insert([2; 6], Ipv4Addr::LOCALHOST);
        }
        if hit(9) {
            network.neigh.clear();
        }
        if hit(10) {
            network.ports.clear();
        }
        if let Some((vxlan, joined)) = &mut network.vxlan {
            *joined &= !hit(11);
            vxlan.mtu -= u32::from(hit(12));
        }
    }
    for task in picture.tasks.values_mut() {
        if hit(13) {
            task.vips = None;
        }
        if hit(14) {
            task.gateway = None;
        }
        if hit(15) {
            task.links.clear();
        }
        if hit(16) {
            task.links.values_mut().for_each(|link| link.addr = None);
        }
        if hit(17) {
            task.links.values_mut().for_each(|link| link.mac = [0; 6]);
        }
    }
}

proptest! {
    #[test]
    fn performing_the_difference_gets_there(
        from in world(), to in world(), seed in any::<u32>()
    ) {
        let wanted = picture_of(&to);
        let mut actual = picture_of(&from);
        damage(&mut actual, seed);
        for op in diff(&wanted, &actual) {
            apply(&op, &mut actual);
        }
        prop_assert_eq!(&actual, &wanted);
        prop_assert_eq!(diff(&wanted, &actual), []);
    }

    #[test]
    fn what_was_inherited_is_not_removed(from in world(), to in world()) {
        let inherited = picture_of(&from);
        let mut wanted = picture_of(&to);
        tolerate(&mut wanted, &inherited);
        for op in diff(&wanted, &inherited) {
            let removes = matches!(
                op,
                Op::DeleteVeth(_) | Op::DropTask(_) | Op::DropNetwork(_)
                    | Op::Network(_, NetOp::DeletePort(_))
            );
            prop_assert!(!removes, "{op:?}");
        }
    }

    #[test]
    fn a_task_more_elsewhere_costs_two_entries_and_one_chain(world in world()) {
        let mut grown = world.clone();
        grown.networks[0].retain(|(last, ..)| *last != 8);
        let before = picture_of(&grown);
        grown.networks[0].push((8, 2, true));
        for op in diff(&picture_of(&grown), &before) {
            let small = match &op {
                Op::Network(_, NetOp::SetFdb(..) | NetOp::SetNeigh(..)) => true,
                Op::Task(_, TaskOp::Vips(change)) => change.set.len() == 1 && !change.reset,
                _ => false,
            };
            prop_assert!(small, "{op:?}");
        }
    }
}
