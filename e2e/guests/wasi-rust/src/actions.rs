//! The actions that `spec.action` can request. Most of them must be denied.

use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Performs the action. The result becomes `status.echo`.
pub fn act(spec: &Value) -> String {
    let delay = Duration::from_millis(spec["delayMs"].as_u64().unwrap_or_default());
    match spec["action"].as_str().unwrap_or_default() {
        "reach out" => reach_out(),
        "use grant" => use_grant(),
        "sleep" => {
            let begun = Instant::now();
            std::thread::sleep(delay);
            format!("slept={}", begun.elapsed().as_millis())
        }
        "panic" => panic!("the Probe asked for a panic"),
        _ => String::new(),
    }
}

/// Uses the grant of the test, and tries to reach beyond it.
fn use_grant() -> String {
    let yes_or_no = |ok| if ok { "yes" } else { "no" };
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_else(|error| error.to_string());
    let scratch = std::fs::write("/scratch/note", "written").map_or_else(|e| e.to_string(), |()| read("/scratch/note"));
    format!(
        "mode={} rule={} write-rules={} link={} up={} scratch={scratch}",
        std::env::var("MODE").unwrap_or_default(),
        read("/rules/rule"),
        yes_or_no(std::fs::write("/rules/rule", "x").is_ok() || std::fs::write("/rules/new", "x").is_ok()),
        yes_or_no(std::fs::read("/rules/link").is_ok()),
        yes_or_no(std::fs::read("/rules/../secret").is_ok() || std::fs::read("/scratch/../secret").is_ok()),
    )
}

/// Tries everything that WASI offers beyond clocks, random numbers and standard streams.
fn reach_out() -> String {
    let files = |path: &str| {
        [
            std::fs::read(path).map(drop),
            std::fs::read_dir(path).map(drop),
            std::fs::write(format!("{path}/wasmop"), b"x"),
            std::fs::metadata(path).map(drop),
        ]
    };
    let reached = [("/", files("/")), (".", files(".")), ("/etc/passwd", files("/etc/passwd"))]
        .into_iter()
        .flat_map(|(path, results)| results.map(|result| (path.to_owned(), result)))
        .chain([
            ("tcp".to_owned(), TcpStream::connect("127.0.0.1:1").map(drop)),
            ("tcp, by name".to_owned(), TcpStream::connect("localhost:80").map(drop)),
            ("udp".to_owned(), UdpSocket::bind("0.0.0.0:0").map(drop)),
            // Every controller has this variable, and its name as the first argument.
            (
                "environment".to_owned(),
                match std::env::vars_os().find(|(name, _)| name != "POD_NAMESPACE") {
                    Some(_) => Ok(()),
                    None => Err(std::io::ErrorKind::NotFound.into()),
                },
            ),
            ("arguments".to_owned(), std::env::args_os().nth(1).map(drop).ok_or(std::io::ErrorKind::NotFound.into())),
            (
                "input".to_owned(),
                match std::io::stdin().lines().next() {
                    Some(Ok(_)) => Ok(()),
                    _ => Err(std::io::ErrorKind::UnexpectedEof.into()),
                },
            ),
        ]);
    let reached: Vec<String> = reached.filter(|(_, result)| result.is_ok()).map(|(what, _)| what).collect();
    // The host must deny the connection. A refused connection was attempted.
    let refused = match TcpStream::connect("127.0.0.1:1") {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => "a connection was tried",
        _ => "denied",
    };
    format!("reached={} tcp={refused}", reached.join(","))
}
