//! The leader's loop: watch, gather, decide, propose. Level-triggered: each pass decides from the whole state,
//! so a pass that was refused, or a change that was missed, is made good by the next.
//!
//! What a pass decides is written in the term whose leader read the state for it, or not at all. A write that found
//! no majority in time may still be made, and two passes from one state would fill a slot twice: after one, nothing is
//! decided until an empty transaction, behind it in the log, is applied.

use crate::clock::now;
use crate::sweep;
use api::model::{ServiceMode, TaskState, Timestamp};
use api::state::{Event, State, Transaction};
use futures_util::{StreamExt, stream};
use raft_store::{Handle, OwnTerm, ProposeError, Watched, Watcher};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// Changes are gathered for this long when a pass was made just before.
const DEBOUNCE: Duration = Duration::from_millis(25);
/// A pass is made at least this often, whatever the watch says.
const RESYNC: Duration = Duration::from_secs(30);
/// Transactions of a pass under way at once.
const AHEAD: usize = 3;
/// The pause after a pass that was refused, doubling.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How a pass went.
enum Pass {
    /// All was taken; look again at that time.
    Done(Option<Timestamp>),
    /// Something was refused, or found no quorum.
    Again,
}

/// What a pass reads and writes.
trait Store {
    /// A time of leading, from its first entry's being applied.
    type Term;
    /// The one it is in, if it is in one.
    fn term(&self) -> Option<Self::Term>;
    /// All that is applied.
    fn state(&self) -> State;
    /// Written in that term or not at all.
    fn write(
        &self,
        term: &Self::Term,
        transaction: &Transaction,
    ) -> impl Future<Output = Result<u64, ProposeError>>;
}

impl Store for Handle {
    type Term = OwnTerm;

    fn term(&self) -> Option<OwnTerm> {
        Handle::term(self)
    }

    fn state(&self) -> State {
        self.read(State::clone)
    }

    async fn write(&self, term: &OwnTerm, transaction: &Transaction) -> Result<u64, ProposeError> {
        self.propose_in(term, transaction).await
    }
}

/// Goes on until it is stopped.
pub async fn run(handle: Handle, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = passes(&handle) => {}
    }
}

async fn passes(handle: &Handle) {
    let mut watcher = handle.watch();
    let mut pause = PAUSE_MIN;
    let mut last: Option<Instant> = None;
    let mut next: Option<Timestamp> = None;
    // Who led in this term before, in this daemon, may have left something.
    let mut doubt = true;
    loop {
        if !wait(&mut watcher, last, next).await {
            return;
        }
        let outcome = pass(handle, &mut doubt).await;
        last = Some(Instant::now());
        match outcome {
            Pass::Done(at) => (pause, next) = (PAUSE_MIN, at),
            Pass::Again => {
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
                next = Some(now());
            }
        }
    }
}

/// Until something that matters has changed, or the time has come. False: there is nothing to watch.
async fn wait(watcher: &mut Watcher, last: Option<Instant>, next: Option<Timestamp>) -> bool {
    let soonest = last.map(|last| last + DEBOUNCE);
    let bound = next.map_or(RESYNC, |next| {
        Duration::from_millis(next.since_ms(now())).min(RESYNC)
    });
    let mut deadline = Instant::now() + bound;
    loop {
        match timeout_at(deadline, watcher.next()).await {
            Ok(Watched::Closed) => return false,
            Ok(Watched::Resync) => {}
            Ok(Watched::Changes { events, .. }) if events.iter().any(matters) => {}
            Ok(Watched::Changes { .. }) => continue,
            Err(_) => return true,
        }
        // What else comes until then is of the same pass.
        deadline = deadline.min(soonest.unwrap_or_else(Instant::now));
    }
}

/// Whether a change can change a decision: a task's steps between its node and its running can't, nor can a new
/// service that wants no task.
#[must_use]
pub fn matters(event: &Event) -> bool {
    match event {
        Event::Task(_, Some(old), Some(new)) => {
            let on_its_way =
                |state: TaskState| state >= TaskState::Assigned && state < TaskState::Running;
            !(old.desired == new.desired
                && old.node == new.node
                && on_its_way(old.status.state)
                && on_its_way(new.status.state))
        }
        Event::Service(_, None, Some(new)) => {
            new.spec.mode != ServiceMode::Replicated { replicas: 0 }
        }
        // Nobody waits for a network, a secret or a config, and it goes with what was on it.
        Event::Template(..) | Event::Network(..) | Event::Blob(..) | Event::Stack(..) => false,
        Event::Cluster(..) | Event::Node(..) | Event::Service(..) | Event::Task(..) => true,
    }
}

