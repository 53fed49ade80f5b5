//! Watchers that are slow at random, over what is really applied: what each has put together from changes and
//! resyncs is what the state is, and no revision is missed, seen twice or seen after a later one.

use super::*;
use crate::machine::Machine;
use crate::snapshot::Snapshots;
use crate::types::{Entry, LogId, Proposal};
use crate::watch::{Watched, Watcher};
use crate::wire;
use api::convert;
use api::proto;
use api::state::Event;
use futures_util::{FutureExt, stream};
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What a watcher knows: the stacks, each by when it was last put.
struct Follower {
    watcher: Watcher,
    revision: u64,
    stacks: BTreeMap<String, u64>,
}

fn all(machine: &Machine) -> (u64, BTreeMap<String, u64>) {
    machine.read(|state| {
        let stacks = state.stacks().iter();
        let stacks = stacks.map(|(name, stack)| (name.to_string(), stack.meta.revision));
        (state.revision(), stacks.collect())
    })
}

impl Follower {
    /// Sees at most so much; whether there was more.
    fn look(&mut self, machine: &Machine, most: usize) -> Result<bool, TestCaseError> {
        for _ in 0..most {
            match self.watcher.next().now_or_never() {
                None => return Ok(false),
                Some(Watched::Closed) => return Err(TestCaseError::fail("closed")),
                Some(Watched::Resync) => {
                    let (revision, stacks) = all(machine);
                    prop_assert!(revision >= self.revision, "it goes back");
                    (self.revision, self.stacks) = (revision, stacks);
                }
                // Read already.
                Some(Watched::Changes { revision, .. }) if revision <= self.revision => {}
                Some(Watched::Changes { revision, events }) => {
                    for event in events.iter() {
                        let Event::Stack(name, before, after) = event else {
                            continue;
                        };
                        let before = before.as_ref().map(|stack| stack.meta.revision);
                        prop_assert_eq!(
                            self.stacks.get(name).copied(),
                            before,
                            "a change was missed"
                        );
                        match after {
                            Some(stack) => self.stacks.insert(name.clone(), stack.meta.revision),
                            None => self.stacks.remove(name),
                        };
                    }
                    self.revision = revision;
                }
            }
        }
        Ok(true)
    }
}

fn id(index: u64) -> LogId {
    let leader = Some(proto::LeaderId { term: 1, node: 1 });
    wire::read_log_id(&proto::LogId { leader, index }).unwrap()
}

#[derive(Debug, Clone)]
enum Step {
    /// So many entries at once: a stack is put, or removed if it is there; some are refused.
    Apply(Vec<(u8, bool)>),
    /// A watcher looks at so much.
    Look(usize, usize),
    /// One more watcher.
    Watch,
    /// The state is replaced by a snapshot of itself.
    Install,
}

fn step() -> impl Strategy<Value = Step> {
    let entries = proptest::collection::vec((0..12_u8, any::<bool>()), 1..500);
    prop_oneof![
        6 => entries.prop_map(Step::Apply),
        6 => (0..8_usize, 1..900_usize).prop_map(|(who, most)| Step::Look(who, most)),
        1 => Just(Step::Watch),
        1 => Just(Step::Install),
    ]
}

fn follower(machine: &Machine) -> Follower {
    Follower {
        watcher: machine.ring.watch(),
        revision: 0,
        stacks: BTreeMap::new(),
    }
}

async fn follow(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path().to_owned(), key()).unwrap();
    let (mut machine, _) = Machine::open(snapshots).unwrap();
    let mut followers = vec![follower(&machine)];
    let mut index = 0;
    for step in steps {
        match step {
            Step::Apply(entries) => {
                let entries = entries.into_iter().map(|(which, puts)| {
                    index += 1;
                    let name = which.to_string();
                    let op = match puts {
                        true => Op::PutStack(Stack {
                            name,
                            ..Stack::default()
                        }),
                        false => Op::RemoveStack(name),
                    };
                    let transaction = Transaction {
                        at: Timestamp(1),
                        ops: vec![op],
                    };
                    let bytes = convert::encode_transaction(&transaction);
                    let entry = Entry::new(id(index), EntryPayload::Normal(Proposal(bytes)));
                    Ok((entry, None))
                });
                let entries: Vec<_> = entries.collect();
                machine.apply(stream::iter(entries)).await.unwrap();
            }
            Step::Look(who, most) => {
                let who = who % followers.len();
                followers[who].look(&machine, most)?;
            }
            Step::Watch => followers.push(follower(&machine)),
            Step::Install => {
                let taken = machine.build_snapshot().await.unwrap();
                machine
                    .install_snapshot(&taken.meta, taken.snapshot)
                    .await
                    .unwrap();
            }
        }
    }
    for follower in &mut followers {
        while follower.look(&machine, 1_000)? {}
        let (revision, stacks) = all(&machine);
        prop_assert!(follower.revision <= revision);
        prop_assert_eq!(&follower.stacks, &stacks);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_watcher_knows_what_the_state_is(steps in proptest::collection::vec(step(), 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(follow(steps))?;
    }
}
