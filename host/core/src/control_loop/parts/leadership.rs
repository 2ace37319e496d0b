//! Whether a controller runs on this host.

use std::sync::Arc;
use std::time::Duration;

use crate::election::Fence;

/// Whether a controller runs here.
#[derive(Debug)]
pub enum Leadership {
    /// There are no other hosts.
    Alone,
    /// Another host runs it, or none does.
    Standby,
    /// This host runs it.
    Held(Arc<Fence>),
    /// It ends what it does, and waits for answers until then.
    GivesUp {
        /// Holds as long as the lease does.
        fence: Arc<Fence>,
        /// On the host's clock.
        until: Duration,
    },
    /// The lease is lost: what is left of it goes.
    Lost,
}

impl Leadership {
    /// What outgoing requests are checked against; `None`: nothing.
    pub fn fence(&self) -> Option<Arc<Fence>> {
        match self {
            Leadership::Held(fence) | Leadership::GivesUp { fence, .. } => Some(fence.clone()),
            Leadership::Alone | Leadership::Standby | Leadership::Lost => None,
        }
    }

    /// Whether it runs here and is not about to stop, as far as is known.
    pub(in crate::control_loop) fn is_active(&self) -> bool {
        matches!(self, Leadership::Alone | Leadership::Held(_))
    }

    /// Whether what it has done until now counts. `boot`: the machine's clock.
    pub fn holds(&self, boot: Duration) -> bool {
        match self {
            Leadership::Alone => true,
            Leadership::Held(fence) | Leadership::GivesUp { fence, .. } => fence.holds(boot),
            Leadership::Standby | Leadership::Lost => false,
        }
    }
}
