//! Which tasks of nodes that are down may still run, and must not run anywhere else meanwhile.

use super::State;
use crate::model::{NodeState, Task};

impl State {
    /// The silence of its node after which nobody runs this task any more, ms, where that matters: it belongs to an
    /// exclusive service. `u64::MAX` when only the node's return or removal can tell, since it was started on
    /// terms that let the node keep it.
    #[must_use]
    pub fn exclusive_until_ms(&self, task: &Task) -> Option<u64> {
        let service = self.services.get(&task.service)?;
        if task.status.state.is_ended() || !service.spec.template.disconnect.exclusive {
            return None;
        }
        let terms = self.template(task)?.disconnect;
        Some(terms.over_after_ms().unwrap_or(u64::MAX))
    }

    /// Whether a task's node is down and may still run it, while nobody else may.
    #[must_use]
    pub fn may_still_run(&self, task: &Task) -> bool {
        #[cfg(feature = "sabotage")]
        if crate::sabotage::has(crate::sabotage::Bug::LeaseForgotten) {
            return false;
        }
        let Some(node) = task.node.and_then(|id| self.nodes.get(&id)) else {
            return false;
        };
        node.status.state == NodeState::Down
            && self
                .exclusive_until_ms(task)
                .is_some_and(|over| node.status.silent_ms < over)
    }
}
