//! What a task refers to is there.

use super::*;

proptest! {
    #[test]
    fn what_a_task_refers_to_is_there(history in history()) {
        play(history, |_, state, _| {
            for service in state.services().values() {
                for attachment in &service.spec.template.networks {
                    assert!(state.networks().contains_key(&attachment.network), "{service:?}");
                }
                for reference in &service.spec.template.blobs {
                    assert!(state.blobs().contains_key(&reference.blob), "{service:?}");
                }
                for (network, addr) in &service.vips {
                    assert!(state.networks()[network].subnet.contains(addr), "{service:?}");
                }
            }
            for task in state.tasks().values() {
                let template = state.template(task).unwrap_or_else(|| panic!("{task:?} has no template"));
                if task.status.state.is_ended() {
                    continue;
                }
                assert!(task.node.is_none_or(|node| state.nodes().contains_key(&node)), "{task:?}");
                for reference in &template.blobs {
                    assert!(state.blobs().contains_key(&reference.blob), "{task:?} {template:?}");
                }
                for held in &task.addresses {
                    assert!(state.networks()[&held.network].subnet.contains(&held.addr), "{task:?}");
                }
                if task.desired <= TaskState::Running && task.node.is_none() {
                    for attachment in &template.networks {
                        assert!(state.networks().contains_key(&attachment.network), "{task:?} {template:?}");
                    }
                }
                // Without its service it is on its way out.
                assert!(state.services().contains_key(&task.service) || task.desired == TaskState::Remove || task.desired == TaskState::Orphaned, "{task:?}");
            }
        });
    }
}
