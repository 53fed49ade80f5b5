//! The managers that this node knows, in memory and on disk: the leader's word while there is a session, and anybody's
//! who has a manager's certificate, or this machine's socket, while there is none.

use crate::disk::Disk;
use tokio::sync::watch;

/// Managers kept.
const MAX: usize = 64;

/// The managers, `host:port`.
#[derive(Debug)]
pub struct Known {
    disk: Disk,
    all: watch::Sender<Vec<String>>,
    /// The one there is a session with.
    session: watch::Receiver<Option<String>>,
}

impl Known {
    pub(crate) fn new(
        disk: Disk,
        first: Vec<String>,
        session: watch::Receiver<Option<String>>,
    ) -> Self {
        Self {
            disk,
            all: watch::channel(first).0,
            session,
        }
    }

    /// All of them now.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.all.borrow().clone()
    }

    /// Follows them.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Vec<String>> {
        self.all.subscribe()
    }

    /// From now on these.
    pub(crate) fn set(&self, mut managers: Vec<String>) {
        managers.truncate(MAX);
        if managers.is_empty() || *self.all.borrow() == managers {
            return;
        }
        if let Err(error) = self.disk.save_managers(&managers) {
            tracing::warn!(%error, "can't keep the list of managers");
        }
        self.all.send_replace(managers);
    }

    /// Somebody says that these are there: they are tried first. Nothing new while there is a session.
    pub fn note(&self, mut managers: Vec<String>) {
        if self.session.borrow().is_some() {
            return;
        }
        for before in self.all() {
            if !managers.contains(&before) {
                managers.push(before);
            }
        }
        self.set(managers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_tried_first_and_kept_unless_there_is_a_session() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path().to_owned()).unwrap();
        let (session, follows) = watch::channel(None);
        let known = Known::new(disk.clone(), vec!["a:1".into(), "b:1".into()], follows);
        known.note(vec!["c:1".into(), "b:1".into()]);
        assert_eq!(known.all(), ["c:1", "b:1", "a:1"]);
        assert_eq!(disk.managers(), known.all());
        // The leader's word replaces all, and nobody else's is heard beside it.
        session.send_replace(Some("c:1".into()));
        known.set(vec!["d:1".into()]);
        known.note(vec!["e:1".into()]);
        assert_eq!(known.all(), ["d:1"]);
        session.send_replace(None);
        known.note((0..100).map(|n| format!("x{n}:1")).collect());
        assert_eq!(known.all().len(), MAX);
    }
}
