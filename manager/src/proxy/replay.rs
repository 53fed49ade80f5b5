//! A request's body that can be sent again from its beginning, as long as it was short.

use bytes::Bytes;
use http_body::Frame;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;

/// Bytes kept; a longer body can't be sent again.
const LIMIT: usize = 4 << 20;

struct Shared {
    rest: Body,
    ended: bool,
    kept: Vec<Bytes>,
    kept_bytes: usize,
    /// Frames are kept as they pass.
    keeping: bool,
    /// Some frame was not kept.
    lost: bool,
    /// Which of the bodies handed out may read.
    turn: u64,
}

/// The body, of which one copy at a time may be read.
pub(super) struct Replay(Arc<Mutex<Shared>>);

impl Replay {
    pub(super) fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Shared {
            rest: body,
            ended: false,
            kept: Vec::new(),
            kept_bytes: 0,
            keeping: true,
            lost: false,
            turn: 0,
        })))
    }

    /// The body from its beginning. The one handed out before ends.
    pub(super) fn body(&self) -> Body {
        let mut shared = lock(&self.0);
        shared.turn += 1;
        Body::new(Copy {
            shared: self.0.clone(),
            next: 0,
            turn: shared.turn,
        })
    }

    /// Whether the whole of it can still be sent again.
    pub(super) fn can_repeat(&self) -> bool {
        !lock(&self.0).lost
    }

    /// Somebody has taken the call: nothing more is kept.
    pub(super) fn accept(&self) {
        lock(&self.0).keeping = false;
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    // A panic in a body's poll ends that body; the rest is whole.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Copy {
    shared: Arc<Mutex<Shared>>,
    next: usize,
    turn: u64,
}

impl http_body::Body for Copy {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let copy = self.get_mut();
        let mut shared = lock(&copy.shared);
        if shared.turn != copy.turn {
            return Poll::Ready(None);
        }
        if let Some(bytes) = shared.kept.get(copy.next) {
            let bytes = bytes.clone();
            copy.next += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if shared.ended {
            return Poll::Ready(None);
        }
        // How a body ends that its sender ends after its last frame: an empty one, which says so. Sent on, it would
        // not, and of those a connection takes 100 before it is ended (h2's bound on frames that say nothing).
        let frame = loop {
            match Pin::new(&mut shared.rest).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                frame => break frame,
            }
        };
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(bytes) = frame.data_ref() {
                    if shared.keeping && shared.kept_bytes + bytes.len() <= LIMIT {
                        shared.kept_bytes += bytes.len();
                        let bytes = bytes.clone();
                        shared.kept.push(bytes);
                        copy.next = shared.kept.len();
                    } else {
                        (shared.keeping, shared.lost) = (false, true);
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                shared.lost = true;
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                shared.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};

    fn body(parts: &[&'static str]) -> Body {
        let frames: Vec<_> = parts
            .iter()
            .map(|part| Ok::<_, Status>(Frame::data(Bytes::from_static(part.as_bytes()))))
            .collect();
        Body::new(StreamBody::new(stream::iter(frames)))
    }

    async fn text(body: Body) -> String {
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_body_is_read_again_from_its_beginning() {
        let replay = Replay::new(body(&["one ", "two ", "three"]));
        let mut first = replay.body();
        let frame = first.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "one ");
        let second = replay.body();
        assert!(first.frame().await.is_none(), "the first copy reads on");
        assert_eq!(text(second).await, "one two three");
        assert!(replay.can_repeat());
        assert_eq!(text(replay.body()).await, "one two three");
    }

    #[tokio::test]
    async fn a_frame_that_says_nothing_is_not_sent_on() {
        let replay = Replay::new(body(&["", "one", "", ""]));
        let mut copy = replay.body();
        let frame = copy.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "one");
        assert!(copy.frame().await.is_none());
        assert_eq!(text(replay.body()).await, "one");
    }

    #[tokio::test]
    async fn a_taken_body_is_read_to_its_end_and_kept_no_more() {
        let replay = Replay::new(body(&["one ", "two ", "three"]));
        let mut copy = replay.body();
        copy.frame().await.unwrap().unwrap();
        replay.accept();
        assert_eq!(text(copy).await, "two three");
        assert!(!replay.can_repeat());
    }

    #[tokio::test]
    async fn a_long_body_can_not_be_repeated_but_is_sent() {
        let part: &'static str = "x".repeat(LIMIT / 2 + 1).leak();
        let replay = Replay::new(body(&[part, part]));
        assert_eq!(text(replay.body()).await.len(), LIMIT + 2);
        assert!(!replay.can_repeat());
    }
}
