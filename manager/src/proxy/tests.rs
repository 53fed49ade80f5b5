use super::*;
use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;
use tonic::transport::{Endpoint, Server};

const PATH: &str = "/clusterd.v1.Control/Exec";

/// The claimed caller of each call, and whether it was marked as the leader's.
type Claims = Arc<Mutex<Vec<(Option<String>, bool)>>>;

/// A server that answers every call with its own body, frame by frame, and then trailers; or with a status
/// for the first calls.
struct Echo {
    addr: String,
    calls: Arc<AtomicUsize>,
    claims: Claims,
    _stop: DropGuard,
}

async fn echo(first: Vec<Status>) -> Echo {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let stop = CancellationToken::new();
    let calls = Arc::new(AtomicUsize::new(0));
    let claims = Claims::default();
    let (count, seen, first) = (
        calls.clone(),
        claims.clone(),
        Arc::new(Mutex::new(VecDeque::from(first))),
    );
    let service = tower::service_fn(move |request: Request<Body>| {
        count.fetch_add(1, Ordering::SeqCst);
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .map(|v| v.to_str().unwrap().to_owned())
        };
        seen.lock()
            .unwrap()
            .push((header(CALLER_HEADER), header(HOP_HEADER).is_some()));
        let refused = first.lock().unwrap().pop_front();
        async move {
            if let Some(status) = refused {
                return Ok::<_, Infallible>(status.into_http());
            }
            let (tx, rx) = mpsc::channel(4);
            tokio::spawn(async move {
                let mut body = request.into_body();
                while let Some(Ok(frame)) = body.frame().await {
                    if tx.send(Ok::<_, Status>(frame)).await.is_err() {
                        return;
                    }
                }
                let trailers =
                    HeaderMap::from_iter([("grpc-status".parse().unwrap(), "7".parse().unwrap())]);
                let _ = tx.send(Ok(Frame::trailers(trailers))).await;
            });
            Ok(Response::new(Body::new(StreamBody::new(
                ReceiverStream::new(rx),
            ))))
        }
    });
    let incoming = TcpListenerStream::new(listener);
    let token = stop.clone();
    tokio::spawn(async move {
        Server::builder()
            .serve_with_incoming_shutdown(service, incoming, token.cancelled_owned())
            .await
    });
    Echo {
        addr,
        calls,
        claims,
        _stop: stop.drop_guard(),
    }
}

/// Goes where its list says, the last for ever.
struct Script {
    targets: Mutex<VecDeque<String>>,
    leader: bool,
}

impl Script {
    fn new(targets: &[&str], leader: bool) -> Arc<Self> {
        let targets = targets.iter().map(|addr| (*addr).to_owned()).collect();
        Arc::new(Self {
            targets: Mutex::new(targets),
            leader,
        })
    }
}

impl Upstream for Script {
    fn pick(&self, failures: &[Failure]) -> Target {
        let mut targets = self.targets.lock().unwrap();
        let addr = if targets.len() > 1 {
            targets.pop_front()
        } else {
            targets.front().cloned()
        };
        match addr {
            Some(addr) if addr != "-" && failures.iter().all(|failure| failure.addr != addr) => {
                let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
                Target::Peer {
                    channel: endpoint.connect_lazy(),
                    addr,
                    leader: self.leader,
                }
            }
            _ => Target::Wait,
        }
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn explain(&self, failures: Vec<Failure>) -> BoxFuture<'static, String> {
        let tried: Vec<_> = failures.into_iter().map(|failure| failure.addr).collect();
        Box::pin(std::future::ready(format!("tried {}", tried.join(", "))))
    }
}

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

fn request(body: Body) -> Request<Body> {
    let mut request = Request::post(PATH)
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap();
    request
        .extensions_mut()
        .insert(Origin::operator(Some(api::model::NodeId(5))));
    request
}

fn full(text: &'static str) -> Body {
    Body::new(StreamBody::new(stream::iter([Ok::<_, Status>(
        Frame::data(Bytes::from_static(text.as_bytes())),
    )])))
}

async fn call(upstream: Arc<dyn Upstream>, request: Request<Body>) -> Response<Body> {
    control(upstream).call(request).await.unwrap()
}

fn status_of(response: &Response<Body>) -> Status {
    Status::from_header_map(response.headers()).expect("no status")
}

#[tokio::test]
async fn frames_pass_both_ways_as_they_come_and_trailers_are_kept() {
    let echo = echo(vec![]).await;
    let (tx, rx) = mpsc::channel(1);
    let body = Body::new(StreamBody::new(ReceiverStream::new(rx)));
    let response = call(Script::new(&[&echo.addr], true), request(body)).await;
    let mut answer = response.into_body();
    for text in ["one", "two"] {
        // The second is sent only when the first has come back: nothing waits for the end.
        tx.send(Ok::<_, Status>(Frame::data(Bytes::from_static(
            text.as_bytes(),
        ))))
        .await
        .unwrap();
        let frame = answer.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
    }
    drop(tx);
    let last = answer
        .frame()
        .await
        .unwrap()
        .unwrap()
        .into_trailers()
        .unwrap();
    assert_eq!(last["grpc-status"], "7");
    let claims = echo.claims.lock().unwrap().clone();
    assert_eq!(
        claims,
        [(
            Some(Origin::operator(Some(api::model::NodeId(5))).to_string()),
            true
        )]
    );
}

#[tokio::test]
async fn who_can_not_be_reached_is_passed_over_and_told_when_nobody_can() {
    let (echo, dead) = (echo(vec![]).await, nobody().await);
    let response = call(Script::new(&[&dead, &echo.addr], false), request(full("x"))).await;
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "x"
    );

    let response = call(Script::new(&[&dead], false), request(full("x"))).await;
    assert_eq!(status_of(&response).code(), Code::Unavailable);
    assert_eq!(status_of(&response).message(), format!("tried {dead}"));
}

#[tokio::test]
async fn a_call_that_was_not_worked_on_is_made_again_with_its_whole_body() {
    let echo = echo(vec![retry_elsewhere("not me"), retry_elsewhere("not me")]).await;
    let response = call(Script::new(&[&echo.addr], true), request(full("whole"))).await;
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "whole"
    );
    assert_eq!(echo.calls.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_refusal_is_passed_on_as_it_is_and_not_tried_again() {
    let echo = echo(vec![Status::not_found("no such thing")]).await;
    let response = call(Script::new(&[&echo.addr], true), request(full("x"))).await;
    assert_eq!(status_of(&response).message(), "no such thing");
    assert_eq!(echo.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_call_that_was_taken_for_the_leaders_goes_no_further() {
    let echo = echo(vec![]).await;
    let mut call_of_another = request(full("x"));
    call_of_another
        .headers_mut()
        .insert(HOP_HEADER, HeaderValue::from_static("1"));
    let response = call(Script::new(&[&echo.addr], true), call_of_another).await;
    assert!(response.headers().contains_key(RETRY_HEADER));
    assert_eq!(echo.calls.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_call_waits_while_there_is_no_leader() {
    let echo = echo(vec![]).await;
    let response = call(
        Script::new(&["-", "-", "-", &echo.addr], true),
        request(full("x")),
    )
    .await;
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "x"
    );
}

#[tokio::test]
async fn a_node_without_a_cluster_says_what_to_do() {
    let switch = Switch::new();
    let response = call(switch.clone(), request(full("x"))).await;
    assert!(status_of(&response).message().contains("clusterctl init"));
    let echo = echo(vec![]).await;
    switch.set(Some(Script::new(&[&echo.addr], false)));
    let response = call(switch, request(full("x"))).await;
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "x"
    );
}
