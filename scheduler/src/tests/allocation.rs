use super::world::{World, attached};
use crate::allocate;
use api::model::*;
use api::state::Op;
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

fn spec(subnet: Option<&str>) -> NetworkSpec {
    NetworkSpec {
        name: "a".into(),
        subnet: subnet.map(|s| s.parse().unwrap()),
        ..NetworkSpec::default()
    }
}

fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
    texts.iter().map(|t| t.parse().unwrap()).collect()
}

#[test]
fn a_network_gets_the_lowest_subnet_that_overlaps_nothing() {
    let mut world = World::new();
    let choose = |world: &World, routes: &[&str]| {
        allocate::network(&world.state, &spec(None), &nets(routes))
            .map(|(vni, net)| (vni, net.to_string()))
    };
    assert_eq!(choose(&world, &[]), Ok((4096, "10.0.0.0/20".into())));
    assert_eq!(
        choose(&world, &["10.0.0.0/20"]),
        Ok((4096, "10.0.16.0/20".into()))
    );
    // One address in it is enough; a wide route takes all that is in it; routes may lie within one another.
    assert_eq!(
        choose(&world, &["10.0.15.255/32", "10.0.16.0/21"]),
        Ok((4096, "10.0.32.0/20".into()))
    );
    assert_eq!(
        choose(&world, &["10.0.0.0/12", "10.0.1.0/24"]),
        Ok((4096, "10.16.0.0/20".into()))
    );
    world.network(1, "10.0.0.0/24");
    world.network(2, "10.0.32.0/20");
    assert_eq!(choose(&world, &[]), Ok((4096, "10.0.16.0/20".into())));
    assert_eq!(
        choose(&world, &["10.0.16.0/28"]),
        Ok((4096, "10.0.48.0/20".into()))
    );
}

#[test]
fn a_used_up_pool_says_so() {
    let mut world = World::new();
    world.settings(|s| {
        s.address_pool = "10.9.0.0/23".parse().unwrap();
        s.subnet_prefix = 24;
    });
    world.network(1, "10.9.0.0/24");
    world.network(2, "10.9.1.0/24");
    let refused = allocate::network(&world.state, &spec(None), &[])
        .unwrap_err()
        .to_string();
    assert_eq!(
        refused,
        "network a: the address pool 10.9.0.0/23 has no free /24 left (2 networks); give a --subnet, or remove \
         networks that nothing uses"
    );
    let whole = allocate::network(&World::new().state, &spec(None), &nets(&["0.0.0.0/0"]));
    assert!(whole.unwrap_err().to_string().contains("has no free /20"));
}

#[test]
fn the_last_subnet_of_all_is_given_and_nothing_behind_it() {
    let mut world = World::new();
    world.settings(|s| {
        s.address_pool = "255.255.255.0/24".parse().unwrap();
        s.subnet_prefix = 25;
    });
    let choose =
        |routes: &[&str]| allocate::network(&world.state, &spec(None), &nets(routes)).map(|n| n.1);
    assert_eq!(
        choose(&["255.255.255.1/32"]),
        Ok("255.255.255.128/25".parse().unwrap())
    );
    assert!(choose(&["255.255.255.1/32", "255.255.255.255/32"]).is_err());
}

#[test]
fn settings_that_leave_no_room_are_refused() {
    for prefix in [7, 30, 33] {
        let mut world = World::new();
        world.settings(|s| s.subnet_prefix = prefix);
        let refused = allocate::network(&world.state, &spec(None), &[])
            .unwrap_err()
            .to_string();
        assert!(refused.contains("between /8 and /29"), "{refused}");
    }
}

