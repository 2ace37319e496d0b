//! Requests to external hosts, with `kube`'s HTTP client.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use kube::{Client, Config};

use crate::fetch_error::FetchError;

/// Sends a request to `target`, which is a scheme and an authority, and reads the complete response.
pub async fn fetch(target: &str, request: Request<Bytes>) -> Result<Response<Bytes>, FetchError> {
    let fail = |error: &dyn std::error::Error| FetchError(format!("{target}: {error}"));
    let mut config = Config::new(target.parse().map_err(|error: http::uri::InvalidUri| fail(&error))?);
    config.default_retry = false;
    let client = Client::try_from(config).map_err(|error| fail(&error))?;
    let response = client.send(request.map(Body::from)).await.map_err(|error| fail(&error))?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|error| fail(&error))?.to_bytes();
    Ok(Response::from_parts(parts, body))
}
