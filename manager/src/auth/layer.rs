//! The table as a tower layer.

use super::{CALLER_HEADER, Caller, Denied, Policy, decide};
use crate::certificate::Certificate;
use crate::clock::now;
use http::{Request, Response};
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo, UdsConnectInfo};
use tower::{Layer, Service};

/// Puts the table before a service.
#[derive(Clone)]
pub struct AuthLayer {
    policy: Arc<dyn Policy>,
}

impl AuthLayer {
    /// Decides by what this policy knows.
    #[must_use]
    pub fn new(policy: Arc<dyn Policy>) -> Self {
        Self { policy }
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService {
            inner,
            policy: self.policy.clone(),
        }
    }
}

/// Puts the table before routes.
#[must_use]
pub fn guard(routes: Routes, policy: Arc<dyn Policy>) -> Routes {
    routes
        .into_axum_router()
        .layer(AuthLayer::new(policy))
        .into()
}

/// A service behind the table. Calls it lets through carry their [`super::Origin`] and the [`Caller`] as
/// extensions.
#[derive(Clone)]
pub struct AuthService<S> {
    inner: S,
    policy: Arc<dyn Policy>,
}

impl<S, B, R> Service<Request<B>> for AuthService<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    S::Future: Send + 'static,
    R: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    R::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = futures_util::future::BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let caller = caller(request.extensions());
        let claim = request
            .headers()
            .get(CALLER_HEADER)
            .and_then(|value| value.to_str().ok());
        let decision = decide(request.uri().path(), &caller, claim, &*self.policy);
        request.headers_mut().remove(CALLER_HEADER);
        match decision {
            Ok(origin) => {
                request.extensions_mut().insert(origin);
                request.extensions_mut().insert(caller);
                let response = self.inner.call(request);
                Box::pin(async move { Ok(response.await?.map(Body::new)) })
            }
            Err(denied) => {
                tracing::debug!(path = request.uri().path(), ?caller, "denied: {denied}");
                let response = status(&denied).into_http();
                Box::pin(async move { Ok(response) })
            }
        }
    }
}

fn status(denied: &Denied) -> Status {
    let text = denied.to_string();
    match denied {
        Denied::NoSuchCall(_) => Status::unimplemented(text),
        Denied::Unidentified(_) | Denied::Strange(_) => Status::unauthenticated(text),
        Denied::Gone(_) => crate::dispatch::removed(text),
        _ => Status::permission_denied(text),
    }
}

/// Who makes a call, by what its listener noted of the connection. A listener of another kind may note a
/// [`Caller`] itself.
fn caller(extensions: &http::Extensions) -> Caller {
    if let Some(caller) = extensions.get::<Caller>() {
        return caller.clone();
    }
    if let Some(info) = extensions.get::<TlsConnectInfo<TcpConnectInfo>>() {
        let addr: Option<IpAddr> = info.get_ref().remote_addr().map(|addr| addr.ip());
        let certificates = info.peer_certs();
        return match certificates.as_deref().and_then(|chain| chain.first()) {
            None => Caller::Unknown(addr),
            // Judged at each call: a connection may outlive the certificate it was made with.
            Some(certificate) => match Certificate::from_der(certificate) {
                Ok(read) if read.has_ended(now()) => Caller::Ended(read.identity, addr),
                Ok(read) => Caller::Peer(read.identity, addr),
                Err(error) => Caller::Strange(error.to_string()),
            },
        };
    }
    if extensions.get::<UdsConnectInfo>().is_some() {
        return Caller::Local;
    }
    Caller::Unknown(None)
}
