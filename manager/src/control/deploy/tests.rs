use super::*;
use crate::testing::{self, apply, cluster_state};
use api::model::{Labels, ServiceMode};
use tonic::Code;

fn service(stack: &str, name: &str, networks: &[&str]) -> (String, StackService) {
    let full = format!("{stack}_{name}");
    let mut spec = testing::service(1, &full).spec;
    spec.stack = Some(stack.into());
    let networks = networks
        .iter()
        .map(|n| ((*n).to_owned(), vec![name.to_owned()]))
        .collect();
    let service = StackService {
        spec,
        networks,
        blobs: vec![],
    };
    (full, service)
}

fn file() -> StackSpec {
    let name = "shop_back".to_owned();
    let own = NetworkSpec {
        name: name.clone(),
        stack: Some("shop".into()),
        ..NetworkSpec::default()
    };
    StackSpec {
        name: "shop".into(),
        networks: BTreeMap::from([(name, own)]),
        external_networks: vec!["demo".into()],
        volumes: BTreeMap::from([("shop_data".to_owned(), Labels::new())]),
        services: BTreeMap::from([
            service("shop", "redis", &["demo", "shop_back"]),
            service("shop", "web", &["demo"]),
        ]),
        ..StackSpec::default()
    }
}

fn ids() -> impl FnMut() -> u128 {
    let mut next = 1000;
    move || {
        next += 1;
        next
    }
}

fn with_demo() -> State {
    let mut state = cluster_state();
    let spec = NetworkSpec {
        name: "demo".into(),
        ..NetworkSpec::default()
    };
    let network = networks::allocated(&state, NetworkId(1), &spec).unwrap();
    apply(&mut state, vec![Op::CreateNetwork(Box::new(network))]);
    state
}

fn deploy(state: &mut State, spec: &StackSpec, ids: impl FnMut() -> u128) -> DeployStackReply {
    let (ops, reply) = plan(state, spec, Timestamp(5), ids).unwrap();
    if !ops.is_empty() {
        apply(state, ops);
    }
    reply
}

#[test]
fn a_stack_is_made_whole_and_an_unchanged_file_changes_nothing() {
    let mut state = with_demo();
    let reply = deploy(&mut state, &file(), ids());
    assert_eq!(
        reply.created,
        [
            "network shop_back",
            "service shop_redis",
            "service shop_web"
        ]
    );
    let redis = state.service_by_name("shop_redis").unwrap();
    assert_eq!(redis.vips.len(), 2);
    assert_eq!(state.stacks()["shop"].volumes, ["shop_data"]);

    let (ops, reply) = plan(&state, &file(), Timestamp(6), ids()).unwrap();
    assert_eq!(ops, []);
    assert_eq!(
        reply.unchanged,
        [
            "network shop_back",
            "service shop_redis",
            "service shop_web"
        ]
    );
}

#[test]
fn only_what_changed_is_updated_and_what_left_the_file_is_removed() {
    let mut state = with_demo();
    deploy(&mut state, &file(), ids());
    let vips = state.service_by_name("shop_redis").unwrap().vips.clone();
    let mut changed = file();
    changed.services.remove("shop_web");
    changed.services.get_mut("shop_redis").unwrap().spec.mode =
        ServiceMode::Replicated { replicas: 3 };
    let reply = deploy(&mut state, &changed, ids());
    assert_eq!(reply.updated, ["service shop_redis"]);
    assert_eq!(reply.removed, ["service shop_web"]);
    assert_eq!(reply.unchanged, ["network shop_back"]);
    assert_eq!(
        state.service_by_name("shop_redis").unwrap().vips,
        vips,
        "addresses moved"
    );
    assert!(state.service_by_name("shop_web").is_none());
}

#[test]
fn a_missing_external_network_is_told_with_its_cure_and_nothing_is_made() {
    let refusal = plan(&cluster_state(), &file(), Timestamp(5), ids()).unwrap_err();
    assert_eq!(refusal.code, Code::FailedPrecondition);
    assert_eq!(
        refusal.text,
        "network demo is external and is not there: make it with `clusterctl network create -d overlay demo`"
    );
}

#[test]
fn two_new_networks_get_two_subnets() {
    let mut state = with_demo();
    let mut spec = file();
    let other = NetworkSpec {
        name: "shop_front".into(),
        stack: Some("shop".into()),
        ..NetworkSpec::default()
    };
    spec.networks.insert("shop_front".into(), other);
    spec.services
        .get_mut("shop_web")
        .unwrap()
        .networks
        .insert("shop_front".into(), vec![]);
    deploy(&mut state, &spec, ids());
    let (back, front) = (
        state.network_by_name("shop_back").unwrap(),
        state.network_by_name("shop_front").unwrap(),
    );
    assert_ne!(back.subnet, front.subnet);
    assert_ne!(back.vni, front.vni);
}

#[test]
fn a_network_that_no_service_uses_is_not_made() {
    let mut state = with_demo();
    let mut spec = file();
    spec.services.remove("shop_redis");
    deploy(&mut state, &spec, ids());
    assert!(state.network_by_name("shop_back").is_none());
}

#[test]
fn what_belongs_to_others_is_left_alone_and_all_problems_are_told() {
    let mut state = with_demo();
    deploy(&mut state, &file(), ids());
    let mut foreign = testing::service(77, "shop_db").spec;
    foreign.stack = None;
    let meta = api::model::Meta::default();
    let service = Service {
        id: ServiceId(77),
        meta,
        spec: foreign,
        template_revision: 0,
        vips: BTreeMap::new(),
    };
    apply(&mut state, vec![Op::CreateService(Box::new(service))]);

    let mut spec = file();
    spec.networks.get_mut("shop_back").unwrap().internal = true;
    spec.services
        .extend([self::service("shop", "db", &["demo"])]);
    let text = plan(&state, &spec, Timestamp(7), ids()).unwrap_err().text;
    assert!(
        text.contains(
            "network shop_back can't be changed while it is there (internal false to true)"
        ),
        "{text}"
    );
    assert!(
        text.contains("service shop_db is there already and not of a stack"),
        "{text}"
    );
    assert_eq!(text.lines().count(), 2, "{text}");
}

#[test]
fn a_file_that_breaks_rules_is_told_all_of_them() {
    let mut spec = file();
    spec.services
        .get_mut("shop_web")
        .unwrap()
        .spec
        .template
        .container
        .image = String::new();
    spec.services
        .get_mut("shop_redis")
        .unwrap()
        .networks
        .insert("elsewhere".into(), vec![]);
    let refusal = plan(&with_demo(), &spec, Timestamp(7), ids()).unwrap_err();
    assert_eq!(refusal.code, Code::InvalidArgument);
    assert_eq!(refusal.text.lines().count(), 2, "{}", refusal.text);
}
