//! The version of its service that a task runs is there as long as the task is: a task that waits can still be
//! placed, and one that runs be explained.

use super::Invariant;
use crate::sight::Sight;
use api::state::Event;

#[derive(Debug, Default)]
pub struct State;

impl Invariant for State {
    fn name(&self) -> &'static str {
        "versions are kept"
    }

    fn see(&mut self, sight: &Sight<'_>, _: u64, first: bool) -> Result<(), String> {
        let Sight::Applied {
            outcome: Ok(events),
            state,
            ..
        } = sight
        else {
            return Ok(());
        };
        for event in events.iter().filter(|_| first) {
            let Event::Template((service, version), Some(_), None) = event else {
                continue;
            };
            let mut users = state
                .tasks_of_service(*service)
                .filter(|task| task.template_revision == *version);
            if let Some(task) = users.next() {
                return Err(format!(
                    "version {version} of {} is gone, which task {} runs",
                    task.service_name, task.id
                ));
            }
        }
        Ok(())
    }
}
