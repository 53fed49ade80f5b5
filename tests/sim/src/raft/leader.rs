//! What a manager does while it leads.

use super::{After, By, Disk, Entry, HEARTBEAT_MS, Message, Raft, Role, Write};
use crate::bug::{Bug, has};
use api::state::Transaction;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Entries in one message at most.
const BATCH: usize = 64;

#[derive(Debug, Default, Clone)]
struct Peer {
    next: u64,
    matched: u64,
    /// The newest round it has answered.
    round: u64,
    /// Something is on its way.
    busy: bool,
}

#[derive(Debug)]
pub(super) struct Leading {
    peers: BTreeMap<usize, Peer>,
    /// Own entries that are durable.
    own: u64,
    /// Its first entry: until that is committed it does not know what is.
    first: u64,
    round: u64,
    beat: u64,
}

/// A read that waits for a majority to say that this one leads still.
#[derive(Debug, Clone, Copy)]
pub struct Ticket {
    term: u64,
    round: u64,
    /// What has to be applied.
    pub index: u64,
}

impl Raft {
    pub(super) fn lead(&mut self, now: u64) {
        let next = self.hard.log.last().1 + 1;
        let peer = Peer {
            next,
            ..Peer::default()
        };
        self.leader = Some(self.me);
        self.role = Role::Leader(Leading {
            peers: self.peers().map(|id| (id, peer.clone())).collect(),
            own: next - 1,
            first: next,
            round: 0,
            beat: now,
        });
    }

    /// Whether its first entry is still to be made.
    #[must_use]
    pub fn is_new_leader(&self) -> bool {
        match &self.role {
            Role::Leader(leading) => self.hard.log.last().1 < leading.first,
            _ => false,
        }
    }

    /// Index and id of the entry, if this one takes itself for the leader.
    pub fn propose(
        &mut self,
        disk: &mut Disk,
        by: By,
        change: Option<Transaction>,
    ) -> Option<(u64, u64)> {
        if !self.leads() {
            return None;
        }
        self.next_id += 1;
        let (index, id) = (self.hard.log.last().1 + 1, self.next_id);
        let entry = Arc::new(Entry {
            term: self.hard.term,
            index,
            id,
            by,
            change,
        });
        self.write(disk, Write::Append(vec![entry]));
        if has(Bug::AcknowledgedBeforeSync) {
            self.own_durable(index);
        } else {
            self.once_durable(disk, After::Own(index));
        }
        for peer in self.peers() {
            self.send(peer, false);
        }
        Some((index, id))
    }

    pub(super) fn own_durable(&mut self, index: u64) {
        if let Role::Leader(leading) = &mut self.role {
            leading.own = leading.own.max(index);
            self.advance();
        }
    }

    pub(super) fn beat(&mut self, now: u64) {
        let Role::Leader(leading) = &mut self.role else {
            return;
        };
        if now < leading.beat + HEARTBEAT_MS {
            return;
        }
        leading.beat = now;
        self.round();
    }

    fn round(&mut self) {
        let Role::Leader(leading) = &mut self.role else {
            return;
        };
        leading.round += 1;
        for peer in self.peers() {
            self.send(peer, true);
        }
    }

    fn send(&mut self, to: usize, always: bool) {
        let Role::Leader(leading) = &mut self.role else {
            return;
        };
        let Some(peer) = leading.peers.get_mut(&to) else {
            return;
        };
        if peer.busy && !always {
            return;
        }
        peer.busy = true;
        let (term, round, log) = (self.hard.term, leading.round, &self.hard.log);
        let message = match log.term_at(peer.next - 1) {
            Some(at) => Message::Append {
                term,
                prev: (at, peer.next - 1),
                entries: log.from(peer.next, BATCH),
                commit: self.commit,
                round,
            },
            None => match &log.snapshot {
                Some(snapshot) => Message::Install {
                    term,
                    snapshot: snapshot.clone(),
                    round,
                },
                None => return,
            },
        };
        self.out.push((to, message));
    }

    pub(super) fn answered(&mut self, from: usize, ok: bool, matched: u64, round: u64) {
        let last = self.hard.log.last().1;
        let Role::Leader(leading) = &mut self.role else {
            return;
        };
        let Some(peer) = leading.peers.get_mut(&from) else {
            return;
        };
        peer.busy = false;
        let before = (peer.matched, peer.next);
        peer.round = peer.round.max(round);
        if ok {
            peer.matched = peer.matched.max(matched);
            peer.next = peer.next.max(peer.matched + 1);
        } else {
            peer.next = peer.next.min(matched + 1).max(peer.matched + 1);
        }
        // An answer that says nothing new, as one that comes twice, asks for nothing.
        let behind = peer.next <= last && (peer.matched, peer.next) != before;
        self.advance();
        if behind {
            self.send(from, false);
        }
    }

    fn advance(&mut self) {
        let majority = self.majority();
        let Role::Leader(leading) = &self.role else {
            return;
        };
        let mut matched: Vec<u64> = leading.peers.values().map(|peer| peer.matched).collect();
        matched.push(leading.own);
        matched.sort_unstable_by(|a, b| b.cmp(a));
        let mut agreed = matched.get(majority - 1).copied().unwrap_or(0);
        if has(Bug::CommittedWithoutQuorum) {
            agreed = leading.own;
        }
        // Of earlier terms only what lies before something of its own.
        if agreed > self.commit && self.hard.log.term_at(agreed) == Some(self.hard.term) {
            self.commit = agreed;
        }
    }

    /// Asks the others whether this one leads still.
    pub fn ask(&mut self) -> Option<Ticket> {
        let Role::Leader(leading) = &self.role else {
            return None;
        };
        let ticket = Ticket {
            term: self.hard.term,
            round: leading.round + 1,
            index: self.commit.max(leading.first),
        };
        self.round();
        Some(ticket)
    }

    /// Whether it does; none as long as that is open.
    #[must_use]
    pub fn confirmed(&self, ticket: Ticket) -> Option<bool> {
        let Role::Leader(leading) = &self.role else {
            return Some(false);
        };
        if self.hard.term != ticket.term {
            return Some(false);
        }
        let answered = leading
            .peers
            .values()
            .filter(|peer| peer.round >= ticket.round)
            .count();
        let confirmed = answered + 1 >= self.majority() || has(Bug::ReadWithoutAsking);
        (confirmed && self.commit >= leading.first).then_some(true)
    }
}
