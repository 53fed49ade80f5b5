//! Entries on their way to one manager: several requests under way on one call, answered in their order.
//!
//! openraft notes when it sent each request, and takes an answer that reaches as far as a later request does for an
//! answer to that one, too: a request that only tells what is committed reaches no further than the one before it. A
//! read would then count on an answer of before it was asked for. So such an answer is kept back until the later
//! request has its own; and requests are taken from openraft only while it waits for an answer, so that none comes in
//! between.
//!
//! One that only tells what is committed waits a little for entries that could tell it, too: under load that halves
//! the messages.

use super::client::{APPEND_BOUND, Failed, Peering, failed, fit, late, unreadable};
use super::reach::Reach;
use crate::dialer::root_cause;
use api::proto::{AppendEntriesReply, AppendEntriesRequest as WireAppend};
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::errors::{NetworkError, RPCError};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
};
use openraft::type_config::alias::LogIdOf;
use raft_store::{Peer, TypeConfig, wire};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

/// Requests under way at once.
const WINDOW: usize = 4;

/// How long a request is under way before a further one is sent: between managers near each other it is answered
/// before, and what has gathered meanwhile is one request and one sync of their disk, not four.
const PATIENCE: Duration = Duration::from_millis(20);

/// How long what is committed is not told by itself.
const POSTPONED: Duration = Duration::from_millis(5);

type LogId = LogIdOf<TypeConfig>;
type Reply = AppendEntriesResponse<TypeConfig>;
type Matching = StreamAppendResult<TypeConfig>;

/// What openraft is told.
pub(super) type Answers<'s> = BoxStream<'s, Result<Matching, Failed>>;

/// A request under way, or several that were sent as one.
#[derive(Debug, Clone, Copy)]
struct Sent {
    prev: Option<LogId>,
    last: Option<LogId>,
    /// How far the one that reaches least does.
    least: Option<LogId>,
}

/// What is under way, and what is to be told of it.
#[derive(Debug, Default)]
struct Window {
    sent: VecDeque<Sent>,
    /// Without entries, and to be sent later.
    postponed: Option<Sent>,
    /// Whether any request has been taken whole.
    matches: bool,
    /// How far an answer reaches that is kept back.
    kept: Option<Option<LogId>>,
    /// When a further request may be sent though one is under way.
    further: Option<Instant>,
    /// Nothing more is to be sent.
    over: bool,
}

impl Window {
    /// Whether a request may be sent.
    fn has_room(&self, now: Instant) -> bool {
        let is_time = !self.is_waiting() || self.further.is_none_or(|further| further <= now);
        !self.over && self.sent.len() < WINDOW && is_time
    }

    /// When there is room again without an answer.
    fn room_comes(&self) -> Option<Instant> {
        let waits = !self.over && self.is_waiting() && self.sent.len() < WINDOW;
        self.further.filter(|_| waits)
    }

    fn is_waiting(&self) -> bool {
        !self.sent.is_empty()
    }

    /// Whether a request that reaches so far is to wait for entries. The first ones of a call find out where the
    /// other one's log ends, and don't.
    fn postpones(&mut self, prev: Option<LogId>, last: Option<LogId>) -> bool {
        if !self.matches || prev != last {
            return false;
        }
        let least = self.postponed.map_or(last, |before| before.least);
        self.postponed = Some(Sent { prev, last, least });
        true
    }

    /// A request is sent, and with it what was postponed.
    fn push(&mut self, prev: Option<LogId>, last: Option<LogId>) {
        let least = self.postponed.take().map_or(last, |before| before.least);
        self.sent.push_back(Sent { prev, last, least });
    }

    /// The oldest request's answer has come: what to tell, if anything yet.
    fn answered(&mut self, reply: Reply) -> Result<Option<Matching>, &'static str> {
        let sent = self.sent.pop_front().ok_or("an answer to nothing")?;
        let matching = match reply {
            Reply::Success => sent.last,
            Reply::PartialSuccess(matching) => {
                if matching != sent.last {
                    // What was sent after it is not taken.
                    self.stop();
                }
                matching
            }
            Reply::Conflict => {
                self.stop();
                let prev = sent.prev.ok_or("a conflict before the first entry")?;
                return Ok(Some(Err(StreamAppendError::Conflict(prev))));
            }
            Reply::HigherVote(vote) => {
                self.stop();
                return Ok(Some(Err(StreamAppendError::HigherVote(vote))));
            }
        };
        self.matches = true;
        let matching = self.kept.take().map_or(matching, |kept| kept.max(matching));
        let next = self.sent.front().or(self.postponed.as_ref());
        if next.is_some_and(|next| next.least <= matching) {
            self.kept = Some(matching);
            return Ok(None);
        }
        Ok(Some(Ok(matching)))
    }

    /// Ends it; what is still under way is of no interest.
    fn stop(&mut self) {
        self.over = true;
        self.sent.clear();
        self.postponed = None;
    }
}

