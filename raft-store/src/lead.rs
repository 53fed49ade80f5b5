//! Writing from one's own state: a leader that has applied an entry of its own term has applied all that any
//! leader before it acknowledged, and in its own term nobody acknowledges but itself. So a change may be built
//! from that state without asking a majority first, as long as it is written in that very term or not at all:
//! the write itself is the question.
//!
//! What is only told, and not written, can't lean on this: a deposed leader would tell of an old state.

use crate::error::{ProposeError, unconfirmed, write_failed};
use crate::handle::{Handle, PATIENCE};
use crate::types::TypeConfig;
use api::state::Transaction;
use openraft::async_runtime::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{Fatal, RaftError};
use openraft::impls::ProgressResponder;
use openraft::type_config::alias::CommittedLeaderIdOf;
use std::time::Duration;
use tokio::time::timeout;

/// A leader that no majority has answered for this long asks before it writes: the answer to who calls is then
/// that nothing was done, rather than that it may have been.
const SILENCE_MAX: Duration = Duration::from_millis(500);

/// A term in which this manager leads and has applied an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnTerm(CommittedLeaderIdOf<TypeConfig>);

impl Handle {
    /// The term whose leader this manager is, if its state holds all that was acknowledged before, and if a majority
    /// has answered it just now; to be asked before the state is read.
    #[must_use]
    pub fn own_term(&self) -> Option<OwnTerm> {
        let is_heard = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            now.last_quorum_acked
                .as_ref()
                .is_some_and(|at| at.elapsed() < SILENCE_MAX)
        };
        if is_heard { self.term() } else { None }
    }

    /// As [`Handle::own_term`], heard or not: for who waits, and does not mind how long a write is in doubt.
    #[must_use]
    pub fn term(&self) -> Option<OwnTerm> {
        let id = self.own.node_id.raft_id();
        let term = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow_watched();
            (now.current_leader == Some(id)).then_some(now.vote.leader_id.term)
        };
        // What it has applied last may be of an earlier term that it led.
        let leader = *self.applied()?.committed_leader_id();
        (term == Some(leader.term) && leader.node_id == id).then_some(OwnTerm(leader))
    }

    /// Why the consensus has ended: to be asked when it has.
    async fn ended(&self) -> Fatal<TypeConfig> {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_watched().running_state {
                return fatal.clone();
            }
            if metrics.changed().await.is_err() {
                return Fatal::Stopped;
            }
        }
    }

    /// As [`Handle::propose`], but only in this term: when it is over, nothing is written, and that is
    /// [`ProposeError::NotLeader`].
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose_in(
        &self,
        term: &OwnTerm,
        transaction: &Transaction,
    ) -> Result<u64, ProposeError> {
        let proposal = self.check(transaction)?;
        let (responder, done) = ProgressResponder::complete_only();
        let write = async {
            self.raft
                .write(proposal)
                .with_leader(term.0)
                .responder(responder)
                .await
                .map_err(RaftError::Fatal)?;
            match done.await {
                Ok(done) => done.map_err(RaftError::APIError),
                // It is dropped only when the consensus ends.
                Err(_) => Err(RaftError::Fatal(self.ended().await)),
            }
        };
        match timeout(PATIENCE, write).await {
            Ok(Ok(response)) => Ok(response.data.0?),
            Ok(Err(error)) => Err(write_failed(error)),
            Err(_) => Err(unconfirmed()),
        }
    }
}
