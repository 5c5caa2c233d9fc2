//! How many files and connections a node may have open: as many as the system lets it, and of these
//! a part that no client can take, because a log that cannot open its next segment has failed. Must
//! never lower a limit.

use tracing::info;

/// What the open files of this process are shared out to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    limit: u64,
}

impl Descriptors {
    /// Raises the limit as far as the system lets this process.
    pub(crate) fn raise() -> Self {
        Self {
            limit: wal::OsDisk::raise_open_files().unwrap_or(u64::MAX),
        }
    }

    /// Connections of devices at one time: as many as the conf wants, or as there can be.
    pub(crate) fn for_devices(self, wanted: usize) -> usize {
        let most = self.limit - (self.limit / 4).min(KEPT);
        let sockets = usize::try_from(most).unwrap_or(usize::MAX);
        // Some more connections are open for as long as it takes to turn them away.
        let most = sockets - (mqtt::most_sockets(sockets) - sockets);
        if most < wanted {
            info!(
                wanted,
                most,
                descriptors = self.limit,
                "mqtt.max_connections cannot be met: this process may not open so many files (raise \
                 ulimit -n, or LimitNOFILE of the service); more devices than that are turned away"
            );
        }
        wanted.min(most)
    }

    /// Connections over HTTP at one time.
    pub(crate) fn for_http(self) -> usize {
        usize::try_from(self.limit / 8).map_or(MOST_HTTP, |most| most.clamp(1, MOST_HTTP))
    }
}

/// Files that devices leave to all else, where there are many.
const KEPT: u64 = 2_048;

const MOST_HTTP: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_limit_clients_leave_some_files_to_the_log() {
        for limit in [16, 160, 1_024, 4_096, 20_000, 1 << 20, u64::MAX] {
            let shared = Descriptors { limit };
            let devices = mqtt::most_sockets(shared.for_devices(usize::MAX));
            let taken = devices as u64 + shared.for_http() as u64;
            assert!(limit - taken >= (limit / 8).min(1_024), "{limit}");
            assert_eq!(shared.for_devices(5), 5);
        }
        let many = Descriptors { limit: 1 << 20 };
        assert_eq!(many.for_devices(100_000), 100_000);
        assert_eq!(many.for_http(), 1_024);
    }

    #[test]
    fn the_limit_is_as_high_as_it_may_be() {
        let raised = Descriptors::raise();
        assert_eq!(raised, Descriptors::raise());
        assert!(raised.limit >= 16);
    }
}
