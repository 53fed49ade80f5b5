//! What the secrets and configs of this node's tasks hold. In memory only: after a restart of clusterd it is empty
//! until a manager has sent it again, and a task that is to start then waits.

use api::model::{BlobId, Data};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// The contents, by id.
pub type Held = BTreeMap<BlobId, Data>;

/// Shared by the core, which is told them, and the drivers, which need them.
#[derive(Debug, Default)]
pub struct Contents {
    held: watch::Sender<Held>,
}

impl Contents {
    /// These are held from now on, and no others.
    pub fn set(&self, held: Held) {
        self.held.send_replace(held);
    }

    /// All of these, if all are here.
    #[must_use]
    pub fn get(&self, wanted: &[BlobId]) -> Option<Held> {
        find(&self.held.borrow(), wanted)
    }

    /// All of these, once all are here. Cancel-safe.
    pub async fn wait(&self, wanted: &[BlobId]) -> Held {
        let mut changes = self.held.subscribe();
        loop {
            if let Some(found) = find(&changes.borrow_and_update(), wanted) {
                return found;
            }
            if changes.changed().await.is_err() {
                // The sender is ours, so this does not come to pass.
                std::future::pending::<()>().await;
            }
        }
    }
}

fn find(held: &Held, wanted: &[BlobId]) -> Option<Held> {
    wanted
        .iter()
        .map(|id| Some((*id, held.get(id)?.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(ids: &[u128]) -> Held {
        let content = |id: &u128| (BlobId(*id), Data::from(id.to_string().into_bytes()));
        ids.iter().map(content).collect()
    }

    #[tokio::test]
    async fn who_needs_several_waits_for_the_last() {
        let contents = std::sync::Arc::new(Contents::default());
        let wanted = [BlobId(1), BlobId(2)];
        assert_eq!(contents.get(&wanted), None);
        let waiter = tokio::spawn({
            let contents = contents.clone();
            async move { contents.wait(&wanted).await }
        });
        contents.set(held(&[2]));
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        contents.set(held(&[1, 2, 3]));
        assert_eq!(waiter.await.unwrap(), held(&[1, 2]));
        contents.set(held(&[3]));
        assert_eq!(contents.get(&wanted), None, "what is not held is gone");
        assert_eq!(contents.get(&[]), Some(Held::new()));
    }
}
