//! One instance's WASI 0.2, for packages of the soft tier.
//!
//! Denied: sockets and name lookup. Files: only what the owner grants ([`WasiGrant`]), by default nothing. Environment
//! and arguments: as of any controller ([`Startup`]). Clocks and random numbers: the machine's. Standard output and
//! error: the host's log.

mod grant;

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use wasmop_core::startup::{PROGRAM, Startup};
use wasmop_core::step::LogLine;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{WasiCtx, WasiCtxView};

use crate::log_limit::MAX_LOG_BYTES_PER_STEP;

pub use grant::{Directory, WasiGrant};

/// Most handles of one instance: streams, pollables and errors.
pub(crate) const MAX_HANDLES: usize = 4096;
/// Most handles of an instance that may open files: each is a file descriptor of the host.
const MAX_HANDLES_WITH_FILES: usize = 128;
/// Most random bytes of one call. The host makes them in its own memory first.
const MAX_RANDOM: u64 = 1 << 20;

/// The WASI state of one instance.
pub(crate) struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    /// Name and content of the standard streams.
    streams: [(&'static str, CapturedStream); 2],
}

impl Wasi {
    /// The state of a new instance.
    ///
    /// # Errors
    /// If a granted directory cannot be opened; the error names it.
    pub fn granting(grant: &WasiGrant, startup: &Startup) -> io::Result<Wasi> {
        let streams = [("stdout", CapturedStream::default()), ("stderr", CapturedStream::default())];
        let mut table = ResourceTable::new();
        table.set_max_capacity(if grant.directories.is_empty() { MAX_HANDLES } else { MAX_HANDLES_WITH_FILES });
        // wasmtime denies everything that is not named here, and a test checks it.
        let mut builder = WasiCtx::builder();
        builder
            .stdout(streams[0].1.clone())
            .stderr(streams[1].1.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(MAX_RANDOM)
            // The step's own thread reads files, in its run slot.
            .allow_blocking_current_thread(true);
        for (name, value) in &startup.env {
            builder.env(name, value);
        }
        builder.arg(PROGRAM).args(&startup.args);
        for directory in &grant.directories {
            directory.open_in(&mut builder)?;
        }
        Ok(Wasi { ctx: builder.build(), table, streams })
    }

    /// What wasmtime's implementation works on.
    pub fn view(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.ctx, table: &mut self.table }
    }

    /// The instance's handles.
    pub fn table(&mut self) -> &mut ResourceTable {
        &mut self.table
    }

    /// Takes the content of the standard streams as lines; the rest after the last newline is one too. Returns the number
    /// of bytes that the guest wrote.
    pub fn take_lines(&mut self, lines: &mut Vec<LogLine>) -> usize {
        let mut bytes = 0;
        for (target, output) in &self.streams {
            let mut written = output.0.lock();
            bytes += written.total;
            let text = std::mem::take(&mut *written).bytes;
            lines.extend(String::from_utf8_lossy(&text).lines().map(|line| LogLine {
                level: tracing::Level::INFO,
                target: (*target).into(),
                message: line.into(),
                fields: String::new(),
            }));
        }
        bytes
    }
}

/// A standard stream, collected during a step and logged after it.
#[derive(Clone, Default)]
struct CapturedStream(Arc<Mutex<CapturedBytes>>);

#[derive(Default)]
struct CapturedBytes {
    /// At most [`MAX_LOG_BYTES_PER_STEP`].
    bytes: Vec<u8>,
    /// Bytes written, those dropped included.
    total: usize,
}

impl IsTerminal for CapturedStream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for CapturedStream {
    /// Used by WASI 0.3, which is not linked.
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for CapturedStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut written = self.0.lock();
        written.total = written.total.saturating_add(bytes.len());
        let room = MAX_LOG_BYTES_PER_STEP - written.bytes.len();
        written.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

impl Pollable for CapturedStream {
    // The signature that `async_trait` generates.
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use wasmtime_wasi::cli::WasiCliCtxView;
    use wasmtime_wasi::filesystem::WasiFilesystemCtxView;
    use wasmtime_wasi::p2::bindings::cli::environment::Host as _;
    use wasmtime_wasi::p2::bindings::filesystem::preopens::Host as _;
    use wasmtime_wasi::p2::bindings::sockets::instance_network::Host as _;
    use wasmtime_wasi::p2::bindings::sockets::ip_name_lookup::Host as _;
    use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily};
    use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
    use wasmtime_wasi::p2::bindings::sync::sockets::udp_create_socket::Host as _;
    use wasmtime_wasi::sockets::WasiSocketsCtxView;

    use super::*;

    #[test]
    fn the_default_grant_denies_the_machine() {
        let mut wasi = Wasi::granting(&WasiGrant::default(), &Startup::default()).unwrap();
        let (ctx, table) = (&mut wasi.ctx, &mut wasi.table);
        let mut cli = WasiCliCtxView { ctx: ctx.cli(), table };
        assert_eq!(cli.get_environment().unwrap(), []);
        assert_eq!(cli.get_arguments().unwrap(), [PROGRAM]);
        assert_eq!(cli.initial_cwd().unwrap(), None);
        let mut files = WasiFilesystemCtxView { ctx: ctx.filesystem(), table };
        assert!(files.get_directories().unwrap().is_empty());
        let mut sockets = WasiSocketsCtxView { ctx: ctx.sockets(), table };
        for family in [IpAddressFamily::Ipv4, IpAddressFamily::Ipv6] {
            let denied = sockets.create_tcp_socket(family).unwrap_err().downcast().unwrap();
            assert_eq!(denied, ErrorCode::AccessDenied);
            assert!(sockets.create_udp_socket(family).is_err());
        }
        let network = sockets.instance_network().unwrap();
        assert!(sockets.resolve_addresses(network, "localhost".into()).is_err());
    }

    #[test]
    fn an_instance_gets_exactly_what_is_granted() {
        let dir = tempfile::tempdir().unwrap();
        let directory = |source: &std::path::Path, destination: &str, writable| Directory {
            source: source.into(),
            destination: destination.into(),
            writable,
        };
        let grant = WasiGrant {
            directories: vec![directory(dir.path(), "/data", false), directory(dir.path(), "/scratch", true)],
        };
        let startup = Startup {
            env: [("MODE".into(), "strict".into())].into(),
            args: vec!["--all".into()],
            ..Startup::default()
        };
        let mut wasi = Wasi::granting(&grant, &startup).unwrap();
        let (ctx, table) = (&mut wasi.ctx, &mut wasi.table);
        let mut cli = WasiCliCtxView { ctx: ctx.cli(), table };
        assert_eq!(cli.get_environment().unwrap(), [("MODE".to_owned(), "strict".to_owned())]);
        assert_eq!(cli.get_arguments().unwrap(), [PROGRAM, "--all"]);
        let mut files = WasiFilesystemCtxView { ctx: ctx.filesystem(), table };
        let opened = files.get_directories().unwrap();
        assert_eq!(opened.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>(), ["/data", "/scratch"]);
        let missing = dir.path().join("missing");
        let none = WasiGrant { directories: vec![directory(&missing, "/", false)] };
        let error = Wasi::granting(&none, &startup).err().unwrap().to_string();
        assert!(error.contains(&missing.display().to_string()), "{error}");
    }

    #[test]
    fn standard_streams_become_log_lines_up_to_the_limit() {
        let mut wasi = Wasi::granting(&WasiGrant::default(), &Startup::default()).unwrap();
        let mut lines = Vec::new();
        let mut stdout = wasi.streams[0].1.clone();
        for piece in ["one\ntw", "o\n", "rest"] {
            stdout.write(Bytes::from(piece)).unwrap();
        }
        wasi.streams[1].1.clone().write(Bytes::from_static(b"\xff!\n")).unwrap();
        assert_eq!(wasi.take_lines(&mut lines), 15);
        let shown: Vec<_> = lines.iter().map(|line| (line.target.as_str(), line.message.as_str())).collect();
        assert_eq!(shown, [("stdout", "one"), ("stdout", "two"), ("stdout", "rest"), ("stderr", "\u{fffd}!")]);
        let chunk = Bytes::from(vec![b'x'; 64 << 10]);
        for _ in 0..10 {
            stdout.write(chunk.clone()).unwrap();
        }
        lines.clear();
        assert_eq!(wasi.take_lines(&mut lines), 640 << 10);
        assert_eq!(lines[0].message.len(), MAX_LOG_BYTES_PER_STEP);
    }
}
