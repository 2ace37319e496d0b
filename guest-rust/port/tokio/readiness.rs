//! Readiness of sockets in a wasmop guest, which has none.

use std::ops::{BitOr, BitOrAssign};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interest(u8);

impl Interest {
    /// As in tokio.
    pub const READABLE: Interest = Interest(1);
    /// As in tokio.
    pub const WRITABLE: Interest = Interest(2);
    /// As in tokio.
    pub const ERROR: Interest = Interest(4);

    /// As in tokio.
    pub const fn is_readable(self) -> bool {
        self.0 & 1 != 0
    }

    /// As in tokio.
    pub const fn is_writable(self) -> bool {
        self.0 & 2 != 0
    }

    /// As in tokio.
    #[allow(clippy::should_implement_trait)]
    pub const fn add(self, other: Interest) -> Interest {
        Interest(self.0 | other.0)
    }
}

impl BitOr for Interest {
    type Output = Interest;

    fn bitor(self, other: Interest) -> Interest {
        self.add(other)
    }
}

impl BitOrAssign for Interest {
    fn bitor_assign(&mut self, other: Interest) {
        self.0 |= other.0;
    }
}

/// What is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready(u8);

impl From<Interest> for Ready {
    fn from(interest: Interest) -> Ready {
        Ready(interest.0 & 3)
    }
}

impl Ready {
    /// As in tokio.
    pub const EMPTY: Ready = Ready(0);
    /// As in tokio.
    pub const READABLE: Ready = Ready(1);
    /// As in tokio.
    pub const WRITABLE: Ready = Ready(2);
    /// As in tokio.
    pub const ALL: Ready = Ready(3);

    /// As in tokio.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// As in tokio.
    pub const fn is_readable(self) -> bool {
        self.0 & 1 != 0
    }

    /// As in tokio.
    pub const fn is_writable(self) -> bool {
        self.0 & 2 != 0
    }

    /// As in tokio.
    pub const fn is_read_closed(self) -> bool {
        false
    }

    /// As in tokio.
    pub const fn is_write_closed(self) -> bool {
        false
    }

    /// As in tokio.
    pub const fn is_error(self) -> bool {
        false
    }
}
