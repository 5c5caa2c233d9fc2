//! The task that keeps what a node checks its peers by up to `crl.pem`. It owns when a listening
//! endpoint gets new TLS settings, and must never judge a list: `certs` does.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::certs::identity::Identity;
use crate::quic::Endpoint;

/// Keeps what a node checks its peers by up to `crl.pem`, until `shutdown`: the list itself, which
/// links and the next connection look at, and the TLS settings of an endpoint that listens.
pub(crate) async fn keep(
    identity: Identity,
    listening: Option<Arc<Endpoint>>,
    shutdown: CancellationToken,
) {
    let renewing = async {
        if let Some(endpoint) = &listening {
            renew(&identity, endpoint).await;
        }
    };
    let watching = identity.revocations().watch_task(shutdown.clone());
    tokio::select! {
        _ = async { tokio::join!(renewing, watching) } => {}
        () = shutdown.cancelled() => {}
    }
}

async fn renew(identity: &Identity, endpoint: &Endpoint) {
    let mut changed = identity.revocations().changed();
    // Whatever came between binding and now counts as news.
    changed.mark_changed();
    while changed.changed().await.is_ok() {
        if let Err(error) = endpoint.set_identity(identity) {
            // Revoked peers are still turned away, after the TLS handshake.
            tracing::error!(%error, "the new revocation list cannot be used for TLS");
        }
    }
}
