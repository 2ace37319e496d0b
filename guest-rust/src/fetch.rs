//! Requests to hosts other than the API server.

use bytes::Bytes;
use http::{Request, Response, Uri};

use crate::fetch_error::FetchError;

/// Sends a request to an absolute URI, such as `https://api.example.com/v1/things`, and returns the complete response.
///
/// A response with an error status is returned as `Ok`. Redirects are not followed.
///
/// In a wasmop host, the package must list the external host under `external-hosts` in `wasmop.toml`, and the owner
/// must grant it. The host may suspend the guest until the response arrives. The host forwards all headers except
/// `user-agent` and the hop-by-hop headers, which it sets itself.
///
/// # Errors
///
/// Fails if the URI is not absolute, if the owner has not granted the external host, or if the response is incomplete.
/// A response is incomplete, for example, if the wasmop host restarts during the request. In that case it is unknown
/// whether the server has processed the request.
///
/// ```no_run
/// # async fn notify() -> Result<(), Box<dyn std::error::Error>> {
/// let request = http::Request::post("https://hooks.example.com/deploy")
///     .header("authorization", "Bearer …")
///     .header("content-type", "application/json")
///     .body(r#"{"ready": true}"#)?;
/// let response = wasmop::fetch(request).await?;
/// if !response.status().is_success() {
///     tracing::warn!(status = %response.status(), "the webhook failed");
/// }
/// # Ok(())
/// # }
/// ```
pub async fn fetch(request: Request<impl Into<Bytes>>) -> Result<Response<Bytes>, FetchError> {
    let (mut parts, body) = request.into_parts();
    let (target, path) = split(&parts.uri)?;
    parts.uri = path;
    let request = Request::from_parts(parts, body.into());
    #[cfg(not(any(target_family = "wasm", test)))]
    return crate::native::fetch::fetch(&target, request).await;
    #[cfg(any(target_family = "wasm", test))]
    wasmop_runtime::calls::fetch(&target, request).await.map_err(|error| FetchError(error.to_string()))
}

/// Splits a URI into `https://host:port` and the path with its query.
fn split(uri: &Uri) -> Result<(String, Uri), FetchError> {
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(FetchError(format!("the URI {uri} is not absolute: it needs a scheme and a host")));
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let path = path.parse().map_err(|error| FetchError(format!("the path of the URI {uri} is invalid: {error}")))?;
    Ok((format!("{scheme}://{authority}"), path))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use wasmop_runtime::{abi, calls};

    #[test]
    fn fetch_calls_the_external_host_with_all_headers() {
        let request = Request::put("https://api.example.com:8443/a/b?c=d")
            .header("authorization", "Bearer x")
            .header("x-a", "1")
            .header("x-a", "2")
            .body("hello")
            .expect("a request");
        let mut fetch = Box::pin(fetch(request));
        assert!((&mut fetch).now_or_never().is_none());
        let headers = r#""authorization: Bearer x\nx-a: 1\nx-a: 2\n""#;
        assert_eq!(
            abi::recorded(),
            [format!("call 1 task 0 https://api.example.com:8443 PUT /a/b?c=d {headers} hello")]
        );
        calls::on_head(1, 302, b"location: https://elsewhere.example\nset-cookie: a\nset-cookie: b\n");
        calls::on_body(1, b"one ".to_vec());
        calls::on_body(1, b"two".to_vec());
        assert!((&mut fetch).now_or_never().is_none());
        calls::on_end(1);
        let response = fetch.now_or_never().expect("complete").expect("a response");
        assert_eq!((response.status().as_u16(), &response.body()[..]), (302, &b"one two"[..]));
        assert_eq!(response.headers().get_all("set-cookie").iter().count(), 2);
    }

    #[test]
    fn errors_state_the_reason() {
        let mut refused = Box::pin(fetch(Request::get("https://a.example").body("").expect("a request")));
        assert!((&mut refused).now_or_never().is_none());
        calls::on_failed(1, b"wasmop: no permission to contact https://a.example");
        let error = refused.now_or_never().expect("ready").expect_err("refused");
        assert_eq!(error.to_string(), "wasmop: no permission to contact https://a.example");
        let relative = fetch(Request::get("/a").body("").expect("a request")).now_or_never().expect("ready");
        assert!(relative.expect_err("not absolute").to_string().contains("is not absolute"));
    }
}
