//! QUIC, wrapped in the few shapes that log shipping needs: an endpoint, a link to one peer, a
//! control stream of messages, a stream of block bytes and short streams for one file each. The
//! only folder that names the QUIC library; it must never know what a position or a plan is.

mod streams;
#[cfg(test)]
mod tests;
mod transport;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quinn::VarInt;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;

use crate::certs::identity::{self, Identity};
use crate::certs::revocations::Revocations;
use crate::certs::tls::SERVER_NAME;
use crate::error::{CloseCode, LinkError, ReplicaError};
use crate::quic::streams::{CONTROL_PRIORITY, FETCH_PRIORITY, control, lost};
use crate::quic::transport::{downstream_transport, endpoint, server_config};

pub(crate) use crate::quic::streams::{BlockReceiver, BlockSender, ControlReceiver, ControlSender};
pub(crate) use crate::quic::transport::FETCH_AHEAD_BYTES;

/// One UDP socket and the connections over it.
pub(crate) struct Endpoint {
    inner: quinn::Endpoint,
    dialing: Option<quinn::ClientConfig>,
    send_window_bytes: u64,
    /// What peers that connect from now on are checked by.
    revocations: Mutex<Revocations>,
}

impl Endpoint {
    /// An endpoint that takes connections of secondaries.
    pub(crate) fn listen(
        address: SocketAddr,
        identity: &Identity,
        send_window_bytes: u64,
    ) -> Result<Self, ReplicaError> {
        let server = server_config(identity, send_window_bytes)?;
        let inner = endpoint(address, Some(server))
            .map_err(|source| ReplicaError::Bind { address, source })?;
        Ok(Self {
            inner,
            dialing: None,
            send_window_bytes,
            revocations: Mutex::new(identity.revocations().clone()),
        })
    }

    /// Makes a listening endpoint take what this identity says now, such as a new revocation list,
    /// from the next connection on.
    pub(crate) fn set_identity(&self, identity: &Identity) -> Result<(), ReplicaError> {
        let server = server_config(identity, self.send_window_bytes)?;
        *held(&self.revocations) = identity.revocations().clone();
        self.inner.set_server_config(Some(server));
        Ok(())
    }

    /// An endpoint for one connection to `remote`.
    pub(crate) fn dial(
        remote: SocketAddr,
        identity: &Identity,
        receive_window_bytes: u32,
    ) -> Result<Self, ReplicaError> {
        let crypto = QuicClientConfig::try_from(identity.client_tls()?)
            .map_err(|error| ReplicaError::Tls(error.to_string()))?;
        let mut client = quinn::ClientConfig::new(Arc::new(crypto));
        client.transport_config(Arc::new(downstream_transport(receive_window_bytes)));
        let any = match remote {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let address = SocketAddr::new(any, 0);
        let inner =
            endpoint(address, None).map_err(|source| ReplicaError::Bind { address, source })?;
        Ok(Self {
            inner,
            dialing: Some(client),
            send_window_bytes: 0,
            revocations: Mutex::new(identity.revocations().clone()),
        })
    }

    /// The address it is bound to.
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    /// The next peer that has proved to live at its address; `None` once the endpoint is closed.
    pub(crate) async fn accept(&self) -> Option<Incoming> {
        loop {
            let incoming = self.inner.accept().await?;
            if incoming.remote_address_validated() {
                let revocations = self.revocations();
                return Some(Incoming {
                    incoming,
                    revocations,
                });
            }
            // Costs the peer one round trip and a forger the answer. Unvalidated peers may always
            // be asked to try again, so this cannot fail.
            let _ = incoming.retry();
        }
    }

    /// Connects an endpoint made by [`Endpoint::dial`].
    pub(crate) async fn connect(&self, remote: SocketAddr) -> Result<Link, LinkError> {
        let config = self.dialing.clone().ok_or(LinkError::ClosedHere)?;
        let connecting = self
            .inner
            .connect_with(config, remote, SERVER_NAME)
            .map_err(|error| LinkError::Lost(error.to_string()))?;
        Link::new(connecting.await.map_err(lost)?, self.revocations())
    }

    fn revocations(&self) -> Revocations {
        held(&self.revocations).clone()
    }

    /// Ends every connection and takes no more.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.inner.close(code.into(), reason.as_bytes());
    }

    /// Waits until peers have been told of closed connections.
    pub(crate) async fn idle(&self) {
        self.inner.wait_idle().await;
    }
}

/// A peer that wants to connect; nothing has been spent on it yet.
pub(crate) struct Incoming {
    incoming: quinn::Incoming,
    revocations: Revocations,
}

