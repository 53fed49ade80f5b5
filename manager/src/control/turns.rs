//! Who changes one stack takes turns; others go on side by side.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard};

/// The stacks that are being changed, or waited for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Mutex<HashMap<String, Arc<Turn<()>>>>>);

/// One's turn, or one's place in the queue for it; over when it is dropped.
struct Place {
    turns: Turns,
    name: String,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    fn names(&self) -> MutexGuard<'_, HashMap<String, Arc<Turn<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when it is one's turn, which lasts until what is returned is dropped.
    pub async fn take(&self, name: &str) -> impl Send + use<> {
        // Whoever stops waiting leaves nothing behind either.
        let mut place = Place {
            turns: self.clone(),
            name: name.to_owned(),
            held: None,
        };
        let turn = self.names().entry(name.to_owned()).or_default().clone();
        place.held = Some(turn.lock_owned().await);
        place
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.held = None;
        let mut names = self.turns.names();
        // Clones are made under this lock alone: with one left, nobody holds it or waits.
        if names
            .get(&self.name)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            names.remove(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn one_stack_takes_turns_and_others_do_not_wait() {
        let turns = Turns::default();
        let first = turns.take("shop").await;
        assert!(turns.take("shop").now_or_never().is_none());
        let other = turns.take("blog").now_or_never();
        assert!(other.is_some());
        let mut next = Box::pin(turns.take("shop"));
        assert!(next.as_mut().now_or_never().is_none());
        drop(first);
        let second = next.await;
        assert!(turns.take("shop").now_or_never().is_none());
        drop((second, other));
        assert!(turns.names().is_empty(), "of a name nothing is left");
    }

    #[tokio::test]
    async fn who_stops_waiting_leaves_nothing() {
        let turns = Turns::default();
        let first = turns.take("shop").await;
        let mut waiting = Box::pin(turns.take("shop"));
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(first);
        drop(waiting);
        assert!(turns.names().is_empty());
        drop(turns.take("shop").await);
        assert!(turns.names().is_empty());
    }
}