#[test]
fn a_wished_subnet_is_checked_against_the_same() {
    let mut world = World::new();
    world.network(1, "10.0.16.0/24");
    let wish = |subnet, routes: &[&str]| {
        allocate::network(&world.state, &spec(Some(subnet)), &nets(routes))
            .map(|(_, net)| net.to_string())
            .map_err(|refusal| refusal.to_string())
    };
    assert_eq!(
        wish("172.20.0.0/16", &["10.0.0.0/8"]),
        Ok("172.20.0.0/16".into())
    );
    let end = "; give another or none";
    let overlap = "network a: the subnet 10.0.16.0/22 overlaps 10.0.16.0/24 of network net1";
    assert_eq!(wish("10.0.16.0/22", &[]), Err(format!("{overlap}{end}")));
    let route = "network a: the subnet 10.7.0.0/16 overlaps 10.7.7.0/24, which nodes use already";
    assert_eq!(
        wish("10.7.0.0/16", &["10.7.7.0/24"]),
        Err(format!("{route}{end}"))
    );
    let small = "network a: the subnet 10.8.0.0/30 is too small; give a /29 or larger";
    assert_eq!(wish("10.8.0.0/30", &[]), Err(small.into()));
}

#[test]
fn vnis_go_up_from_4096_and_free_ones_are_given_again() {
    let mut world = World::new();
    for n in 0..3u8 {
        let (vni, subnet) = allocate::network(&world.state, &spec(None), &[]).unwrap();
        assert_eq!(vni, 4096 + u32::from(n));
        let name = format!("made{n}");
        let network = Network {
            id: NetworkId(u128::from(n)),
            meta: Meta::default(),
            spec: NetworkSpec { name, ..spec(None) },
            vni,
            subnet,
        };
        world.apply(vec![Op::CreateNetwork(Box::new(network))]);
    }
    world.apply(vec![Op::RemoveNetwork(NetworkId(1))]);
    assert_eq!(
        allocate::network(&world.state, &spec(None), &[]).unwrap().0,
        4097
    );
}

fn addr_of(task: &Task) -> u8 {
    task.addresses[0].addr.octets()[3]
}

#[test]
fn the_gateway_the_network_and_the_broadcast_address_are_never_given() {
    let mut world = World::of(1);
    let network = world.network(1, "10.1.0.0/28");
    let service = world.service(1, 20, |spec| spec.template.networks = attached(network));
    world.settle();
    let mut given: Vec<_> = world
        .live(service)
        .iter()
        .filter(|t| t.node.is_some())
        .map(addr_of)
        .collect();
    given.sort_unstable();
    assert_eq!(given, (2..=14).collect::<Vec<_>>());
}

#[test]
fn an_address_comes_again_as_late_as_it_can() {
    let mut world = World::of(1);
    let network = world.network(1, "10.1.0.0/28");
    let service = world.service(1, 1, |spec| spec.template.networks = attached(network));
    let mut given = Vec::new();
    for _ in 0..26 {
        world.settle();
        let task = world.slot(service, 1);
        given.push(addr_of(&task));
        world.now = world.now.plus_ms(20_000);
        world.report(task.id, TaskState::Failed);
    }
    // Round and round.
    assert_eq!(given[..13], (2..=14).collect::<Vec<_>>());
    assert_eq!(given[13..], given[..13]);
}

#[test]
fn an_address_of_the_history_is_given_only_when_there_is_no_other() {
    let mut world = World::of(1);
    let network = world.network(1, "10.1.0.0/29");
    let service = world.service(1, 1, |spec| spec.template.networks = attached(network));
    world.settle();
    let first = world.slot(service, 1);
    assert_eq!(addr_of(&first), 2);
    world.now = world.now.plus_ms(1_000);
    world.scale(service, 4);
    world.settle();
    world.report(first.id, TaskState::Failed);
    world.settle();
    assert_eq!(addr_of(&world.slot(service, 1)), 6);
    // 2 is all that is left.
    world.scale(service, 5);
    world.settle();
    assert_eq!(addr_of(&world.slot(service, 5)), 2);
}

