//! What a node does while no manager can be reached.

use super::{assigned, terms_of};
use crate::sight::Sight;
use crate::world::{World, instant};
use agent::decisions::Found;
use api::model::TaskState;

impl World {
    /// While no manager can be reached: starts again what has ended and none of them knows of, as its policy says.
    pub(crate) fn restart_alone(&mut self, host: usize) {
        let (at, now, renewed) = (
            instant(self.now),
            self.now,
            self.hosts[host].machine.renewed,
        );
        let Some(agent) = &mut self.hosts[host].agent else {
            return;
        };
        let roster = &mut agent.roster;
        agent
            .alone
            .retain(|task| roster.ended.contains(task) || roster.driven.contains_key(task));
        let mut again = Vec::new();
        for (task, template) in assigned(&agent.desired) {
            let terms = terms_of(&template.disconnect);
            if !roster.ended.contains(&task.id)
                || task.desired > TaskState::Running
                || template.disconnect.exclusive
                || !terms.is_none_or(|terms| terms.hold(renewed, now))
            {
                continue;
            }
            let Some(end) = agent.book.untold(task.id) else {
                continue;
            };
            let policy = &template.restart;
            if agent.alone.is_due(task.id, policy, end.state, at) {
                let count = agent.alone.restarted(task.id, at);
                roster.ended.remove(&task.id);
                again.push((task, template, format!("started again {count} times")));
            }
        }
        let node = self.hosts[host].node;
        for (task, template, note) in again {
            self.book.count("restarts by a node alone");
            let agent = self.hosts[host].agent.as_ref();
            let told = agent.is_some_and(|agent| agent.known_ends.contains(&task.id));
            self.book.see(&Sight::Again {
                node,
                task: task.id,
                told,
            });
            self.spawn(host, task, template, Found::Again(note));
        }
    }
}
