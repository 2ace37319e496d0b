//! Counts requests by method and status code, for metrics.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response, StatusCode};
use parking_lot::Mutex;
use tower::{BoxError, Service};

/// client-go's code of a request without a response.
const NO_ANSWER: &str = "<error>";

/// The counts of one kind of requests.
#[derive(Default)]
pub struct RequestCounts(Mutex<BTreeMap<(MethodName, Option<StatusCode>), u64>>);

/// One of a fixed set: a guest may make methods up, and a series is kept for ever.
type MethodName = &'static str;

impl RequestCounts {
    /// Counts a request. `code`: `None` without a response.
    pub fn count(&self, method: &Method, code: Option<StatusCode>) {
        let method = name(method);
        let mut counts = self.0.lock();
        *counts.entry((method, code)).or_default() += 1;
    }

    /// All counts, as method, code and number.
    pub fn all(&self) -> Vec<(&'static str, String, u64)> {
        let counts = self.0.lock();
        let code = |code: Option<StatusCode>| code.map_or_else(|| NO_ANSWER.into(), |code| code.as_str().into());
        counts.iter().map(|((method, status), n)| (*method, code(*status), *n)).collect()
    }

    /// Wraps a client to count its requests.
    pub fn before<S>(self: &Arc<Self>, inner: S) -> Counted<S> {
        Counted { inner, counts: self.clone() }
    }
}

fn name(method: &Method) -> MethodName {
    const USUAL: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    USUAL.into_iter().find(|usual| *usual == method.as_str()).unwrap_or("other")
}

/// A client that counts its requests; see [`RequestCounts::before`].
#[derive(Clone)]
pub struct Counted<S> {
    inner: S,
    counts: Arc<RequestCounts>,
}

impl<S, A, B> Service<Request<A>> for Counted<S>
where
    S: Service<Request<A>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        let (method, counts) = (request.method().clone(), self.counts.clone());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            counts.count(&method, answer.as_ref().ok().map(Response::status));
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_method_and_code_and_unknown_methods_together() {
        let counts = Arc::new(RequestCounts::default());
        let service = tower::service_fn(|request: Request<()>| async move {
            match request.uri().path() {
                "/away" => Err(BoxError::from("away")),
                "/missing" => Ok(Response::builder().status(404).body(())?),
                _ => Ok(Response::new(())),
            }
        });
        for (method, path) in
            [("GET", "/"), ("GET", "/"), ("BREW", "/a"), ("BREW2", "/b"), ("PUT", "/missing"), ("GET", "/away")]
        {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            let _ = counts.before(service).oneshot(request).await;
        }
        let all = counts.all();
        let all: Vec<_> = all.iter().map(|(method, code, n)| (*method, code.as_str(), *n)).collect();
        assert_eq!(all, [("GET", "<error>", 1), ("GET", "200", 2), ("PUT", "404", 1), ("other", "200", 2)]);
    }
}
