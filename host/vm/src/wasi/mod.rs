//! WASI 0.2 for packages of the soft tier: no sockets and no names; of files what the owner grants ([`WasiGrant`]),
//! which is nothing by default; environment and arguments as any controller has them ([`Startup`]). Clocks and random numbers are the machine's,
//! standard output and error go to the host's log.
//!
//! A step must not hold its thread for ever, and epochs can't interrupt the host. So `wasi:io/poll`
//! is our own: time spent waiting counts as CPU time of the step, and its limit ends the wait. That
//! is the only place where a guest can wait: a file is always ready, and no other stream or socket exists.

mod grant;

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use wasmop_core::startup::{PROGRAM, Startup};
use wasmop_core::step::LogLine;
use wasmtime::component::{HasSelf, Linker, Resource, ResourceTable};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::bindings::sync::io::poll;
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, StreamResult};
use wasmtime_wasi::runtime::in_tokio;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_io::bindings::wasi::io::poll as async_poll;

use crate::guest::Context;
use crate::log_limit::MAX_LOG_BYTES_PER_STEP;
use crate::step_scheduler;

pub use grant::{Directory, WasiGrant};

/// Most handles of one instance: streams, pollables and errors are all it can get.
pub(crate) const MAX_HANDLES: usize = 4096;
/// If it may open files: each is a descriptor of the host.
const MAX_HANDLES_WITH_FILES: usize = 128;
/// Most random bytes in one call: they are made in the host's memory first.
const MAX_RANDOM: u64 = 1 << 20;

/// One instance's half of WASI.
pub struct Wasi {
    ctx: WasiCtx,
    table: ResourceTable,
    streams: [(&'static str, Output); 2],
}

impl Wasi {
    /// Fails if a directory can't be opened; the error names it.
    pub(crate) fn granting(grant: &WasiGrant, startup: &Startup) -> io::Result<Wasi> {
        let streams = [("stdout", Output::default()), ("stderr", Output::default())];
        let mut table = ResourceTable::new();
        table.set_max_capacity(if grant.directories.is_empty() { MAX_HANDLES } else { MAX_HANDLES_WITH_FILES });
        // What is not named here is denied by default, and by test.
        let mut builder = WasiCtx::builder();
        builder
            .stdout(streams[0].1.clone())
            .stderr(streams[1].1.clone())
            .allow_tcp(false)
            .allow_udp(false)
            .allow_ip_name_lookup(false)
            .max_random_size(MAX_RANDOM)
            // Files are read by the thread that runs the step, which has its place for that.
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

    /// Takes what was written to the standard streams, line by line; what is left after the last
    /// newline is one. Returns the bytes written.
    pub(crate) fn take_lines(&mut self, lines: &mut Vec<LogLine>) -> usize {
        let mut bytes = 0;
        for (target, output) in &self.streams {
            let mut written = output.0.lock().unwrap_or_else(PoisonError::into_inner);
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

/// Everything WASI has, as far as [`Wasi::granting`] lets it.
pub(crate) fn add_to_linker(linker: &mut Linker<Context>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_sync(linker)?;
    linker.allow_shadowing(true);
    poll::add_to_linker::<_, HasSelf<Context>>(linker, |context| context)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl WasiView for Context {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Wasi { ctx, table, .. } = self.wasi();
        WasiCtxView { ctx, table }
    }
}

impl Context {
    /// Waits for what a pollable says, at most for what is left of the step's CPU time.
    fn wait<T>(&mut self, until: impl AsyncFnOnce(&mut ResourceTable) -> wasmtime::Result<T>) -> wasmtime::Result<T> {
        let left = self.cpu_left();
        let begun = Instant::now();
        let table = &mut self.wasi().table;
        let result = step_scheduler::aside(|| in_tokio(async { tokio::time::timeout(left, until(table)).await }));
        self.spend(begun.elapsed());
        match result {
            Ok(result) => result,
            Err(_) => Err(self.cpu_limit_reached("waited and computed for")),
        }
    }
}

impl poll::Host for Context {
    fn poll(&mut self, pollables: Vec<Resource<DynPollable>>) -> wasmtime::Result<Vec<u32>> {
        self.wait(async |table| async_poll::Host::poll(table, pollables).await)
    }
}

impl poll::HostPollable for Context {
    fn ready(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<bool> {
        poll::HostPollable::ready(&mut self.wasi().table, pollable)
    }

    fn block(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        self.wait(async |table| async_poll::HostPollable::block(table, pollable).await)
    }

    fn drop(&mut self, pollable: Resource<DynPollable>) -> wasmtime::Result<()> {
        poll::HostPollable::drop(&mut self.wasi().table, pollable)
    }
}

/// A standard stream: collected during a step, logged after it.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    /// At most what a step may log.
    bytes: Vec<u8>,
    /// With what went beyond that.
    total: usize,
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    /// For WASI 0.3, which is not linked.
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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

impl Pollable for Output {
    // As `async_trait` writes it.
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
    fn nothing_of_the_machine_is_reachable() {
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
    fn what_is_granted_is_there_and_no_more() {
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
    fn standard_streams_become_lines_within_the_limit_of_a_step() {
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
