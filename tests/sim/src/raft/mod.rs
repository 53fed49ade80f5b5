//! The managers' consensus, as a model: terms, elections, replication, commit by a majority of durable entries,
//! snapshots, and the leader's check before it is read from. It knows no time but the one it is given.
//!
//! The product's is openraft, which can't be driven step by step; its own store and the processes are tested
//! elsewhere. What is modelled here is what the rest of the product relies on.

mod disk;
mod leader;

pub use disk::{By, Disk, Entry, Hard, Log, Snapshot, Write};
pub use leader::Ticket;

use crate::bug::{Bug, has};
use crate::dice::Dice;
use leader::Leading;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// A follower that hears nothing for so long at least stands for election, ms.
pub const ELECTION_MS: u64 = 900;
/// ... and for so much longer at most.
const ELECTION_SPREAD_MS: u64 = 300;
/// A leader says so often that it is there, ms.
pub const HEARTBEAT_MS: u64 = 100;
/// Entries kept before the end of a snapshot, for followers that are a little behind.
pub const KEPT: u64 = 20;

/// What managers say to each other.
#[derive(Debug, Clone)]
pub enum Message {
    /// Stands for election, with its last entry.
    Vote { term: u64, last: (u64, u64) },
    /// An answer.
    VoteReply { term: u64, granted: bool },
    /// Entries behind `prev`.
    Append {
        term: u64,
        prev: (u64, u64),
        entries: Vec<Arc<Entry>>,
        commit: u64,
        round: u64,
    },
    /// `matched`: the last entry that is the same here; when not `ok`, one that may be.
    AppendReply {
        term: u64,
        ok: bool,
        matched: u64,
        round: u64,
    },
    /// A snapshot for one that is too far behind.
    Install {
        term: u64,
        snapshot: Arc<Snapshot>,
        round: u64,
    },
}

#[derive(Debug)]
enum Role {
    Follower,
    Candidate(BTreeSet<usize>),
    Leader(Leading),
}

#[derive(Debug)]
enum After {
    Send(usize, Message),
    Stand,
    Own(u64),
}

/// One manager's part.
#[derive(Debug)]
pub struct Raft {
    me: usize,
    managers: usize,
    hard: Hard,
    role: Role,
    /// Whom it takes for the leader.
    pub leader: Option<usize>,
    /// Index of the last entry known to be committed.
    pub commit: u64,
    deadline: u64,
    heard: Option<u64>,
    after: VecDeque<(u64, u64, After)>,
    /// To be sent.
    pub out: Vec<(usize, Message)>,
    next_id: u64,
}

impl Raft {
    /// Begins with what is on the disk.
    pub fn begin(me: usize, managers: usize, hard: Hard, now: u64, dice: &mut Dice) -> Self {
        let commit = hard.log.snapshot.as_ref().map_or(0, |s| s.index);
        let mut raft = Self {
            me,
            managers,
            hard,
            role: Role::Follower,
            leader: None,
            commit,
            deadline: 0,
            heard: None,
            after: VecDeque::new(),
            out: Vec::new(),
            next_id: dice.any() << 20,
        };
        raft.wait(now, dice);
        raft
    }

    /// The newest term it knows.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.hard.term
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> &Log {
        &self.hard.log
    }

