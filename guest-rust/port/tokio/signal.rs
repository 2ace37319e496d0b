//! Signals in a wasmop guest, which gets none. The host ends a controller without asking it.

use std::future::pending;
use std::io;

/// Never completes.
pub async fn ctrl_c() -> io::Result<()> {
    pending().await
}

/// The signals of Unix.
pub mod unix {
    use std::future::pending;
    use std::io;
    use std::task::{Context, Poll};

    /// The number of a signal.
    #[derive(Debug, Clone, Copy, Hash, PartialEq, Eq)]
    pub struct SignalKind(i32);

    macro_rules! kinds {
        ($($name:ident: $number:literal),* $(,)?) => {$(
            /// As in tokio.
            pub const fn $name() -> SignalKind {
                SignalKind($number)
            }
        )*};
    }

    impl SignalKind {
        /// As in tokio.
        pub const fn from_raw(number: i32) -> SignalKind {
            SignalKind(number)
        }

        /// As in tokio.
        pub const fn as_raw_value(&self) -> i32 {
            self.0
        }

        // The numbers of Linux.
        kinds! {
            hangup: 1,
            interrupt: 2,
            quit: 3,
            user_defined1: 10,
            user_defined2: 12,
            pipe: 13,
            alarm: 14,
            terminate: 15,
            child: 17,
            window_change: 28,
            io: 29,
        }
    }

    /// A stream of signals without items.
    #[derive(Debug)]
    pub struct Signal(());

    impl Signal {
        /// Never completes.
        pub async fn recv(&mut self) -> Option<()> {
            pending().await
        }

        /// Never ready.
        pub fn poll_recv(&mut self, _: &mut Context<'_>) -> Poll<Option<()>> {
            Poll::Pending
        }
    }

    /// Returns a stream without items.
    pub fn signal(_: SignalKind) -> io::Result<Signal> {
        Ok(Signal(()))
    }
}
