//! Statuses on their way to the managers: the newest of each task. All are sent again in a new session, so
//! that one that was lost on the way is not lost for good; the managers take each only once.
//!
//! Bounded by the number of tasks: a newer status replaces an older one that was not yet sent.

use api::model::{TaskId, TaskStatus};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

#[derive(Debug, Clone)]
struct Entry {
    status: TaskStatus,
    /// The batch that last carried it.
    sent: Option<u64>,
    /// The managers have it.
    told: bool,
}

/// The book.
#[derive(Debug, Default)]
pub struct StatusBook {
    entries: Mutex<BTreeMap<TaskId, Entry>>,
    news: Notify,
}

impl StatusBook {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<TaskId, Entry>> {
        // A panic while it was held leaves a map that is whole: every change is one insert.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a task's newest status.
    pub fn report(&self, task: TaskId, status: TaskStatus) {
        self.entries().insert(
            task,
            Entry {
                status,
                sent: None,
                told: false,
            },
        );
        self.news.notify_one();
    }

    /// The managers have the batches up to this one.
    pub fn committed(&self, sequence: u64) {
        for entry in self.entries().values_mut() {
            entry.told |= entry.sent.is_some_and(|sent| sent <= sequence);
        }
    }

    /// A task's newest status, if the managers don't have it.
    #[must_use]
    pub fn untold(&self, task: TaskId) -> Option<TaskStatus> {
        let entries = self.entries();
        let entry = entries.get(&task).filter(|entry| !entry.told)?;
        Some(entry.status.clone())
    }

    /// Forgets a task that is not this node's any more.
    pub fn forget(&self, task: TaskId) {
        self.entries().remove(&task);
    }

    /// A new session knows nothing: everything is to be sent again.
    pub fn begin_session(&self) {
        for entry in self.entries().values_mut() {
            entry.sent = None;
        }
        self.news.notify_one();
    }

    /// Returns when there may be something to send.
    pub async fn changed(&self) {
        self.news.notified().await;
    }

    /// What has not been sent yet, at most `limit` of them, now sent as batch `sequence`.
    #[must_use]
    pub fn take(&self, sequence: u64, limit: usize) -> Vec<(TaskId, TaskStatus)> {
        let mut entries = self.entries();
        let mut left = false;
        let mut batch = Vec::new();
        for (task, entry) in entries.iter_mut().filter(|(_, e)| e.sent.is_none()) {
            if batch.len() == limit {
                left = true;
                break;
            }
            entry.sent = Some(sequence);
            batch.push((*task, entry.status.clone()));
        }
        drop(entries);
        if left {
            self.news.notify_one();
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::model::TaskState;

    fn status(state: TaskState) -> TaskStatus {
        TaskStatus {
            state,
            ..TaskStatus::default()
        }
    }

    #[test]
    fn only_the_newest_is_sent_and_only_once() {
        let book = StatusBook::default();
        book.report(TaskId(1), status(TaskState::Preparing));
        book.report(TaskId(1), status(TaskState::Running));
        assert_eq!(book.take(1, 10), [(TaskId(1), status(TaskState::Running))]);
        assert_eq!(book.take(2, 10), []);
    }

    #[test]
    fn what_the_managers_have_is_known() {
        let book = StatusBook::default();
        book.report(TaskId(1), status(TaskState::Failed));
        let _ = book.take(1, 10);
        assert!(book.untold(TaskId(1)).is_some(), "on its way");
        book.committed(1);
        assert!(book.untold(TaskId(1)).is_none());
        book.report(TaskId(1), status(TaskState::Failed));
        assert!(book.untold(TaskId(1)).is_some(), "another one");
    }

    #[test]
    fn a_new_session_hears_everything_again() {
        let book = StatusBook::default();
        book.report(TaskId(1), status(TaskState::Running));
        let _ = book.take(1, 10);
        book.begin_session();
        assert_eq!(book.take(1, 10).len(), 1);
    }

    #[test]
    fn a_batch_is_bounded() {
        let book = StatusBook::default();
        for n in 0..5 {
            book.report(TaskId(n), status(TaskState::Running));
        }
        assert_eq!(
            (
                book.take(1, 3).len(),
                book.take(2, 3).len(),
                book.take(3, 3).len()
            ),
            (3, 2, 0)
        );
    }
}
