//! What nobody needs any more: pure.

use api::model::{BlobId, NetworkId};
use api::state::{Op, State};
use std::collections::BTreeSet;

/// All of it. Each change by itself: one that has to wait holds up no other.
#[must_use]
pub fn all(state: &State) -> Vec<Op> {
    let mut ops = networks(state);
    ops.extend(blobs(state));
    ops
}

/// Removes the stacks' networks that nothing is on: no service names them and no task that is still ending
/// holds an address of them. Networks made by hand stay.
#[must_use]
pub fn networks(state: &State) -> Vec<Op> {
    let mut own = state
        .networks()
        .values()
        .filter(|network| network.spec.stack.is_some())
        .peekable();
    if own.peek().is_none() {
        return Vec::new();
    }
    let used: BTreeSet<NetworkId> = state
        .services()
        .values()
        .flat_map(|service| service.spec.template.networks.iter().map(|on| on.network))
        .collect();
    own.filter(|network| !used.contains(&network.id) && state.addresses(network.id).is_none())
        .map(|network| Op::RemoveNetwork(network.id))
        .collect()
}

/// Removes the versions of the stacks' secrets and configs that no service names and no task that has not ended
/// uses. Those made by hand stay.
#[must_use]
pub fn blobs(state: &State) -> Vec<Op> {
    let mut own = state
        .blobs()
        .values()
        .filter(|blob| blob.spec.stack.is_some())
        .peekable();
    if own.peek().is_none() {
        return Vec::new();
    }
    let used: BTreeSet<BlobId> = state
        .services()
        .values()
        .flat_map(|service| service.spec.template.blobs.iter().map(|on| on.blob))
        .collect();
    own.filter(|blob| !used.contains(&blob.id) && state.blob_tasks(blob.id).next().is_none())
        .map(|blob| Op::RemoveBlob(blob.id))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, apply, cluster_state};
    use api::model::{NetworkAttachment, ServiceId, TaskId, TaskState, TaskStatus};

    #[test]
    fn a_stacks_network_goes_after_its_last_task_and_not_before() {
        let mut state = cluster_state();
        let mut service = testing::service(1, "shop_web");
        service.spec.template.networks = vec![NetworkAttachment {
            network: NetworkId(1),
            aliases: vec![],
        }];
        apply(
            &mut state,
            vec![
                Op::CreateNode(Box::new(testing::node(1, "node1"))),
                Op::CreateNetwork(Box::new(testing::network(1, "shop_back", Some("shop")))),
                Op::CreateNetwork(Box::new(testing::network(2, "demo", None))),
                Op::CreateService(Box::new(service)),
            ],
        );
        testing::running_on(&mut state, 1, 1, 1, 1, &[(1, 5)]);
        assert_eq!(networks(&state), []);
        apply(&mut state, vec![Op::RemoveService(ServiceId(1))]);
        assert_eq!(networks(&state), [], "a task still holds an address");
        let status = TaskStatus {
            state: TaskState::Shutdown,
            ..TaskStatus::default()
        };
        apply(
            &mut state,
            vec![Op::SetTaskStatus {
                id: TaskId(1),
                status,
            }],
        );
        assert_eq!(networks(&state), [Op::RemoveNetwork(NetworkId(1))]);
        let swept = networks(&state);
        apply(&mut state, swept);
        assert_eq!(networks(&state), [], "demo is nobody's to remove");
    }
}
