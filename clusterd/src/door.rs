//! What other nodes reach here: it changes when this node becomes a manager, or one no more, and the connections stay.

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service;

/// Routes that can be replaced: calls made from then on reach the new ones, those under way end where they began.
#[derive(Clone)]
pub struct Door(Arc<ArcSwap<Routes>>);

impl Door {
    /// Leads to these.
    pub fn new(routes: Routes) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(routes)))
    }

    /// Leads to others from now on.
    pub fn lead_to(&self, routes: Routes) {
        self.0.store(Arc::new(routes));
    }

    /// For a server.
    pub fn routes(&self) -> Routes {
        Routes::default()
            .into_axum_router()
            .fallback_service(self.clone())
            .into()
    }
}

impl<B> Service<Request<B>> for Door
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // A router is always ready.
        let mut routes = Routes::clone(&self.0.load());
        let response = routes.call(request);
        Box::pin(async move { Ok(response.await?.map(Body::new)) })
    }
}
