//! Versions of templates are kept as long as somebody needs them, and no longer.

use super::*;
use std::collections::BTreeSet;

proptest! {
    #[test]
    fn templates_do_not_leak(history in history()) {
        play(history, |_, state, _| {
            let current = state.services().values().map(|s| (s.id, s.template_revision));
            let run = state.tasks().values().map(|t| (t.service, t.template_revision));
            let needed: BTreeSet<_> = current.chain(run).collect();
            assert_eq!(state.templates.keys().copied().collect::<BTreeSet<_>>(), needed);
            for service in state.services().values() {
                let key = (service.id, service.template_revision);
                assert_eq!(*state.templates[&key], service.spec.template);
            }
        });
    }
}

#[test]
fn a_task_keeps_its_version_when_the_service_moves_on() {
    let update = |image: &str| Op::UpdateService {
        id: ServiceId(1),
        spec: Box::new(spec("a", image, &[])),
        vips: BTreeMap::new(),
        at_revision: CURRENT,
    };
    let mut state = state(vec![
        vec![Op::CreateService(Box::new(service(
            1,
            spec("a", "one", &[]),
            BTreeMap::new(),
        )))],
        vec![Op::CreateTask(Box::new(task(1, 1, CURRENT)))],
        vec![update("two")],
        vec![update("two")],
        vec![update("three")],
    ]);
    let image = |state: &State, revision| {
        state
            .templates
            .get(&(ServiceId(1), revision))
            .map(|t| t.container.image.clone())
    };
    assert_eq!(
        state
            .template(&state.tasks()[&TaskId(1)])
            .map(|t| t.container.image.as_str()),
        Some("one")
    );
    assert_eq!(state.templates.len(), 2, "nobody runs the second");
    assert_eq!(image(&state, 5).as_deref(), Some("three"));
    let ops = vec![Op::RemoveTask(TaskId(1))];
    state
        .apply(
            6,
            Transaction {
                at: Timestamp(6),
                ops,
            },
        )
        .expect("it never had a node");
    assert_eq!(state.templates.len(), 1);
}