#[test]
fn an_address_of_the_history_is_passed_over_on_the_way_round() {
    let mut world = World::of(1);
    let network = world.network(1, "10.1.0.0/29");
    let service = world.service(1, 4, |spec| {
        spec.template.networks = attached(network);
        spec.template.restart.delay_ms = Some(1_000);
    });
    world.settle();
    let (first, fourth) = (world.slot(service, 1), world.slot(service, 4));
    assert_eq!((addr_of(&first), addr_of(&fourth)), (2, 5));
    world.report(first.id, TaskState::Failed);
    world.settle();
    assert_eq!(addr_of(&world.slot(service, 1)), 6);
    world.report(fourth.id, TaskState::Failed);
    world.scale(service, 3);
    world.settle();
    // Nobody holds 2, but the history knows it; nobody knows 5.
    world.scale(service, 4);
    world.settle();
    assert_eq!(addr_of(&world.slot(service, 4)), 5);
}

#[test]
fn a_task_has_one_address_on_each_of_its_networks_or_none() {
    let mut world = World::of(1);
    let (wide, narrow) = (
        world.network(1, "10.1.0.0/24"),
        world.network(2, "10.2.0.0/29"),
    );
    let service = world.service(1, 7, |spec| {
        spec.template.networks = [narrow, wide, narrow]
            .iter()
            .flat_map(|n| attached(*n))
            .collect();
    });
    world.settle();
    let placed: Vec<_> = world
        .live(service)
        .into_iter()
        .filter(|t| t.node.is_some())
        .collect();
    assert_eq!(placed.len(), 5);
    for task in &placed {
        let on: Vec<_> = task.addresses.iter().map(|a| a.network).collect();
        assert_eq!(on, [narrow, wide]);
    }
    assert_eq!(
        world.state.addresses(wide).unwrap().len(),
        5,
        "none is lost to those that wait"
    );
    assert_eq!(
        world.slot(service, 6).status.message,
        "network net2 has no free address (of 5)"
    );
}

#[test]
fn a_service_keeps_its_virtual_addresses() {
    let mut world = World::of(1);
    let (one, two) = (
        world.network(1, "10.1.0.0/29"),
        world.network(2, "10.2.0.0/29"),
    );
    let spec = ServiceSpec {
        name: "web".into(),
        template: TaskTemplate {
            networks: [one, two].iter().flat_map(|n| attached(*n)).collect(),
            ..TaskTemplate::default()
        },
        ..ServiceSpec::default()
    };
    let vips = |world: &World, spec: &ServiceSpec, old: &BTreeMap<NetworkId, Ipv4Addr>| {
        allocate::vips(&world.state, spec, old).map_err(|refusal| refusal.to_string())
    };
    let none = BTreeMap::new();
    let first = vips(&world, &spec, &none).unwrap();
    assert_eq!(
        first,
        [(one, [10, 1, 0, 2].into()), (two, [10, 2, 0, 2].into())].into()
    );
    let service = Service {
        id: ServiceId(1),
        meta: Meta::default(),
        spec: spec.clone(),
        template_revision: 0,
        vips: first.clone(),
    };
    world.apply(vec![Op::CreateService(Box::new(service))]);
    assert_eq!(vips(&world, &spec, &first).unwrap(), first);
    let mut fewer = spec.clone();
    fewer.template.networks.pop();
    assert_eq!(
        vips(&world, &fewer, &first)
            .unwrap()
            .into_keys()
            .collect::<Vec<_>>(),
        [one]
    );
    let round_robin = ServiceSpec {
        endpoint_mode: EndpointMode::DnsRr,
        ..spec.clone()
    };
    assert_eq!(vips(&world, &round_robin, &first), Ok(none.clone()));
    // The next service goes on behind it, and behind its tasks.
    world.settle();
    assert_eq!(
        vips(&world, &fewer, &none).unwrap(),
        [(one, [10, 1, 0, 4].into())].into()
    );
    world.scale(ServiceId(1), 4);
    world.settle();
    assert_eq!(
        vips(&world, &spec, &none),
        Err("service web: network net1 has no free address (of 5)".into())
    );
}