/// `doubt`: something of an earlier pass may still be made.
async fn pass<S: Store>(store: &S, doubt: &mut bool) -> Pass {
    let Some(term) = store.term() else {
        return Pass::Again;
    };
    let at = now();
    if *doubt {
        let ops = Vec::new();
        if let Err(error) = store.write(&term, &Transaction { at, ops }).await {
            tracing::info!("an earlier decision is in doubt: {error}");
            return Pass::Again;
        }
        *doubt = false;
    }
    let state = store.state();
    let decided = tokio::task::spawn_blocking(move || {
        let decision = scheduler::schedule(&state, at, &mut rand::random);
        (decision, sweep::all(&state))
    });
    let (decision, swept) = match decided.await {
        Ok(decided) => decided,
        Err(error) => {
            tracing::error!("a scheduling pass failed: {error}");
            return Pass::Again;
        }
    };
    let mut transactions = decision.transactions;
    // Each by itself: one that has to wait holds up no other.
    transactions.extend(
        swept
            .into_iter()
            .map(|op| Transaction { at, ops: vec![op] }),
    );
    // In their order; while one is applied the next is written.
    let term = &term;
    let mut written = stream::iter(transactions)
        .map(|transaction| async move {
            let count = transaction.ops.len();
            (count, store.write(term, &transaction).await)
        })
        .buffered(AHEAD);
    let mut again = false;
    while let Some((count, done)) = written.next().await {
        match done {
            Ok(revision) => tracing::debug!(revision, ops = count, "decided"),
            // The state has moved on: the next pass sees how.
            Err(ProposeError::Refused(refused)) => {
                tracing::debug!("a decision was refused: {refused}");
                again = true;
            }
            // Whoever started this ends it when this manager does not lead any more. Those behind it are not
            // waited for.
            Err(error) => {
                tracing::info!("a decision could not be written: {error}");
                *doubt = true;
                return Pass::Again;
            }
        }
    }
    if again {
        Pass::Again
    } else {
        Pass::Done(decision.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, apply, running, state_of};
    use api::model::{TaskId, TaskStatus};
    use api::state::Op;
    use std::cell::{Cell, RefCell};
    use std::collections::VecDeque;

    #[test]
    fn a_new_service_matters_unless_it_wants_no_task() {
        let mut state = state_of(vec![]);
        let mut made = |id, replicas| {
            let mut service = testing::service(id, &format!("web{id}"));
            service.spec.mode = ServiceMode::Replicated { replicas };
            let events = apply(&mut state, vec![Op::CreateService(Box::new(service))]);
            events.iter().any(matters)
        };
        assert!(made(1, 1));
        assert!(!made(2, 0));
    }

    #[test]
    fn a_tasks_end_matters_and_its_way_does_not() {
        let mut state = state_of(vec![
            Op::CreateNode(Box::new(testing::node(1, "node1"))),
            Op::CreateService(Box::new(testing::service(1, "web"))),
        ]);
        assert!(
            running(&mut state, 1, 1, 1, 1).iter().any(matters),
            "a new task"
        );
        let task = state.tasks()[&TaskId(1)].clone();
        let step = |from, to| {
            let with = |state| {
                let status = TaskStatus {
                    state,
                    ..TaskStatus::default()
                };
                Some(std::sync::Arc::new(api::model::Task {
                    status,
                    ..(*task).clone()
                }))
            };
            matters(&Event::Task(TaskId(1), with(from), with(to)))
        };
        assert!(!step(TaskState::Assigned, TaskState::Accepted));
        assert!(!step(TaskState::Preparing, TaskState::Starting));
        assert!(step(TaskState::Starting, TaskState::Running));
        assert!(step(TaskState::Preparing, TaskState::Rejected));
        assert!(step(TaskState::Running, TaskState::Failed));
        let events = apply(
            &mut state,
            vec![Op::SetTaskDesired {
                id: TaskId(1),
                desired: TaskState::Shutdown,
            }],
        );
        assert!(events.iter().any(matters));
    }

    /// Writes are applied at once; or they stay in doubt, and are applied before the next that is not.
    struct Slow {
        state: RefCell<State>,
        leads: Cell<bool>,
        in_doubt: Cell<bool>,
        waiting: RefCell<VecDeque<Transaction>>,
        written: RefCell<Vec<usize>>,
    }

    impl Store for Slow {
        type Term = ();

        fn term(&self) -> Option<()> {
            self.leads.get().then_some(())
        }

        fn state(&self) -> State {
            self.state.borrow().clone()
        }

        async fn write(&self, (): &(), transaction: &Transaction) -> Result<u64, ProposeError> {
            self.written.borrow_mut().push(transaction.ops.len());
            self.waiting.borrow_mut().push_back(transaction.clone());
            if self.in_doubt.get() {
                return Err(ProposeError::Unavailable("nobody answers".into()));
            }
            let mut last = Ok(0);
            while let Some(next) = self.waiting.borrow_mut().pop_front() {
                let mut state = self.state.borrow_mut();
                let index = state.revision() + 1;
                let applied = state.apply(index, next);
                last = applied.map(|_| index).map_err(ProposeError::Refused);
            }
            last
        }
    }

    #[tokio::test]
    async fn what_is_in_doubt_is_not_decided_twice() {
        let store = Slow {
            state: RefCell::new(state_of(vec![
                Op::CreateNode(Box::new(testing::node(1, "node1"))),
                Op::CreateService(Box::new(testing::service(1, "web"))),
            ])),
            leads: Cell::new(true),
            in_doubt: Cell::new(true),
            waiting: RefCell::default(),
            written: RefCell::default(),
        };
        let mut doubt = false;
        for _ in 0..3 {
            assert!(matches!(pass(&store, &mut doubt).await, Pass::Again));
            assert!(doubt);
        }
        let first = store.written.borrow()[0];
        assert!(first > 0, "a task was made");
        assert_eq!(
            store.written.borrow()[1..],
            [0, 0],
            "and then nothing was decided"
        );
        store.in_doubt.set(false);
        store.leads.set(false);
        assert!(matches!(pass(&store, &mut doubt).await, Pass::Again));
        assert_eq!(
            store.written.borrow().len(),
            3,
            "who does not lead writes nothing"
        );
        store.leads.set(true);
        assert!(matches!(pass(&store, &mut doubt).await, Pass::Done(_)));
        assert!(!doubt);
        assert_eq!(store.state.borrow().tasks().len(), 1);
    }
}
