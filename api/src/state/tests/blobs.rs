//! Secrets and configs: one owner a name, kept as long as anything uses them.

use super::*;

/// A secret `a` of nobody's, `s_b` of stack `s` in two versions, and a service that uses the first version.
fn base() -> State {
    let spec = with_blobs(spec("web", "x", &[]), &[1, 2]);
    let mut task = task(1, 1, CURRENT);
    task.status.state = TaskState::Running;
    state(vec![
        vec![
            Op::CreateBlob(Box::new(blob(1, "a", None, 0))),
            Op::CreateBlob(Box::new(blob(2, "s_b", Some("s"), 1))),
            Op::CreateBlob(Box::new(blob(3, "s_b", Some("s"), 2))),
        ],
        vec![Op::CreateService(Box::new(service(
            1,
            spec,
            BTreeMap::new(),
        )))],
        vec![Op::CreateTask(Box::new(task))],
    ])
}

fn apply(state: &mut State, op: Op) -> Result<(), (ErrorKind, String)> {
    let revision = state.revision() + 1;
    let transaction = resolve(state, revision, vec![op]);
    match state.apply(revision, transaction) {
        Ok(_) => Ok(()),
        Err(error) => Err((error.kind, error.message)),
    }
}

fn with(change: impl FnOnce(&mut Blob)) -> Op {
    let mut new = blob(9, "new", None, 0);
    change(&mut new);
    Op::CreateBlob(Box::new(new))
}

#[test]
fn each_refusal_names_the_object_and_the_rule() {
    let cases = [
        (
            with(|b| b.spec.name = "a".into()),
            ErrorKind::Taken,
            "secret a is there already",
        ),
        (
            with(|b| b.spec.name = "s_b".into()),
            ErrorKind::Taken,
            "secret s_b is there already, of stack s",
        ),
        (
            with(|b| {
                (b.spec.name, b.spec.stack, b.version) = ("s_b".into(), Some("s".into()), 2);
            }),
            ErrorKind::Taken,
            "secret s_b is there already, of stack s",
        ),
        (
            with(|b| {
                (b.spec.name, b.spec.stack, b.version) = ("a".into(), Some("s".into()), 1);
            }),
            ErrorKind::Taken,
            "secret a is there already",
        ),
        (
            with(|b| b.version = 1),
            ErrorKind::Invalid,
            "secret new: a stack's has a version from 1, another has none",
        ),
        (
            with(|b| b.spec.data = vec![0; 512_001].into()),
            ErrorKind::Invalid,
            "secret new: its content has 512001 bytes, a secret may have 512000",
        ),
        (
            Op::RemoveBlob(BlobId(1)),
            ErrorKind::InUse,
            "secret a is used by web; take it out of these first",
        ),
        (
            Op::UpdateBlob {
                id: BlobId(1),
                labels: Labels::new(),
                at_revision: 0,
            },
            ErrorKind::Conflict,
            "secret a has changed since it was read (revision 0, now 1)",
        ),
        (
            Op::CreateService(Box::new(service(
                2,
                with_blobs(spec("db", "x", &[]), &[7]),
                BTreeMap::new(),
            ))),
            ErrorKind::NotFound,
            "secret b7 is not there (any more)",
        ),
    ];
    for (op, kind, text) in cases {
        let mut state = base();
        let before = contents(&state);
        assert_eq!(apply(&mut state, op), Err((kind, text.to_owned())));
        assert_eq!(contents(&state), before);
    }
}

#[test]
fn a_secret_and_a_config_may_have_one_name() {
    let mut state = base();
    let config = with(|b| (b.spec.kind, b.spec.name) = (BlobKind::Config, "a".into()));
    apply(&mut state, config).expect("a config is no secret");
    let found = state.find_blob(BlobKind::Secret, "a");
    assert!(matches!(found, Lookup::Found(b) if b.id == BlobId(1)));
}

/// As its service has moved on to the next version, one that still runs with the first keeps that.
#[test]
fn a_version_is_kept_until_the_last_task_that_uses_it_has_ended() {
    let mut state = base();
    let update = Op::UpdateService {
        id: ServiceId(1),
        spec: Box::new(with_blobs(spec("web", "x", &[]), &[1, 3])),
        vips: BTreeMap::new(),
        at_revision: CURRENT,
    };
    apply(&mut state, update).expect("an update");
    let held = "secret s_b is still used by 1 task(s) that have not ended; try again in a moment";
    let remove = |state: &mut State| apply(state, Op::RemoveBlob(BlobId(2)));
    assert_eq!(remove(&mut state), Err((ErrorKind::InUse, held.into())));
    let status = TaskStatus {
        state: TaskState::Shutdown,
        ..TaskStatus::default()
    };
    let id = TaskId(1);
    apply(&mut state, Op::SetTaskStatus { id, status }).expect("it ends");
    remove(&mut state).expect("nobody uses it");
    // Its record is kept as history, and its version can't be run again.
    let mut again = task(2, 1, state.tasks()[&id].template_revision);
    again.slot = 2;
    let refused = apply(&mut state, Op::CreateTask(Box::new(again)));
    assert_eq!(refused.map_err(|(kind, _)| kind), Err(ErrorKind::NotFound));
}

#[test]
fn another_secret_is_another_version_of_the_template() {
    let mut state = base();
    let version = |state: &State| state.services()[&ServiceId(1)].template_revision;
    let before = version(&state);
    let update = |blobs: &[u128]| Op::UpdateService {
        id: ServiceId(1),
        spec: Box::new(with_blobs(spec("web", "x", &[]), blobs)),
        vips: BTreeMap::new(),
        at_revision: CURRENT,
    };
    apply(&mut state, update(&[1, 2])).expect("the same");
    assert_eq!(version(&state), before);
    apply(&mut state, update(&[1, 3])).expect("another");
    assert!(version(&state) > before);
}