/// A call under way.
struct Session<S> {
    requests: S,
    outgoing: mpsc::Sender<WireAppend>,
    replies: Streaming<AppendEntriesReply>,
    window: Window,
    /// What is postponed, and until when.
    postponed: Option<(WireAppend, Instant)>,
    /// When the next answer has to be there, if one is waited for.
    due: Instant,
    bound: Duration,
    reach: Reach,
    peer: Peer,
}

impl<S> Session<S>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin,
{
    /// The next answer; none: there is nothing more to send.
    async fn next(&mut self) -> Option<Result<Matching, Failed>> {
        loop {
            if self.window.over && !self.window.is_waiting() {
                return None;
            }
            let until = self
                .postponed
                .as_ref()
                .map_or(self.due, |(_, until)| *until);
            let has_room = self.window.has_room(Instant::now());
            let room_comes = self.window.room_comes().filter(|_| !has_room);
            tokio::select! {
                biased;
                reply = self.replies.message() => {
                    let told = match reply {
                        Ok(Some(reply)) => self.take(&reply),
                        Ok(None) => Err(strange("it ended the call")),
                        Err(status) => {
                            self.reach.call(&self.peer).failed(&root_cause(&status));
                            Err(failed(&status))
                        }
                    };
                    if let Some(told) = told.transpose() {
                        return Some(told);
                    }
                }
                () = sleep_until(self.due), if self.window.is_waiting() => {
                    drop(self.reach.call(&self.peer));
                    return Some(Err(late(self.bound)));
                }
                request = self.requests.next(), if has_room => match request {
                    Some(request) => self.send(&request),
                    None => self.window.over = true,
                },
                () = sleep_until(until), if self.postponed.is_some() && has_room => {
                    self.post_postponed();
                }
                () = sleep_until(room_comes.unwrap_or(self.due)), if room_comes.is_some() => {}
            }
        }
    }

    fn take(&mut self, reply: &AppendEntriesReply) -> Result<Option<Matching>, Failed> {
        self.due = Instant::now() + self.bound;
        let reply = wire::read_append_reply(reply).map_err(|e| unreadable(&e))?;
        let told = self.window.answered(reply).map_err(strange)?;
        if told.is_none() && !self.window.is_waiting() {
            // It is kept back for what is postponed: that waits no longer.
            self.post_postponed();
        }
        Ok(told)
    }

    fn post_postponed(&mut self) {
        if let Some((message, _)) = self.postponed.take()
            && let Some(Sent { prev, last, .. }) = self.window.postponed
        {
            self.post(message, prev, last);
        }
    }

    fn send(&mut self, request: &AppendEntriesRequest<TypeConfig>) {
        let mut message = wire::append_request(request);
        // The rest of what doesn't fit comes with another call, as if this had been all.
        self.window.over = fit(&mut message);
        let prev = request.prev_log_id;
        let last = request.entries.get(..message.entries.len());
        let last = last.and_then(<[_]>::last).map(RaftEntry::log_id).or(prev);
        if self.window.postpones(prev, last) {
            let until = self.postponed.take().map(|(_, until)| until);
            let until = until.unwrap_or_else(|| Instant::now() + POSTPONED);
            self.postponed = Some((message, until));
            return;
        }
        self.postponed = None;
        self.post(message, prev, last);
    }

    fn post(&mut self, message: WireAppend, prev: Option<LogId>, last: Option<LogId>) {
        let now = Instant::now();
        if !self.window.is_waiting() {
            self.due = now + self.bound;
        }
        self.window.push(prev, last);
        self.window.further = Some(now + PATIENCE);
        // There is room for all that is under way; when the call has ended, its answers say so.
        let _ = self.outgoing.try_send(message);
    }
}

fn strange(what: &str) -> Failed {
    RPCError::Network(NetworkError::from_string(what))
}

