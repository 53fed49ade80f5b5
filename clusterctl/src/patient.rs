//! Says once that an answer is waited for, when it takes longer than a person expects.

use http::{Request, Response};
use std::future::Future;
use std::io::Write;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic::transport::{Channel, Error};
use tower::Service;

/// Until something is said.
const QUIET: Duration = Duration::from_millis(1500);

/// A channel that says when it is slow.
#[derive(Clone)]
pub struct Patient(pub Channel);

impl Service<Request<Body>> for Patient {
    type Response = Response<Body>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Service::<Request<Body>>::poll_ready(&mut self.0, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(say_after(QUIET, self.0.call(request), || {
            static SAID: AtomicBool = AtomicBool::new(false);
            if !SAID.swap(true, Ordering::Relaxed) {
                let text = "waiting for a manager's answer; Ctrl-C ends the wait";
                // With stderr closed there is nobody to tell.
                drop(writeln!(std::io::stderr().lock(), "{text}"));
            }
        }))
    }
}

async fn say_after<F: Future>(quiet: Duration, call: F, say: impl FnOnce()) -> F::Output {
    let mut call = pin!(call);
    match tokio::time::timeout(quiet, &mut call).await {
        Ok(done) => done,
        Err(_) => {
            say();
            call.await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_slow_is_told_and_what_is_not_is_not() {
        say_after(Duration::ZERO, async {}, || panic!("it was there at once")).await;
        let (tell, told) = tokio::sync::oneshot::channel();
        let waited = say_after(Duration::ZERO, told, || tell.send(5).unwrap()).await;
        assert_eq!(waited, Ok(5), "it goes on");
    }
}