impl Incoming {
    pub(crate) fn remote(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Turns the peer away.
    pub(crate) fn refuse(self) {
        self.incoming.refuse();
    }

    /// Does the TLS handshake.
    pub(crate) async fn accept(self) -> Result<Link, LinkError> {
        let connecting = self.incoming.accept().map_err(lost)?;
        Link::new(connecting.await.map_err(lost)?, self.revocations)
    }
}

/// A connection to a peer of this cluster. Ends when the last of it and its streams is dropped.
#[derive(Clone)]
pub(crate) struct Link {
    connection: quinn::Connection,
    peer: String,
    serial: Arc<[u8]>,
    revocations: Revocations,
}

impl Link {
    fn new(connection: quinn::Connection, revocations: Revocations) -> Result<Self, LinkError> {
        let Some((peer, serial)) = peer_identity(&connection) else {
            let reason = "it has no common name";
            connection.close(CloseCode::Protocol.into(), reason.as_bytes());
            return Err(LinkError::PeerCertificate(reason.to_owned()));
        };
        let link = Self {
            connection,
            peer,
            serial,
            revocations,
        };
        // It may have been revoked since the TLS handshake began.
        if link.revocations.is_revoked(link.serial()) {
            return Err(link.turn_away());
        }
        Ok(link)
    }

    /// Serial number of the peer's certificate.
    pub(crate) fn serial(&self) -> &[u8] {
        &self.serial
    }

    fn turn_away(&self) -> LinkError {
        let reason = "the certificate is on the revocation list";
        self.close(CloseCode::Revoked, reason);
        LinkError::PeerRevoked
    }

    /// Common name of the peer's certificate.
    pub(crate) fn peer(&self) -> &str {
        &self.peer
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Secondary: opens the control stream. The primary sees it with the first message.
    pub(crate) async fn open_control(&self) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) = self.connection.open_bi().await.map_err(lost)?;
        Ok(control(send, receive, CONTROL_PRIORITY))
    }

    /// Primary: waits for the control stream.
    pub(crate) async fn accept_control(
        &self,
    ) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) = self.connection.accept_bi().await.map_err(lost)?;
        Ok(control(send, receive, CONTROL_PRIORITY))
    }

    /// Either side, after the control stream: opens a stream for one file, which the peer sees with
    /// the first message. What the asking side says is a few bytes and need not wait.
    pub(crate) async fn open_fetch(&self) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) = self.connection.open_bi().await.map_err(lost)?;
        Ok(control(send, receive, CONTROL_PRIORITY))
    }

    /// Either side, after the control stream: waits for a stream for one file.
    pub(crate) async fn accept_fetch(&self) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) = self.connection.accept_bi().await.map_err(lost)?;
        Ok(control(send, receive, FETCH_PRIORITY))
    }

    /// Primary: opens the stream of blocks.
    pub(crate) async fn open_blocks(&self) -> Result<BlockSender, LinkError> {
        let stream = self.connection.open_uni().await.map_err(lost)?;
        Ok(BlockSender { stream })
    }

    /// Secondary: waits for the stream of blocks, which comes with the first block.
    pub(crate) async fn accept_blocks(&self) -> Result<BlockReceiver, LinkError> {
        let stream = self.connection.accept_uni().await.map_err(lost)?;
        Ok(BlockReceiver::new(stream))
    }

    /// Ends the connection; what is not acknowledged yet may be lost.
    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.connection.close(code.into(), reason.as_bytes());
    }

    /// Waits for the end of the connection, whoever ends it; ends it as soon as the peer's
    /// certificate is revoked.
    pub(crate) async fn closed(&self) -> LinkError {
        tokio::select! {
            biased;
            error = self.connection.closed() => lost(error),
            () = self.revocations.revoked(self.serial()) => self.turn_away(),
        }
    }
}

impl From<CloseCode> for VarInt {
    fn from(code: CloseCode) -> Self {
        Self::from_u32(code as u32)
    }
}

fn held(revocations: &Mutex<Revocations>) -> MutexGuard<'_, Revocations> {
    revocations.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Common name and serial number of the peer's certificate.
fn peer_identity(connection: &quinn::Connection) -> Option<(String, Arc<[u8]>)> {
    let chain = connection
        .peer_identity()?
        .downcast::<Vec<CertificateDer<'static>>>()
        .ok()?;
    let leaf = chain.first()?;
    Some((identity::common_name(leaf)?, identity::serial(leaf)?.into()))
}