    /// Whether it takes itself for the leader.
    #[must_use]
    pub fn leads(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    fn majority(&self) -> usize {
        self.managers / 2 + 1
    }

    fn peers(&self) -> impl Iterator<Item = usize> + use<> {
        let me = self.me;
        (0..self.managers).filter(move |peer| *peer != me)
    }

    fn wait(&mut self, now: u64, dice: &mut Dice) {
        self.deadline = now + ELECTION_MS + dice.below(ELECTION_SPREAD_MS);
    }

    fn write(&mut self, disk: &mut Disk, write: Write) {
        self.hard.take(&write);
        disk.write(write);
    }

    /// Once all that was written up to now is durable, which it may be already.
    fn once_durable(&mut self, disk: &Disk, after: After) {
        if disk.durable == disk.written
            && let After::Send(to, message) = after
        {
            self.out.push((to, message));
            return;
        }
        self.after.push_back((disk.written, self.hard.term, after));
    }

    /// Time passes.
    pub fn tick(&mut self, disk: &mut Disk, now: u64, dice: &mut Dice) {
        if self.leads() {
            self.beat(now);
        } else if now >= self.deadline {
            self.wait(now, dice);
            self.role = Role::Candidate(BTreeSet::from([self.me]));
            self.leader = None;
            self.write(disk, Write::Vote(self.hard.term + 1, Some(self.me)));
            self.once_durable(disk, After::Stand);
        }
    }

    /// What was written before the last sync began is durable.
    pub fn synced(&mut self, disk: &Disk, now: u64) {
        while let Some((written, term, _)) = self.after.front()
            && *written <= disk.durable
        {
            let stale = *term != self.hard.term;
            let Some((_, _, after)) = self.after.pop_front() else {
                break;
            };
            match after {
                _ if stale => {}
                After::Send(to, message) => self.out.push((to, message)),
                After::Stand => self.stand(now),
                After::Own(index) => self.own_durable(index),
            }
        }
    }

    fn stand(&mut self, now: u64) {
        let Role::Candidate(votes) = &self.role else {
            return;
        };
        if votes.len() >= self.majority() {
            self.lead(now);
            return;
        }
        let (term, last) = (self.hard.term, self.hard.log.last());
        for peer in self.peers() {
            self.out.push((peer, Message::Vote { term, last }));
        }
    }

    fn follow(&mut self, disk: &mut Disk, term: u64) {
        if term > self.hard.term {
            self.write(disk, Write::Vote(term, None));
            self.leader = None;
        }
        self.role = Role::Follower;
    }

    /// Takes a message.
    pub fn receive(
        &mut self,
        disk: &mut Disk,
        from: usize,
        message: Message,
        now: u64,
        dice: &mut Dice,
    ) {
        match message {
            Message::Vote { term, last } => self.asked(disk, from, term, last, now, dice),
            Message::VoteReply { term, granted } => {
                if term > self.hard.term {
                    self.follow(disk, term);
                } else if term == self.hard.term
                    && granted
                    && let Role::Candidate(votes) = &mut self.role
                {
                    votes.insert(from);
                    if votes.len() >= self.majority() {
                        self.lead(now);
                    }
                }
            }
            Message::Append {
                term,
                prev,
                entries,
                commit,
                round,
            } => {
                if self.hear(disk, from, term, now, dice) {
                    self.append(disk, from, prev, entries, commit, round);
                }
            }
            Message::Install {
                term,
                snapshot,
                round,
            } => {
                if self.hear(disk, from, term, now, dice) {
                    let index = snapshot.index;
                    if index > self.commit {
                        self.write(disk, Write::Snapshot(snapshot, 0));
                        self.commit = index;
                    }
                    self.accept(disk, from, index, round);
                }
            }
            Message::AppendReply {
                term,
                ok,
                matched,
                round,
            } => {
                if term > self.hard.term {
                    self.follow(disk, term);
                } else if term == self.hard.term {
                    self.answered(from, ok, matched, round);
                }
            }
        }
    }

    fn asked(
        &mut self,
        disk: &mut Disk,
        from: usize,
        term: u64,
        last: (u64, u64),
        now: u64,
        dice: &mut Dice,
    ) {
        // Who hears its leader wants no other one.
        let content = self.leads()
            || self
                .heard
                .is_some_and(|heard| now < heard + ELECTION_MS && self.leader.is_some());
        if term < self.hard.term || content {
            return;
        }
        if term > self.hard.term {
            self.follow(disk, term);
        }
        let free = self.hard.voted.is_none_or(|voted| voted == from) || has(Bug::TwoVotesInOneTerm);
        let granted = free && last >= self.hard.log.last() && matches!(self.role, Role::Follower);
        let reply = Message::VoteReply { term, granted };
        if granted {
            self.wait(now, dice);
            self.write(disk, Write::Vote(term, Some(from)));
        }
        self.once_durable(disk, After::Send(from, reply));
    }

    /// A leader speaks. Whether it is one.
    fn hear(&mut self, disk: &mut Disk, from: usize, term: u64, now: u64, dice: &mut Dice) -> bool {
        if term < self.hard.term {
            let reply = Message::AppendReply {
                term: self.hard.term,
                ok: false,
                matched: 0,
                // It may be one of the sender's own earlier terms, with rounds of its own.
                round: 0,
            };
            self.out.push((from, reply));
            return false;
        }
        // Two leaders of one term are for the invariant to see.
        if !(self.leads() && term == self.hard.term) {
            self.follow(disk, term);
        }
        self.leader = Some(from);
        self.heard = Some(now);
        self.wait(now, dice);
        true
    }

    fn append(
        &mut self,
        disk: &mut Disk,
        from: usize,
        prev: (u64, u64),
        mut entries: Vec<Arc<Entry>>,
        commit: u64,
        round: u64,
    ) {
        let log = &self.hard.log;
        let end = prev.1 + entries.len() as u64;
        if prev.1 >= log.base() && log.term_at(prev.1) != Some(prev.0) {
            let reply = Message::AppendReply {
                term: self.hard.term,
                ok: false,
                matched: log.last().1.min(prev.1.saturating_sub(1)),
                round,
            };
            self.out.push((from, reply));
            return;
        }
        entries.retain(|entry| {
            entry.index > log.base() && log.term_at(entry.index) != Some(entry.term)
        });
        if !entries.is_empty() {
            self.write(disk, Write::Append(entries));
        }
        self.commit = self.commit.max(commit.min(end));
        self.accept(disk, from, end, round);
    }

    fn accept(&mut self, disk: &Disk, from: usize, matched: u64, round: u64) {
        let reply = Message::AppendReply {
            term: self.hard.term,
            ok: true,
            matched,
            round,
        };
        if has(Bug::AcknowledgedBeforeSync) {
            self.out.push((from, reply));
        } else {
            self.once_durable(disk, After::Send(from, reply));
        }
    }

    /// The state up to what is applied takes the place of the entries.
    pub fn compact(&mut self, disk: &mut Disk, snapshot: Arc<Snapshot>) {
        self.write(disk, Write::Snapshot(snapshot, KEPT));
    }
}
