//! The upstreams of a secondary, in the order in which it was told them: which one is its turn, and
//! how to reach it. It owns no connection but the one it has just made and must never judge what an
//! upstream says.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

use crate::certs::identity::Identity;
use crate::certs::role::Duty;
use crate::config::FollowConfig;
use crate::error::{CloseCode, clip};
use crate::follow::error::FollowError;
use crate::quic::{self, Endpoint, Link};

/// Whose turn it is.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    count: usize,
    at: usize,
}

impl Rotation {
    /// The first of `count`, at least one.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            count: count.max(1),
            at: 0,
        }
    }

    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The next one's; true when all have had theirs.
    pub(crate) fn next(&mut self) -> bool {
        self.at = (self.at + 1) % self.count;
        self.at == 0
    }

    /// The first one's again.
    pub(crate) fn first(&mut self) {
        self.at = 0;
    }
}

/// A connection to an upstream; dropping the endpoint ends it.
pub(crate) struct Reached {
    pub(crate) endpoint: Endpoint,
    pub(crate) link: Link,
}

/// Connects to `upstream`: every address of it is tried.
pub(crate) async fn reach(
    upstream: &str,
    config: &FollowConfig,
    identity: &Identity,
) -> Result<Reached, FollowError> {
    let resolved = timeout(config.connect_timeout, lookup_host(upstream)).await;
    let addresses = match resolved {
        Ok(Ok(addresses)) => addresses.take(MAX_ADDRESSES),
        Ok(Err(source)) => {
            let upstream = upstream.to_owned();
            return Err(FollowError::Resolve { upstream, source });
        }
        Err(_) => {
            let (upstream, within) = (upstream.to_owned(), config.connect_timeout);
            return Err(FollowError::Unresolved { upstream, within });
        }
    };
    let mut error = FollowError::NoAddress(upstream.to_owned());
    for address in addresses {
        match dial(address, config, identity).await {
            Ok(reached) => return Ok(reached),
            Err(reason) => error = reason,
        }
    }
    Err(error)
}

async fn dial(
    address: SocketAddr,
    config: &FollowConfig,
    identity: &Identity,
) -> Result<Reached, FollowError> {
    let within = config.connect_timeout;
    quic::has_way(address).map_err(|source| FollowError::NoWay { address, source })?;
    let window = config.receive_window_bytes;
    let endpoint = Endpoint::dial(address, identity, window, &config.memory)?;
    match timeout(within, endpoint.connect(address)).await {
        Ok(link) => {
            let link = link?;
            if let Err(error) = may_serve(&link, config) {
                link.close(CloseCode::Done, &clip(&error.to_string()));
                let _ = timeout(GOODBYE, endpoint.idle()).await;
                return Err(error);
            }
            Ok(Reached { endpoint, link })
        }
        Err(_) => {
            let address = address.to_string();
            Err(FollowError::Unanswered { address, within })
        }
    }
}

/// Whether this peer is one to follow, by its certificate: an address proves nothing.
fn may_serve(link: &Link, config: &FollowConfig) -> Result<(), FollowError> {
    let untrusted = |reason: String| FollowError::Untrusted {
        peer: link.peer().to_owned(),
        reason,
    };
    if let Some(reason) = link.refusal(Duty::Relay) {
        return Err(untrusted(format!("{reason} ({ANOTHER})")));
    }
    let names = &config.upstream_names;
    if !names.is_empty() && !names.iter().any(|name| name == link.peer()) {
        let names = names.join(", ");
        return Err(untrusted(format!(
            "replication.upstream_name allows {names} alone"
        )));
    }
    Ok(())
}

/// Waits until one of the upstreams before `at` answers again; for ever for the first. They are
/// tried every `pause`.
pub(crate) async fn better(at: usize, config: &FollowConfig, identity: &Identity, pause: Duration) {
    if at == 0 {
        std::future::pending::<()>().await;
    }
    loop {
        sleep(pause).await;
        for upstream in config.upstreams.iter().take(at) {
            let begun = Instant::now();
            match reach(upstream, config, identity).await {
                Ok(_) => {
                    tracing::info!(%upstream, "an upstream that is preferred answers again");
                    return;
                }
                Err(reason) => {
                    let took: Duration = begun.elapsed();
                    tracing::debug!(%upstream, %reason, ?took, "still no answer");
                }
            }
        }
    }
}

/// What helps against a certificate that does not let its node serve.
const ANOTHER: &str =
    "`headwater certs node DIR NAME --role primary`, or relay, makes one that does";

/// Time for the last packet to go out.
const GOODBYE: Duration = Duration::from_millis(200);

/// Addresses of one host name that are tried.
const MAX_ADDRESSES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_before_the_first_has_another() {
        let mut turn = Rotation::new(3);
        assert_eq!((turn.at(), turn.next()), (0, false));
        assert_eq!((turn.at(), turn.next()), (1, false));
        assert_eq!((turn.at(), turn.next()), (2, true));
        turn.next();
        turn.first();
        assert_eq!(turn.at(), 0);
        assert!(Rotation::new(0).next());
    }
}
