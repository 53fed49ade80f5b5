use super::super::plan;
use crate::sweep;
use crate::testing::{self, apply, cluster_state, running};
use api::model::{
    Blob, BlobFile, BlobId, BlobKey, BlobKind, BlobSpec, NodeId, ServiceId, StackService,
    StackSpec, TaskId, TaskState, TaskStatus, Timestamp,
};
use api::proto::DeployStackReply;
use api::state::{Op, State};
use tonic::Code;

fn key(name: &str) -> BlobKey {
    let (kind, name) = (BlobKind::Secret, name.into());
    BlobKey { kind, name }
}

/// A stack whose service `web` uses a password with this content and an external key.
fn file(password: &str) -> StackSpec {
    let mut spec = testing::service(1, "shop_web").spec;
    spec.stack = Some("shop".into());
    let see = |name: &str| BlobFile {
        source: key(name),
        target: format!("/run/secrets/{name}"),
        uid: 0,
        gid: 0,
        mode: 0o444,
    };
    let service = StackService {
        spec,
        blobs: vec![see("key"), see("shop_password")],
        ..StackService::default()
    };
    let own = |name: &str| BlobSpec {
        kind: BlobKind::Secret,
        name: name.into(),
        stack: Some("shop".into()),
        labels: [].into(),
        data: password.as_bytes().to_vec().into(),
    };
    StackSpec {
        name: "shop".into(),
        blobs: vec![own("shop_password"), own("shop_unused")],
        external_blobs: vec![key("key")],
        services: [("shop_web".to_owned(), service)].into(),
        ..StackSpec::default()
    }
}

fn with_key() -> State {
    let mut state = cluster_state();
    let key = testing::blob(1, "key");
    let node = testing::node(1, "node1");
    apply(
        &mut state,
        vec![
            Op::CreateBlob(Box::new(key)),
            Op::CreateNode(Box::new(node)),
        ],
    );
    state
}

fn deploy(state: &mut State, spec: &StackSpec) -> DeployStackReply {
    let mut next = u128::from(state.revision()) * 1000;
    let ids = || {
        next += 1;
        next
    };
    let (ops, reply) = plan(state, spec, Timestamp(5), ids).expect("taken");
    if !ops.is_empty() {
        apply(state, ops);
    }
    reply
}

fn refused(state: &State, spec: &StackSpec) -> (Code, String) {
    let refusal = plan(state, spec, Timestamp(5), || 99).expect_err("has to be refused");
    (refusal.code, refusal.text)
}

/// The versions of the password, with their contents.
fn versions(state: &State) -> Vec<(u32, String)> {
    let show = |blob: &std::sync::Arc<Blob>| {
        let content = String::from_utf8_lossy(blob.spec.data.as_bytes()).into_owned();
        (blob.version, content)
    };
    state.blobs_named(&key("shop_password")).map(show).collect()
}

fn service(state: &State) -> (ServiceId, u64, Vec<BlobId>) {
    let service = state.service_by_name("shop_web").expect("a service");
    let blobs = service.spec.template.blobs.iter().map(|r| r.blob).collect();
    (service.id, service.template_revision, blobs)
}

#[test]
fn what_a_stack_uses_is_made_and_an_unchanged_file_changes_nothing() {
    let mut state = with_key();
    let reply = deploy(&mut state, &file("old"));
    assert_eq!(
        reply.created,
        ["secret shop_password", "service shop_web"],
        "what nobody uses is not made"
    );
    let (ops, reply) = plan(&state, &file("old"), Timestamp(6), || 99).expect("taken");
    assert_eq!(ops, []);
    assert_eq!(
        reply.unchanged,
        ["secret shop_password", "service shop_web"]
    );
}

