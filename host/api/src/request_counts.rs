//! Counts requests to the API server, the host's own and those of controllers, by method and code.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use http::{Method, Request, Response, StatusCode};
use tower::{BoxError, Service};

/// As client-go says of a request that no answer came to.
const NO_ANSWER: &str = "<error>";

/// Shared by all requests of a host.
#[derive(Default)]
pub struct RequestCounts(Mutex<BTreeMap<(MethodName, Option<StatusCode>), u64>>);

/// An ordinary method, or none of them: a guest may make one up, and every series is kept for ever.
type MethodName = &'static str;

impl RequestCounts {
    /// `code`: `None` if no answer came.
    pub fn count(&self, method: &Method, code: Option<StatusCode>) {
        let method = name(method);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((method, code)).or_default() += 1;
    }

    /// Method, code and number.
    pub fn all(&self) -> Vec<(&'static str, String, u64)> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let code = |code: Option<StatusCode>| code.map_or_else(|| NO_ANSWER.into(), |code| code.as_str().into());
        counts.iter().map(|((method, status), n)| (*method, code(*status), *n)).collect()
    }

    /// Puts itself before a client.
    pub fn before<S>(self: &Arc<Self>, inner: S) -> Counted<S> {
        Counted { inner, counts: self.clone() }
    }
}

fn name(method: &Method) -> MethodName {
    const USUAL: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    USUAL.into_iter().find(|usual| *usual == method.as_str()).unwrap_or("other")
}

/// See [`RequestCounts::before`].
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
    async fn requests_are_counted_by_method_and_code_and_a_made_up_method_is_none_of_its_own() {
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
