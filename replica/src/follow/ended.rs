//! How a connection to an upstream ends where nothing has failed. It owns those words; what is done
//! next is the follow task's, and it must never be decided here.

use std::fmt;

/// Why a connection ended in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Something was done that needs another connection.
    Reconnect(&'static str),
    /// An upstream that is named before this one answers again.
    BetterUpstream,
    /// The log that was brought in is whole.
    BootstrapComplete,
    /// This node stops.
    Stopping,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reconnect(reason) => reason,
            Self::BetterUpstream => "an upstream that is named before this one answers again",
            Self::BootstrapComplete => "the snapshot is here",
            Self::Stopping => "this node stops",
        })
    }
}