/// Begins a call, once there is something to send.
pub(super) async fn open<'s, S>(
    peering: &'s mut Peering,
    mut requests: S,
    option: RPCOption,
) -> Result<Answers<'s>, Failed>
where
    S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
{
    // Where calls have failed, openraft holds back the requests of the next: without waiting for one, a manager that
    // refuses connections would be called again at once, for as long as it does.
    let Some(first) = requests.next().await else {
        return Ok(stream::empty().boxed());
    };
    let bound = option.soft_ttl().max(APPEND_BOUND);
    let (outgoing, messages) = mpsc::channel(WINDOW);
    let call = peering.reach.call(&peering.peer);
    let opening = peering.client.stream_append(ReceiverStream::new(messages));
    let replies = match timeout(bound, opening).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => {
            call.failed(&root_cause(&status));
            return Err(failed(&status));
        }
        Err(_) => {
            drop(call);
            return Err(late(bound));
        }
    };
    call.answered();
    let mut session = Session {
        requests,
        outgoing,
        replies,
        window: Window::default(),
        postponed: None,
        due: Instant::now() + bound,
        bound,
        reach: peering.reach.clone(),
        peer: peering.peer.clone(),
    };
    session.send(&first);
    let answers = stream::unfold(Some(session), |session| async {
        let mut session = session?;
        let told = session.next().await?;
        // An error ends the call.
        let goes_on = matches!(told, Ok(Ok(_)));
        Some((told, goes_on.then_some(session)))
    });
    Ok(Box::pin(answers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::type_config::alias::LeaderIdOf;
    use openraft::vote::RaftLeaderIdExt;

    fn id(index: u64) -> Option<LogId> {
        let leader = LeaderIdOf::<TypeConfig>::new_committed(1, 7);
        Some(LogId::new(leader, index))
    }

    fn window(sent: &[(u64, u64)]) -> Window {
        let mut window = Window::default();
        for (prev, last) in sent {
            window.push(id(*prev), id(*last));
        }
        window
    }

    #[test]
    fn each_answer_is_told_as_it_comes() {
        let mut window = window(&[(0, 3), (3, 5)]);
        assert_eq!(window.answered(Reply::Success), Ok(Some(Ok(id(3)))));
        assert_eq!(window.answered(Reply::Success), Ok(Some(Ok(id(5)))));
        assert!(
            window.answered(Reply::Success).is_err(),
            "nothing was asked"
        );
    }

    #[test]
    fn an_answer_is_kept_while_it_would_pass_for_that_of_a_later_request() {
        let mut window = window(&[(0, 3), (3, 3), (3, 3), (3, 4)]);
        assert_eq!(window.answered(Reply::Success), Ok(None));
        assert_eq!(window.answered(Reply::Success), Ok(None));
        assert_eq!(window.answered(Reply::Success), Ok(Some(Ok(id(3)))));
        assert_eq!(window.answered(Reply::Success), Ok(Some(Ok(id(4)))));
    }

    #[test]
    fn a_further_request_waits_for_an_answer_but_not_for_long() {
        let now = Instant::now();
        let mut window = Window::default();
        assert!(window.has_room(now), "nothing is under way");
        for number in 1..=WINDOW as u64 {
            window.push(id(number - 1), id(number));
            window.further = Some(now + PATIENCE);
            assert!(!window.has_room(now));
            let is_last = number == WINDOW as u64;
            assert_eq!(window.room_comes(), (!is_last).then_some(now + PATIENCE));
            assert_eq!(window.has_room(now + PATIENCE), !is_last);
        }
        for _ in 1..WINDOW {
            assert!(window.answered(Reply::Success).is_ok());
            assert!(!window.has_room(now) && window.has_room(now + PATIENCE));
        }
        assert!(window.answered(Reply::Success).is_ok());
        assert!(window.has_room(now), "all is answered");
        assert_eq!(window.room_comes(), None);
    }

    #[test]
    fn what_is_not_taken_whole_ends_the_call() {
        let mut window = window(&[(0, 3), (3, 5)]);
        let part = Reply::PartialSuccess(id(2));
        assert_eq!(window.answered(part), Ok(Some(Ok(id(2)))));
        assert!(window.over && !window.is_waiting());
        let mut window = self::window(&[(3, 5), (5, 6)]);
        let conflict = StreamAppendError::Conflict(id(3).unwrap());
        assert_eq!(window.answered(Reply::Conflict), Ok(Some(Err(conflict))));
        assert!(window.over && !window.is_waiting());
    }

    #[test]
    fn what_is_postponed_goes_with_the_next_entries_and_is_answered_with_them() {
        let mut window = window(&[(0, 3)]);
        assert!(!window.postpones(id(3), id(3)), "nothing is known yet");
        assert_eq!(window.answered(Reply::Success), Ok(Some(Ok(id(3)))));
        assert!(!window.postpones(id(3), id(4)), "it has an entry");
        window.push(id(3), id(4));
        assert!(window.postpones(id(4), id(4)));
        assert_eq!(
            window.answered(Reply::Success),
            Ok(None),
            "not for that one"
        );
        window.push(id(4), id(5));
        window.push(id(5), id(6));
        assert_eq!(window.answered(Reply::Success), Ok(Some(Ok(id(5)))));
        assert_eq!(window.answered(Reply::Success), Ok(Some(Ok(id(6)))));
        assert!(window.postpones(id(6), id(6)) && window.postpones(id(6), id(6)));
        let late = window.postponed.unwrap();
        window.push(late.prev, late.last);
        assert!(window.postponed.is_none());
        assert_eq!(window.answered(Reply::Success), Ok(Some(Ok(id(6)))));
    }
}
