//! The endpoint for traces, from the flag and OpenTelemetry's environment variables:
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>.

use http::Uri;

use crate::error::{Failure, failure};

const FLAG: &str = "--otlp-endpoint";
const ANY_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
const PROTOCOL: &str = "http/protobuf";
const TRACES_PATH: &str = "/v1/traces";

/// The whole URL, or `None` to send no traces. `variable` returns an environment variable that is not empty.
pub fn endpoint(flag: Option<&str>, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Uri>, Failure> {
    let is_disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if is_disabled || variable("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none") {
        return Ok(None);
    }
    let endpoint = if let Some(base) = flag {
        url(FLAG, base, TRACES_PATH)?
    } else if let Some(whole) = variable(TRACES_ENDPOINT) {
        url(TRACES_ENDPOINT, &whole, "")?
    } else if let Some(base) = variable(ANY_ENDPOINT) {
        url(ANY_ENDPOINT, &base, TRACES_PATH)?
    } else {
        return Ok(None);
    };
    if let Some((name, protocol)) = PROTOCOLS.iter().find_map(|name| Some((name, variable(name)?)))
        && protocol != PROTOCOL
    {
        return Err(failure(
            format!("{name}: `{protocol}` is not a supported protocol for traces"),
            format!("set it to `{PROTOCOL}`; collectors accept it on port 4318, and gRPC on 4317"),
        ));
    }
    Ok(Some(endpoint))
}

/// Parses a URL after appending `path`.
fn url(source: &str, text: &str, path: &str) -> Result<Uri, Failure> {
    let refused = |problem: &str| {
        failure(
            format!("{source}: `{text}` is not the URL of a collector: {problem}"),
            "write it like `http://127.0.0.1:4318`; put credentials into OTEL_EXPORTER_OTLP_HEADERS",
        )
    };
    let parse = |text: &str| text.parse().map_err(|error: http::uri::InvalidUri| refused(&error.to_string()));
    let uri: Uri = parse(text)?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err(refused("only http and https are supported")),
        None => return Err(refused("it has no scheme")),
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(refused("it has a user or a password"));
    }
    if !path.is_empty() && uri.query().is_some() {
        return Err(refused("it has a query"));
    }
    if path.is_empty() { Ok(uri) } else { parse(&format!("{}{path}", text.trim_end_matches('/'))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(flag: Option<&str>, variables: &[(&str, &str)]) -> Result<Option<String>, Failure> {
        let variable = |name: &str| variables.iter().find(|(it, _)| *it == name).map(|(_, value)| (*value).to_owned());
        endpoint(flag, variable).map(|uri| uri.map(|uri| uri.to_string()))
    }

    #[test]
    fn the_flag_takes_precedence_over_variables_and_a_whole_url_over_a_base() {
        let any = (ANY_ENDPOINT, "http://any:4318/");
        let traces = (TRACES_ENDPOINT, "https://traces/otlp?a=b");
        let flag = Some("http://flag:1/base/");
        for (flag, variables, expected) in [
            (None, &[][..], None),
            (None, &[any], Some("http://any:4318/v1/traces")),
            (None, &[any, traces], Some("https://traces/otlp?a=b")),
            (flag, &[any, traces], Some("http://flag:1/base/v1/traces")),
            (flag, &[("OTEL_SDK_DISABLED", "True")], None),
            (flag, &[("OTEL_SDK_DISABLED", "no")], Some("http://flag:1/base/v1/traces")),
            (None, &[any, ("OTEL_TRACES_EXPORTER", "none")], None),
            (None, &[any, (PROTOCOLS[0], PROTOCOL), (PROTOCOLS[1], "grpc")], Some("http://any:4318/v1/traces")),
            (None, &[(PROTOCOLS[1], "grpc")], None),
        ] {
            assert_eq!(at(flag, variables).unwrap().as_deref(), expected, "{flag:?} {variables:?}");
        }
    }

    #[test]
    fn a_bad_url_is_refused_with_its_source_and_a_remedy() {
        for (flag, variables, said) in [
            (Some("127.0.0.1:4318"), &[][..], "--otlp-endpoint: `127.0.0.1:4318` is not the URL of a collector"),
            (Some("collector"), &[], "it has no scheme"),
            (Some(""), &[], "--otlp-endpoint: ``"),
            (Some("grpc://a:4317"), &[], "only http and https"),
            (Some("http://u:p@a"), &[], "a user or a password"),
            (Some("http://a?b"), &[], "it has a query"),
            (None, &[(TRACES_ENDPOINT, "http://a b")], "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `http://a b`"),
            (None, &[(ANY_ENDPOINT, "x")], "OTEL_EXPORTER_OTLP_ENDPOINT: `x`"),
            (Some("http://a"), &[(PROTOCOLS[1], "grpc")], "OTEL_EXPORTER_OTLP_PROTOCOL: `grpc`"),
        ] {
            let text = crate::error::render(&at(flag, variables).unwrap_err().into(), crate::output::Paint::PLAIN);
            assert!(text.contains(said) && text.contains("help: "), "{said}: {text}");
        }
    }
}
