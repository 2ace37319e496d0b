//! Fetches `/api/controllers` from a host.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::Result;
use wasmop_host::status::Overview;

use crate::error::{Failure, failure};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longer than the 5 s after which a host gives up on its own loop.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
const PATH: &str = "/api/controllers";

/// The response as text.
pub fn text(address: &str) -> Result<String> {
    let (status, body) = get(address).map_err(|error| unreachable(address, &error.to_string()))?;
    if status != 200 {
        // A host that starts, shuts down or hangs says so in the body.
        let why = body.trim();
        let what = if why.is_empty() || why.contains('<') { format!("status {status}") } else { why.into() };
        return Err(failure(
            format!("{address} responds, but not with controllers: {what}"),
            "if this is a wasmop host, try again when it is ready; otherwise give the host's address with --address",
        )
        .into());
    }
    Ok(body)
}

/// The parsed response.
pub fn overview(address: &str) -> Result<Overview> {
    serde_json::from_str(&text(address)?).map_err(|error| {
        failure(
            format!("{address} responds, but not like a wasmop host: {error}"),
            "give the host's address with --address, and use the host's version of wasmop",
        )
        .into()
    })
}

fn unreachable(address: &str, why: &str) -> Failure {
    failure(
        format!("no host answers at {address}: {why}"),
        format!(
            "start the host with `wasmop run --metrics-address {address}`, or pass its address to `wasmop top --address`"
        ),
    )
}

/// Status and body.
fn get(address: &str) -> io::Result<(u16, String)> {
    // `run` listens on all interfaces with this form; here it is the local machine.
    let host = if address.starts_with(':') { format!("localhost{address}") } else { address.into() };
    let mut failed = io::Error::new(io::ErrorKind::InvalidInput, "the host name has no address");
    let mut connected = None;
    for resolved in host.to_socket_addrs()? {
        match TcpStream::connect_timeout(&resolved, CONNECT_TIMEOUT) {
            Ok(stream) => {
                connected = Some(stream);
                break;
            }
            Err(error) => failed = error,
        }
    }
    let mut stream = connected.ok_or(failed)?;
    stream.set_read_timeout(Some(RESPONSE_TIMEOUT))?;
    // With HTTP/1.0, the response ends with the connection.
    write!(stream, "GET {PATH} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => io::Error::new(error.kind(), "no response in time"),
        _ => error,
    })?;
    parse(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the response is not HTTP"))
}

fn parse(answer: &[u8]) -> Option<(u16, String)> {
    let answer = String::from_utf8_lossy(answer);
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::render;
    use crate::output::Paint;

    #[test]
    fn a_response_is_a_status_and_a_body() {
        assert_eq!(parse(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}"), Some((200, "{}".into())));
        assert_eq!(parse(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), Some((503, "".into())));
        for bad in [&b""[..], b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn an_unreachable_host_is_an_error_with_the_flag_of_run() {
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let text = render(&overview(&address).unwrap_err(), Paint::PLAIN);
        assert!(text.contains(&address) && text.contains("wasmop run --metrics-address"), "{text}");
    }
}
