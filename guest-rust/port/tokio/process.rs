//! Processes in a wasmop guest, which cannot start any.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::{ExitStatus, Output, Stdio};
use std::task::{Context, Poll};

use crate::io::{AsyncRead, AsyncWrite, ReadBuf};

/// There are no values of this type, hence no processes.
#[derive(Debug, Clone, Copy)]
enum Never {}

/// A command that cannot be started.
#[derive(Debug)]
pub struct Command {
    std: std::process::Command,
}

macro_rules! stdio {
    ($($name:ident)*) => {$(
        /// As in tokio.
        pub fn $name<T: Into<Stdio>>(&mut self, stdio: T) -> &mut Command {
            self.std.$name(stdio);
            self
        }
    )*};
}

impl Command {
    /// As in tokio.
    pub fn new<S: AsRef<OsStr>>(program: S) -> Command {
        Command { std: std::process::Command::new(program) }
    }

    /// As in tokio.
    pub fn as_std(&self) -> &std::process::Command {
        &self.std
    }

    /// As in tokio.
    pub fn as_std_mut(&mut self) -> &mut std::process::Command {
        &mut self.std
    }

    /// As in tokio.
    pub fn into_std(self) -> std::process::Command {
        self.std
    }

    /// As in tokio.
    pub fn arg<S: AsRef<OsStr>>(&mut self, argument: S) -> &mut Command {
        self.std.arg(argument);
        self
    }

    /// As in tokio.
    pub fn args<I, S>(&mut self, arguments: I) -> &mut Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.std.args(arguments);
        self
    }

    /// As in tokio.
    pub fn env<K: AsRef<OsStr>, V: AsRef<OsStr>>(&mut self, name: K, value: V) -> &mut Command {
        self.std.env(name, value);
        self
    }

    /// As in tokio.
    pub fn envs<I, K, V>(&mut self, variables: I) -> &mut Command
    where
        I: IntoIterator<Item = (K, V)>,
        K: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        self.std.envs(variables);
        self
    }

    /// As in tokio.
    pub fn env_remove<K: AsRef<OsStr>>(&mut self, name: K) -> &mut Command {
        self.std.env_remove(name);
        self
    }

    /// As in tokio.
    pub fn env_clear(&mut self) -> &mut Command {
        self.std.env_clear();
        self
    }

    /// As in tokio.
    pub fn current_dir<P: AsRef<Path>>(&mut self, dir: P) -> &mut Command {
        self.std.current_dir(dir);
        self
    }

    stdio!(stdin stdout stderr);

    /// Has no effect.
    pub fn kill_on_drop(&mut self, _: bool) -> &mut Command {
        self
    }

    fn fail<T>(&self) -> io::Result<T> {
        let program = self.std.get_program().display();
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("cannot run {program}: a wasmop guest starts no processes"),
        ))
    }

    /// Fails.
    pub fn spawn(&mut self) -> io::Result<Child> {
        self.fail()
    }

    /// Fails.
    pub async fn status(&mut self) -> io::Result<ExitStatus> {
        self.fail()
    }

    /// Fails.
    pub async fn output(&mut self) -> io::Result<Output> {
        self.fail()
    }
}

impl From<std::process::Command> for Command {
    fn from(std: std::process::Command) -> Command {
        Command { std }
    }
}

/// A process. None exists.
#[derive(Debug)]
pub struct Child {
    never: Never,
    /// As in tokio.
    pub stdin: Option<ChildStdin>,
    /// As in tokio.
    pub stdout: Option<ChildStdout>,
    /// As in tokio.
    pub stderr: Option<ChildStderr>,
}

impl Child {
    /// As in tokio.
    pub fn id(&self) -> Option<u32> {
        match self.never {}
    }

    /// As in tokio.
    pub fn start_kill(&mut self) -> io::Result<()> {
        match self.never {}
    }

    /// As in tokio.
    pub async fn kill(&mut self) -> io::Result<()> {
        match self.never {}
    }

    /// As in tokio.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self.never {}
    }

    /// As in tokio.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match self.never {}
    }

    /// As in tokio.
    pub async fn wait_with_output(self) -> io::Result<Output> {
        match self.never {}
    }
}

macro_rules! pipes {
    ($($name:ident)*) => {$(
        /// A pipe of a process. None exists.
        #[derive(Debug)]
        pub struct $name {
            never: Never,
        }
    )*};
}

pipes!(ChildStdin ChildStdout ChildStderr);

impl AsyncWrite for ChildStdin {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match self.never {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.never {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.never {}
    }
}

macro_rules! reads {
    ($($name:ident)*) => {$(
        impl AsyncRead for $name {
            fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                match self.never {}
            }
        }
    )*};
}

reads!(ChildStdout ChildStderr);
