//! Passes calls on, bodies untouched, to the manager that can serve them.
//!
//! ```text
//! clusterctl ─► socket of any node ─► a manager ─► the leader
//! ```
//!
//! Works on HTTP/2, below gRPC: unary, streaming and two-way calls alike, trailers kept. A call is tried
//! again only when it is certain that nobody has worked on it: there was no connection, or the answer
//! carries [`RETRY_HEADER`]. Knows neither Raft nor the state; where calls go is an [`Upstream`]'s matter.

mod replay;
mod switch;

pub use switch::{Switch, Workers};

use crate::auth::{Access, CALLER_HEADER, Caller, Origin, access};
use crate::dialer::{root_cause, was_not_sent};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, Uri, request::Parts};
use replay::Replay;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Layer, Service, ServiceExt};

/// An answer with this header was made before anything was done: the call may be made again elsewhere.
pub const RETRY_HEADER: &str = "x-cluster-retry";
/// A call with this header was sent to the node that was taken for the leader: it goes no further.
pub const HOP_HEADER: &str = "x-cluster-to-leader";
/// A read with this header is answered by the first manager it comes to, from what that has; a write is refused.
pub const STALE_HEADER: &str = "x-cluster-stale";
/// How long a call waits for a leader.
const PATIENCE: Duration = Duration::from_secs(6);
/// How long between two tries when nothing seems to change.
const PAUSE: Duration = Duration::from_millis(100);

/// A manager that could not be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// `host:port`.
    pub addr: String,
    /// Why.
    pub cause: String,
}

/// Where a call goes.
pub enum Target {
    /// It is served here.
    Here(Routes),
    /// It goes to a manager.
    Peer {
        /// `host:port`, for errors.
        addr: String,
        /// The way there.
        channel: Channel,
        /// It is taken for the leader.
        leader: bool,
    },
    /// Nowhere now; it may change soon.
    Wait,
    /// Nowhere.
    Refuse(Status),
}

/// Knows where calls go.
pub trait Upstream: Send + Sync + 'static {
    /// What this node serves itself, leader or not, if it is a manager.
    fn local(&self) -> Option<Routes> {
        None
    }
    /// Where to now, these having failed since the last change.
    fn pick(&self, failures: &[Failure]) -> Target;
    /// Returns once [`Upstream::pick`] may answer otherwise.
    fn changed(&self) -> BoxFuture<'static, ()>;
    /// For a person: why no manager serves the call.
    fn explain(&self, failures: Vec<Failure>) -> BoxFuture<'static, String>;
}

/// Whether a call is one that the leader serves and every other node passes on.
#[must_use]
pub fn is_leaders(path: &str) -> bool {
    path.starts_with("/clusterd.v1.Control/")
        || matches!(
            path,
            "/clusterd.v1.Ca/Issue"
                | "/clusterd.v1.Ca/Renew"
                | "/clusterd.v1.Raft/JoinRaft"
                | "/clusterd.v1.Raft/LeaveRaft"
        )
}

/// Puts the proxy before a service.
#[derive(Clone)]
pub struct ForwardLayer(Arc<dyn Upstream>);

impl ForwardLayer {
    /// Calls go where `upstream` says.
    #[must_use]
    pub fn new(upstream: Arc<dyn Upstream>) -> Self {
        Self(upstream)
    }
}

impl<S> Layer<S> for ForwardLayer {
    type Service = ForwardService<S>;

    fn layer(&self, inner: S) -> ForwardService<S> {
        ForwardService {
            inner,
            upstream: self.0.clone(),
        }
    }
}

/// Puts the proxy before routes: [`is_leaders`] calls go where `upstream` says, others to the routes.
#[must_use]
pub fn forward(routes: Routes, upstream: Arc<dyn Upstream>) -> Routes {
    // A router looks at layers only where it has a route or a fallback; tonic's has a fallback.
    routes
        .into_axum_router()
        .layer(ForwardLayer::new(upstream))
        .into()
}

/// A service behind the proxy.
#[derive(Clone)]
pub struct ForwardService<S> {
    inner: S,
    upstream: Arc<dyn Upstream>,
}

/// A client's end of the proxy, for this node's own calls.
pub(crate) fn ask(upstream: Arc<dyn Upstream>) -> ForwardService<Routes> {
    ForwardService {
        inner: Routes::default(),
        upstream,
    }
}

impl<S> tonic::server::NamedService for ForwardService<S> {
    const NAME: &'static str = "clusterd.v1.Control";
}

/// A service that passes control calls on where `upstream` says: for the local socket.
#[must_use]
pub fn control(upstream: Arc<dyn Upstream>) -> ForwardService<Routes> {
    ask(upstream)
}

impl<S, B, R> Service<Request<B>> for ForwardService<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
    R: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    R::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !is_leaders(request.uri().path()) {
            let response = self.inner.call(request);
            return Box::pin(async move { Ok(response.await?.map(Body::new)) });
        }
        let upstream = self.upstream.clone();
        let (parts, body) = request.into_parts();
        Box::pin(async move { Ok(pass_on(&*upstream, parts, Body::new(body)).await) })
    }
}

