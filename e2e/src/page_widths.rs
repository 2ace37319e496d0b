//! The host's page in windows of several widths: no content may be wider than its window.
//!
//! A server of the test shows the page in frames, with a script that measures them. The page gets controllers that need
//! much space.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::browser;

/// Widths of phones, tablets, laptops, desktops, and some between, in CSS pixels.
const WIDTHS: [u32; 7] = [360, 620, 800, 960, 1200, 1420, 1920];

/// Checks that the page does not scroll sideways. `overview`: the response of `/api/controllers`.
pub async fn fits(page: &str, overview: &str) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (page, overview) = (page.to_owned(), demanding(overview)?);
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A browser that disconnects is no failure.
            let _ = answer(stream, &page, &overview).await;
        }
    });
    let profile = tempfile::tempdir()?;
    let measured = measured(address, profile.path()).await;
    server.abort();
    for (width, measured) in measured? {
        let (outer, inner) = measured.split_once(' ').context("two measures")?;
        for (what, measure) in [("page", outer), ("table", inner)] {
            let (content, room) = measure.split_once('/').context("a measure")?;
            let (content, room): (u32, u32) = (content.parse()?, room.parse()?);
            ensure!(room > width / 2, "at {width} px the {what} has only {room} px");
            ensure!(content <= room, "at {width} px the {what} is {content} px wide, {room} px are visible");
        }
    }
    Ok(())
}

/// By width: content and visible width of the page, and of its table.
async fn measured(address: SocketAddr, profile: &Path) -> Result<Vec<(u32, String)>> {
    let document = browser::document(address, profile).await?;
    WIDTHS
        .iter()
        .map(|width| {
            let begin = format!("id=\"w{width}\" data-measured=\"");
            let rest = document.split_once(&begin).with_context(|| format!("no measure at {width} px:\n{document}"))?.1;
            Ok((*width, rest.split('"').next().unwrap_or_default().to_owned()))
        })
        .collect()
}

/// Adds a controller with a long name, a long error and large numbers.
fn demanding(overview: &str) -> Result<String> {
    let mut overview: Value = serde_json::from_str(overview)?;
    let controllers = overview["controllers"].as_array_mut().context("no controllers")?;
    let mut controller = controllers.first().context("no controller")?.clone();
    controller["name"] = "certificates-".repeat(4).as_str()[..51].into();
    for key in ["resident_bytes", "disk_bytes", "written_bytes", "reconciles", "reconcile_errors", "resumes"] {
        controller[key] = 1_234_567_890_u64.into();
    }
    controller["last_error"] = serde_json::json!({
        "timestamp_seconds": 1.0,
        "object": format!("{}/{}", "namespace".repeat(7), "object".repeat(40)),
        "message": "unbroken".repeat(60),
    });
    controllers.push(controller);
    Ok(overview.to_string())
}

fn frames() -> String {
    let frames: String = WIDTHS
        .iter()
        .map(|width| format!("<iframe width=\"{width}\" height=\"600\" src=\"/page\" id=\"w{width}\"></iframe>\n"))
        .collect();
    format!(
        "<!doctype html><style>iframe {{ border: 0; display: block }}</style>{frames}<script>
setInterval(() => {{
  for (const frame of document.querySelectorAll('iframe')) {{
    const page = frame.contentDocument?.documentElement, table = page?.querySelector('.scroll');
    if (!table?.querySelector('td')) continue;
    frame.dataset.measured = `${{page.scrollWidth}}/${{page.clientWidth}} ${{table.scrollWidth}}/${{table.clientWidth}}`;
  }}
}}, 100);
</script>"
    )
}

async fn answer(mut stream: TcpStream, page: &str, overview: &str) -> Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < 16 << 10 {
        request.push(stream.read_u8().await?);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let (kind, body) = match request.split(' ').nth(1) {
        Some("/") => ("text/html; charset=utf-8", frames()),
        Some("/page") => ("text/html; charset=utf-8", page.to_owned()),
        _ => ("application/json", overview.to_owned()),
    };
    let head = format!("HTTP/1.0 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    Ok(())
}
