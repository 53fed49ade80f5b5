//! Whether a container may begin: the product's own footing, and the shell around it.

use crate::bug::{Bug, has};
use crate::world::World;
use api::model::{TaskId, TaskState};

/// Whether a container may begin.
pub(super) enum May {
    /// Now, and no later than then.
    Begin(Option<u64>),
    /// Not yet.
    Wait,
    /// No more.
    Never(&'static str),
}

impl World {
    /// Whether a container may begin, by what its node knows.
    pub(super) fn may_begin(&mut self, host: usize, task: TaskId, until: u64) -> May {
        let now = self.now;
        let Some(agent) = &mut self.hosts[host].agent else {
            return May::Wait;
        };
        let Some(driven) = agent.roster.driven.get(&task) else {
            return May::Wait;
        };
        let Some(terms) = driven.terms else {
            return May::Begin(None);
        };
        let unasked = has(Bug::ExclusiveBegunUnasked);
        if driven.desired > TaskState::Running && !unasked {
            return May::Never("it is not wanted any more");
        }
        match agent
            .footing
            .begin_before(&terms, driven.alone || unasked, now)
        {
            Some(before) => May::Begin(Some(before)),
            None if now < until => May::Wait,
            None => May::Never("no manager was heard lately"),
        }
    }
}