#[test]
fn another_content_is_another_version_and_rolls_the_service() {
    let mut state = with_key();
    deploy(&mut state, &file("old"));
    let (id, before, old) = service(&state);
    running(&mut state, 1, id.0, 1, NodeId(1).0);
    let reply = deploy(&mut state, &file("new"));
    assert_eq!(reply.updated, ["secret shop_password", "service shop_web"]);
    let (_, after, new) = service(&state);
    assert!(after > before);
    assert_eq!((old[0], new[0]), (BlobId(1), BlobId(1)));
    assert_ne!(old[1], new[1]);
    let both = [(1, "old".to_owned()), (2, "new".to_owned())];
    assert_eq!(versions(&state), both);
    // The task that runs keeps what it was started with, so going back finds it.
    assert_eq!(sweep::blobs(&state), []);
    deploy(&mut state, &file("old"));
    assert_eq!(service(&state).2, old);
    deploy(&mut state, &file("new"));
    let status = TaskStatus {
        state: TaskState::Shutdown,
        ..TaskStatus::default()
    };
    let id = TaskId(1);
    apply(&mut state, vec![Op::SetTaskStatus { id, status }]);
    let swept = sweep::blobs(&state);
    apply(&mut state, swept);
    assert_eq!(versions(&state), both[1..]);
    deploy(&mut state, &file("third"));
    assert_eq!(versions(&state)[1], (3, "third".to_owned()));
}

#[test]
fn a_stacks_go_with_it_and_others_stay() {
    let mut state = with_key();
    deploy(&mut state, &file("old"));
    let (id, ..) = service(&state);
    apply(
        &mut state,
        vec![Op::RemoveService(id), Op::RemoveStack("shop".into())],
    );
    let swept = sweep::blobs(&state);
    assert_eq!(swept.len(), 1);
    apply(&mut state, swept);
    assert_eq!(sweep::blobs(&state), []);
    let left: Vec<_> = state.blobs().values().map(|b| &*b.spec.name).collect();
    assert_eq!(left, ["key"]);
}

#[test]
fn changed_labels_roll_nothing() {
    let mut state = with_key();
    deploy(&mut state, &file("old"));
    let before = service(&state);
    let mut spec = file("old");
    spec.blobs[0].labels = [("tier".to_owned(), "db".to_owned())].into();
    let reply = deploy(&mut state, &spec);
    assert_eq!(reply.updated, ["secret shop_password"]);
    assert_eq!(reply.unchanged, ["service shop_web"]);
    assert_eq!(service(&state), before);
}

#[test]
fn each_refusal_names_the_secret_and_the_cure() {
    let empty = cluster_state();
    let missing =
        "secret key is external and is not there: make it with `clusterctl secret create key FILE`";
    assert_eq!(
        refused(&empty, &file("x")),
        (Code::FailedPrecondition, missing.into())
    );

    let mut taken = with_key();
    let other = testing::blob(2, "shop_password");
    apply(&mut taken, vec![Op::CreateBlob(Box::new(other))]);
    let owner = "secret shop_password is there already and not of a stack: declare it `external: true`, or name it otherwise";
    assert_eq!(
        refused(&taken, &file("x")),
        (Code::FailedPrecondition, owner.into())
    );

    let mut large = file("x");
    large.blobs = (0..14)
        .map(|n| BlobSpec {
            name: format!("shop_{n}"),
            data: vec![0; 500 << 10].into(),
            ..large.blobs[0].clone()
        })
        .collect();
    large.services.clear();
    let (code, text) = refused(&with_key(), &large);
    assert_eq!(code, Code::InvalidArgument);
    let parts = [
        "stack shop: secrets and configs have 7168000 bytes together, one deploy may have 6291456",
        "secret shop_0 (512000 bytes)",
    ];
    assert!(parts.iter().all(|part| text.contains(part)), "{text}");

    let mut bad = file("x");
    bad.services.get_mut("shop_web").expect("web").blobs[0].target = "/a/../b".into();
    bad.external_blobs.clear();
    let (_, text) = refused(&with_key(), &bad);
    assert_eq!(
        text,
        "service shop_web: secret key is not one of the stack's\n\
         service shop_web: secret key: target \"/a/../b\" is no absolute path below /"
    );
}
