//! Deploys at the same time: what comes out is what one after the other would have left.

mod common;

use api::model::{ClusterSpec, ServiceMode, StackService, StackSpec};
use api::proto::*;
use common::Boss;
use std::collections::BTreeMap;
use tokio::task::JoinSet;

/// A stack of one service, on the stack's own network or on none.
fn stack(name: &str, service: &str, with_network: bool) -> DeployStackRequest {
    let full = format!("{name}_{service}");
    let mut spec = api::model::ServiceSpec {
        name: full.clone(),
        stack: Some(name.into()),
        mode: ServiceMode::Replicated { replicas: 0 },
        ..Default::default()
    };
    spec.template.container.image = "busybox".into();
    let own = format!("{name}_own");
    let (mut networks, mut on) = (BTreeMap::new(), BTreeMap::new());
    if with_network {
        let network = api::model::NetworkSpec {
            name: own.clone(),
            stack: Some(name.into()),
            ..Default::default()
        };
        networks.insert(own.clone(), network);
        on.insert(own, vec![service.to_owned()]);
    }
    let service = StackService {
        spec,
        networks: on,
        ..Default::default()
    };
    let spec = StackSpec {
        name: name.into(),
        services: BTreeMap::from([(full, service)]),
        networks,
        ..Default::default()
    };
    DeployStackRequest {
        spec: Some((&spec).into()),
    }
}

async fn services(boss: &Boss, stack: &str) -> Vec<String> {
    let request = ListServicesRequest {
        stack: Some(stack.into()),
        ..Default::default()
    };
    let reply = boss.control().list_services(request).await.unwrap();
    let rows = reply.into_inner().services.into_iter();
    rows.filter_map(|row| Some(row.service?.spec?.name))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_files_for_one_stack_one_is_left_whole() {
    let (mut boss, _) = Boss::found(ClusterSpec::default()).await;
    for round in 0..20 {
        let name = format!("s{round}");
        let mut both = JoinSet::new();
        for service in ["a", "b"] {
            let (mut control, request) = (boss.control(), stack(&name, service, false));
            both.spawn(async move { control.deploy_stack(request).await });
        }
        while let Some(done) = both.join_next().await {
            done.unwrap().unwrap();
        }
        let left = services(&boss, &name).await;
        assert_eq!(left.len(), 1, "round {round}: {left:?}");
    }
    boss.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn deploys_that_choose_addresses_at_once_all_get_their_own() {
    let (mut boss, _) = Boss::found(ClusterSpec::default()).await;
    let mut all = JoinSet::new();
    for number in 0..40 {
        let (mut control, name) = (boss.control(), format!("s{number}"));
        all.spawn(async move { control.deploy_stack(stack(&name, "a", true)).await });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap().unwrap();
    }
    let request = ListNetworksRequest::default();
    let reply = boss.control().list_networks(request).await.unwrap();
    let rows = reply.into_inner().networks;
    let subnets: std::collections::BTreeSet<_> = rows
        .into_iter()
        .filter_map(|row| Some(row.network?.subnet))
        .collect();
    assert_eq!(subnets.len(), 40);
    boss.kill().await;
}