/// Tries until somebody has taken the call, or patience ends.
async fn pass_on(upstream: &dyn Upstream, mut parts: Parts, body: Body) -> Response<Body> {
    let last_hop = parts.headers.remove(HOP_HEADER).is_some();
    if parts.headers.contains_key(STALE_HEADER) {
        let looks = [Some(Access::Read), Some(Access::Inspect)];
        if !looks.contains(&access(parts.uri.path())) {
            return only_reads().into_http();
        }
        if let Some(mut routes) = upstream.local() {
            let Ok(response) = routes.call(rebuilt(&parts, body)).await;
            return response;
        }
    }
    let deadline = Instant::now() + PATIENCE;
    let replay = Replay::new(body);
    let mut failures: Vec<Failure> = Vec::new();
    loop {
        let changed = upstream.changed();
        match upstream.pick(&failures) {
            Target::Refuse(status) => return status.into_http(),
            Target::Here(mut routes) => {
                let request = rebuilt(&parts, replay.body());
                let Ok(response) = routes.call(request).await;
                if !wants_retry(&response) {
                    replay.accept();
                    return response;
                }
                if last_hop {
                    return response;
                }
            }
            // Who sent it here looks for the leader again.
            _ if last_hop => return not_the_leader(),
            Target::Wait => {}
            Target::Peer {
                addr,
                channel,
                leader,
            } => {
                match send(channel, outgoing(&parts, replay.body(), leader)).await {
                    Ok(response) if !wants_retry(&response) => {
                        replay.accept();
                        return response;
                    }
                    Ok(_) => {}
                    Err(error) if was_not_sent(&error) => {
                        let cause = root_cause(&error);
                        failures.retain(|failure| failure.addr != addr);
                        failures.push(Failure { addr, cause });
                        if !leader {
                            // The next one, at once.
                            continue;
                        }
                    }
                    Err(error) => return broke_off(&addr, &root_cause(&error)).into_http(),
                }
            }
        }
        let over = Instant::now() >= deadline;
        if over || !replay.can_repeat() {
            return Status::unavailable(upstream.explain(failures).await).into_http();
        }
        if timeout(PAUSE, changed).await.is_ok() {
            // A change that is no help must not make a busy loop.
            sleep(Duration::from_millis(5)).await;
        }
        if let Target::Wait = upstream.pick(&failures) {
            // All were tried: the next round begins.
            upstream_round(&mut failures, deadline);
        }
    }
}

/// Begins a new round over the managers; near the end the failures stay, to be told.
fn upstream_round(failures: &mut Vec<Failure>, deadline: Instant) {
    if Instant::now() + 2 * PAUSE < deadline {
        failures.clear();
    }
}

fn rebuilt(parts: &Parts, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = parts.headers.clone();
    if let Some(origin) = parts.extensions.get::<Origin>() {
        request.extensions_mut().insert(*origin);
    }
    if let Some(caller) = parts.extensions.get::<Caller>() {
        request.extensions_mut().insert(caller.clone());
    }
    request
}

fn outgoing(parts: &Parts, body: Body, leader: bool) -> Request<Body> {
    let mut request = rebuilt(parts, body);
    // Scheme and authority are the channel's.
    if let Some(path) = parts.uri.path_and_query() {
        *request.uri_mut() = Uri::from(path.clone());
    }
    let headers = request.headers_mut();
    headers.remove(http::header::HOST);
    // Nobody speaks for others but the proxy itself.
    headers.remove(CALLER_HEADER);
    if let Some(origin) = parts.extensions.get::<Origin>()
        && let Ok(value) = HeaderValue::try_from(origin.to_string())
    {
        headers.insert(CALLER_HEADER, value);
    }
    if leader {
        headers.insert(HOP_HEADER, HeaderValue::from_static("1"));
    }
    request
}

async fn send(
    mut channel: Channel,
    request: Request<Body>,
) -> Result<Response<Body>, tonic::transport::Error> {
    channel.ready().await?.call(request).await
}

fn wants_retry(response: &Response<Body>) -> bool {
    response.headers().contains_key(RETRY_HEADER)
}

/// The status of a call on which nothing was done because this node does not lead.
pub(crate) fn retry_elsewhere(text: impl Into<String>) -> Status {
    let mut status = Status::new(Code::Unavailable, text);
    status.metadata_mut().insert(
        RETRY_HEADER,
        tonic::metadata::MetadataValue::from_static("1"),
    );
    status
}

fn only_reads() -> Status {
    Status::invalid_argument(
        "--stale is for commands that only look: a change needs the leader and a majority of the managers",
    )
}

fn not_the_leader() -> Response<Body> {
    retry_elsewhere("this manager does not lead (any more)").into_http()
}

fn broke_off(addr: &str, cause: &str) -> Status {
    Status::unavailable(format!(
        "the connection to manager {addr} broke off ({cause}); the call may have been done: look before you make it again"
    ))
}

#[cfg(test)]
mod tests;
