use super::*;
use crate::{Attachment, Endpoint, Service, ServiceId, TaskId};
use proptest::prelude::*;

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, last)
}

fn service(names: &[&str], stack: &str, vip: Option<u8>) -> Service {
    Service {
        names: names.iter().map(ToString::to_string).collect(),
        stack: Some(stack.into()),
        vip: vip.map(ip),
    }
}

fn endpoint(last: u8, service: &str, ready: bool) -> (TaskId, Endpoint) {
    let id = TaskId::new(format!("id{last}")).unwrap();
    let endpoint = Endpoint {
        addr: ip(last),
        node: Ipv4Addr::LOCALHOST,
        service: Some(ServiceId::new(service).unwrap()),
        names: vec![
            format!("{service}.{last}"),
            format!("{service}.{last}.{id}"),
        ],
        aliases: vec![format!("alias{last}")],
        ready,
    };
    (id, endpoint)
}

/// Two stacks with a `redis` each on one network; `shop_web` is round robin.
fn view() -> View {
    let network = Network {
        name: "Demo".into(),
        vni: 1,
        subnet: "10.0.0.0/24".parse().unwrap(),
        endpoints: [
            endpoint(1, "shop_redis", true),
            endpoint(2, "blog_redis", true),
            endpoint(3, "shop_web", true),
            endpoint(4, "shop_web", true),
            endpoint(5, "shop_web", false),
        ]
        .into(),
        services: [
            (
                "shop_redis",
                service(&["shop_redis", "redis"], "shop", Some(101)),
            ),
            (
                "blog_redis",
                service(&["blog_redis", "redis"], "blog", Some(102)),
            ),
            ("shop_web", service(&["shop_web", "web"], "shop", None)),
            ("shop_idle", service(&["shop_idle"], "shop", None)),
        ]
        .map(|(id, service)| (ServiceId::new(id).unwrap(), service))
        .into(),
    };
    View {
        networks: [(NetworkId::new("n1").unwrap(), Arc::new(network))].into(),
    }
}

fn asker(last: u8) -> Asker {
    let task = TaskNet {
        id: TaskId::new(format!("id{last}")).unwrap(),
        hostname: "Box".into(),
        names: vec!["mine.1".into()],
        networks: vec![Attachment {
            network: NetworkId::new("n1").unwrap(),
            addr: ip(last),
            aliases: vec!["me".into()],
        }],
        ports: Vec::new(),
    };
    Asker::new(&task, &view())
}

fn ask(last: u8, name: &str) -> Option<Vec<u8>> {
    match asker(last).forward(&zones(&view(), None), name) {
        Meaning::Addresses(addrs) => Some(addrs.iter().map(|a| a.octets()[3]).collect()),
        Meaning::Pointer(_) | Meaning::Elsewhere => None,
    }
}

#[test]
fn names_mean_what_users_of_swarm_expect() {
    let table: &[(u8, &str, Option<&[u8]>)] = &[
        (3, "shop_redis", Some(&[101])),
        (3, "SHOP_Redis.", Some(&[101])),
        (3, "shop_redis.demo", Some(&[101])),
        (3, "shop_redis.DEMO.", Some(&[101])),
        (3, "tasks.shop_redis", Some(&[1])),
        (3, "web", Some(&[3, 4])),
        (3, "tasks.web", Some(&[3, 4])),
        (3, "tasks.web.demo", Some(&[3, 4])),
        (3, "shop_redis.1", Some(&[1])),
        (3, "shop_redis.1.id1", Some(&[1])),
        (3, "alias2", Some(&[2])),
        // One name, two stacks: one's own, and for a third both.
        (3, "redis", Some(&[101])),
        (2, "redis", Some(&[102])),
        (9, "redis", Some(&[101, 102])),
        // Not ready: nobody's name but its own.
        (3, "shop_web.5", None),
        (5, "box", Some(&[5])),
        (5, "id5", Some(&[5])),
        (5, "mine.1", Some(&[5])),
        (5, "box.demo", Some(&[5])),
        (5, "me", Some(&[5])),
        // Known, and nothing there.
        (3, "shop_idle", Some(&[])),
        (3, "example.org", None),
        (3, "nobody", None),
        (3, "demo", None),
        (3, "", None),
        (3, ".", None),
    ];
    for (from, name, expected) in table {
        assert_eq!(
            ask(*from, name).as_deref(),
            *expected,
            "{from} asks {name:?}"
        );
    }
}

#[test]
fn addresses_have_names() {
    let zones = zones(&view(), None);
    let name = |last| asker(3).reverse(&zones, ip(last));
    assert_eq!(name(1), Meaning::Pointer("shop_redis.1.Demo".into()));
    assert_eq!(name(101), Meaning::Pointer("shop_redis.Demo".into()));
    assert_eq!(name(77), Meaning::Elsewhere);
    assert_eq!(
        reverse_name("4.3.2.1.IN-ADDR.arpa."),
        Some(Ipv4Addr::new(1, 2, 3, 4))
    );
    assert_eq!(reverse_name("3.2.1.in-addr.arpa"), None);
}

#[test]
fn an_unchanged_network_keeps_its_zone() {
    let view = view();
    let first = zones(&view, None);
    let again = zones(&view, Some((&view, &first)));
    let id = NetworkId::new("n1").unwrap();
    assert!(Arc::ptr_eq(&first[&id], &again[&id]));
}

proptest! {
    #[test]
    fn no_name_is_too_strange(name in ".{0,80}") {
        let _ = ask(3, &name);
        let _ = reverse_name(&name);
    }
}
