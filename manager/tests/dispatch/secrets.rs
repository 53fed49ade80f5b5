//! Secrets, and which agents are told of them.

use super::*;

/// A stack of one service on one node, which sees this external secret, if any.
fn pinned(name: &str, node: &str, secret: Option<&str>) -> DeployStackRequest {
    let full = format!("{name}_web");
    let mut spec = api::model::ServiceSpec {
        name: full.clone(),
        stack: Some(name.into()),
        ..Default::default()
    };
    spec.template.container.image = "busybox".into();
    let constraint = format!("node.hostname=={node}");
    spec.template.placement.constraints = vec![constraint.parse().unwrap()];
    let key = secret.map(|name| api::model::BlobKey {
        kind: api::model::BlobKind::Secret,
        name: name.into(),
    });
    let file = |source: &api::model::BlobKey| api::model::BlobFile {
        source: source.clone(),
        target: "/run/secrets/key".into(),
        uid: 0,
        gid: 0,
        mode: 0o444,
    };
    let service = api::model::StackService {
        spec,
        blobs: key.iter().map(file).collect(),
        ..Default::default()
    };
    let stack = api::model::StackSpec {
        name: name.into(),
        external_blobs: key.into_iter().collect(),
        services: BTreeMap::from([(full, service)]),
        ..Default::default()
    };
    DeployStackRequest {
        spec: Some((&stack).into()),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_secret_goes_to_the_node_of_its_task_with_the_task_and_leaves_with_it() {
    let (mut boss, founding) = Boss::found(patient()).await;
    let mut agents = Vec::new();
    for name in ["node2", "node3"] {
        let hand = Hand::join(&founding.tokens.worker, &boss.addr, name, None).await;
        let (agent, _) = Agent::open(&hand, &boss).await.unwrap();
        agents.push((hand, agent));
    }
    let [(hand, mut user), (_other_hand, mut other)] = <[_; 2]>::try_from(agents).ok().unwrap();
    let mut control = boss.control();
    let spec = BlobSpec {
        kind: BlobKind::Secret.into(),
        name: "key".into(),
        data: Some(BlobData {
            value: "hunter2".into(),
        }),
        ..BlobSpec::default()
    };
    let create = CreateBlobRequest { spec: Some(spec) };
    let made = control
        .create_blob(create.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(made.size, 7);
    let twice = control.create_blob(create).await.unwrap_err();
    assert_eq!(twice.code(), Code::AlreadyExists, "{twice}");

    control
        .deploy_stack(pinned("with", "node2", Some("key")))
        .await
        .unwrap();
    control
        .deploy_stack(pinned("without", "node3", None))
        .await
        .unwrap();
    user.until("its task", |agent| !agent.tasks.is_empty())
        .await;
    let known = |agent: &Agent| agent.blobs.values().cloned().collect::<Vec<_>>();
    assert_eq!(known(&user), ["hunter2"], "it did not come with its task");
    other
        .until("its task", |agent| !agent.tasks.is_empty())
        .await;
    assert_eq!(known(&other), [""; 0]);

    // A new session is told again; who asks to remove it is told who uses it.
    drop(user);
    let (mut user, _) = Agent::open(&hand, &boss).await.unwrap();
    assert_eq!(known(&user), ["hunter2"]);
    let remove = RemoveBlobRequest {
        kind: BlobKind::Secret.into(),
        name: "key".into(),
    };
    let used = control.remove_blob(remove.clone()).await.unwrap_err();
    assert_eq!(used.code(), Code::FailedPrecondition);
    assert!(used.message().contains("used by with_web"), "{used}");

    let stack = "with".to_owned();
    control
        .remove_stack(RemoveStackRequest { stack })
        .await
        .unwrap();
    let tasks: Vec<Bytes> = user.tasks.keys().cloned().collect();
    user.report(&tasks, TaskState::Shutdown).await;
    user.until("it is forgotten", |agent| agent.tasks.is_empty())
        .await;
    assert_eq!(known(&user), [""; 0]);
    control.remove_blob(remove).await.unwrap();
    boss.kill().await;
}
