//! QUIC, wrapped in the few shapes that log shipping needs: an endpoint, a link to one peer, a
//! control stream of messages, a stream of block bytes and short streams for one file each. The
//! only folder that names the QUIC library; it must never know what a position or a plan is.

mod streams;
#[cfg(test)]
mod tests;
mod transport;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use quinn::VarInt;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::CertificateDer;
use wal::{Held, Share};

use crate::certs::identity::{self, Identity, ServerTls};
use crate::certs::member;
use crate::certs::role::{self, CertRole, Duty};
use crate::certs::tls::SERVER_NAME;
use crate::certs::witness::Witness;
use crate::certs::x509;
use crate::error::{CloseCode, LinkError, ReplicaError};
use crate::fault::CertFault;
use crate::part::Part;
use crate::quic::streams::{CONTROL_PRIORITY, FETCH_PRIORITY, control, lost};
use crate::quic::transport::{downstream, endpoint, server_config};

use crate::wire::{MAX_FETCH_LEN, MAX_MESSAGE_LEN};

pub(crate) use crate::quic::streams::{BlockReceiver, BlockSender, ControlReceiver, ControlSender};
pub(crate) use crate::quic::transport::{FETCH_AHEAD_BYTES, FETCH_WINDOW, has_way};

/// One UDP socket and the connections over it.
pub(crate) struct Endpoint {
    inner: quinn::Endpoint,
    side: Side,
    memory: Charged,
}

/// What comes over connections is charged to this.
#[derive(Clone)]
struct Charged {
    all: Share,
    /// Long messages that are arriving.
    messages: Part,
}

impl Charged {
    fn new(all: &Share) -> Self {
        Self {
            all: all.clone(),
            messages: Part::of(all, 8),
        }
    }
}

/// What an endpoint does, and the certificates it does it with.
enum Side {
    /// What those who connect from now on are taken with.
    Listening {
        taking: Mutex<Arc<Taking>>,
        send_window_bytes: u64,
    },
    Dialing {
        config: Box<quinn::ClientConfig>,
        identity: Identity,
        witness: Witness,
        /// What may be under way both ways.
        _windows: Held,
    },
}

/// How connections are taken.
struct Taking {
    server: quinn::ServerConfig,
    tls: ServerTls,
    identity: Identity,
}

impl Endpoint {
    /// An endpoint that takes connections of secondaries.
    pub(crate) fn listen(
        address: SocketAddr,
        identity: &Identity,
        send_window_bytes: u64,
        memory: &Share,
    ) -> Result<Self, ReplicaError> {
        let taking = Taking::new(identity, send_window_bytes)?;
        let inner = endpoint(address, Some(taking.server.clone()))
            .map_err(|source| ReplicaError::Bind { address, source })?;
        let taking = Mutex::new(Arc::new(taking));
        Ok(Self {
            inner,
            side: Side::Listening {
                taking,
                send_window_bytes,
            },
            memory: Charged::new(memory),
        })
    }

    /// Makes a listening endpoint take what this identity says now, such as a new revocation list,
    /// from the next connection on.
    pub(crate) fn set_identity(&self, identity: &Identity) -> Result<(), ReplicaError> {
        if let Side::Listening {
            taking,
            send_window_bytes,
        } = &self.side
        {
            let new = Taking::new(identity, *send_window_bytes)?;
            self.inner.set_server_config(Some(new.server.clone()));
            *taking.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        }
        Ok(())
    }

    /// An endpoint for one connection to `remote`. Its windows are smaller where memory is short.
    pub(crate) fn dial(
        remote: SocketAddr,
        identity: &Identity,
        receive_window_bytes: u32,
        memory: &Share,
    ) -> Result<Self, ReplicaError> {
        let witness = Witness::default();
        let crypto = QuicClientConfig::try_from(identity.client_tls(&witness)?)
            .map_err(|error| ReplicaError::Tls(error.to_string()))?;
        let mut client = quinn::ClientConfig::new(Arc::new(crypto));
        let (transport, windows) = downstream(receive_window_bytes, memory);
        client.transport_config(Arc::new(transport));
        let any = match remote {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let address = SocketAddr::new(any, 0);
        let inner =
            endpoint(address, None).map_err(|source| ReplicaError::Bind { address, source })?;
        Ok(Self {
            inner,
            side: Side::Dialing {
                config: Box::new(client),
                identity: identity.clone(),
                witness,
                _windows: windows,
            },
            memory: Charged::new(memory),
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
            let Side::Listening { taking, .. } = &self.side else {
                return None;
            };
            if incoming.remote_address_validated() {
                let taking = taking.lock().unwrap_or_else(PoisonError::into_inner);
                let taking = Arc::clone(&taking);
                let memory = self.memory.clone();
                return Some(Incoming {
                    incoming,
                    taking,
                    memory,
                });
            }
            // Costs the peer one round trip and a forger the answer. Unvalidated peers may always
            // be asked to try again, so this cannot fail.
            let _ = incoming.retry();
        }
    }

    /// Connects an endpoint made by [`Endpoint::dial`].
    pub(crate) async fn connect(&self, remote: SocketAddr) -> Result<Link, LinkError> {
        let Side::Dialing {
            config,
            identity,
            witness,
            ..
        } = &self.side
        else {
            return Err(LinkError::ClosedHere);
        };
        let connecting = self
            .inner
            .connect_with((**config).clone(), remote, SERVER_NAME)
            .map_err(|error| LinkError::Lost(error.to_string()))?;
        let connected = connecting.await;
        Link::new(
            connected.map_err(|error| explained(lost(error), witness, identity))?,
            identity.clone(),
            self.memory.clone(),
        )
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
    taking: Arc<Taking>,
    memory: Charged,
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
        let Taking {
            server,
            tls,
            identity,
        } = &*self.taking;
        // A verifier of its own: so it is known whose certificate was not accepted, and why.
        let witness = Witness::default();
        let lost_tls = |error: String| LinkError::Lost(format!("TLS cannot be set up: {error}"));
        let tls = tls.config(&witness);
        let crypto = QuicServerConfig::try_from(tls.map_err(|error| lost_tls(error.to_string()))?);
        let mut server = server.clone();
        server.crypto = Arc::new(crypto.map_err(|error| lost_tls(error.to_string()))?);
        let connecting = self.incoming.accept_with(Arc::new(server)).map_err(lost)?;
        let connected = connecting.await;
        Link::new(
            connected.map_err(|error| explained(lost(error), &witness, identity))?,
            identity.clone(),
            self.memory,
        )
    }
}

/// A connection to a peer of this cluster. Ends when the last of it and its streams is dropped.
#[derive(Clone)]
pub(crate) struct Link {
    connection: quinn::Connection,
    peer: String,
    serial: Arc<[u8]>,
    role: Option<CertRole>,
    key: u64,
    identity: Identity,
    memory: Charged,
}

impl Taking {
    fn new(identity: &Identity, send_window_bytes: u64) -> Result<Self, ReplicaError> {
        let tls = identity.server_tls()?;
        Ok(Self {
            server: server_config(tls.config(&Witness::default())?, send_window_bytes)?,
            tls,
            identity: identity.clone(),
        })
    }
}

impl Link {
    fn new(
        connection: quinn::Connection,
        identity: Identity,
        memory: Charged,
    ) -> Result<Self, LinkError> {
        let Some(seen) = PeerCertificate::of(&connection) else {
            let reason = "it has no common name";
            connection.close(CloseCode::Protocol.into(), reason.as_bytes());
            return Err(LinkError::PeerCertificate {
                name: None,
                fault: CertFault::Other(reason.to_owned()),
            });
        };
        let link = Self {
            connection,
            peer: seen.name,
            serial: seen.serial,
            role: seen.role,
            key: seen.key,
            identity,
            memory,
        };
        // It may have been revoked since the TLS handshake began.
        if link.identity.revocations().is_revoked(link.serial()) {
            return Err(link.turn_away());
        }
        Ok(link)
    }

    /// Tells the peer from every other node, by its certificate's key.
    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    /// What comes over this connection is charged to it.
    pub(crate) fn memory(&self) -> &Share {
        &self.memory.all
    }

    /// Who this node is on this connection.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Why the peer may not do this for the node here, by both certificates; none: it may.
    pub(crate) fn refusal(&self, duty: Duty) -> Option<&'static str> {
        role::refusal(self.role, duty, self.identity.role())
    }

    /// Serial number of the peer's certificate.
    pub(crate) fn serial(&self) -> &[u8] {
        &self.serial
    }

    fn turn_away(&self) -> LinkError {
        let reason = "the certificate is on the revocation list";
        self.close(CloseCode::Revoked, reason);
        LinkError::PeerCertificate {
            name: Some(self.peer.clone()),
            fault: CertFault::Revoked,
        }
    }

    /// The same error with what this node knows about it: who the peer is, and what there may be
    /// about its own certificate.
    pub(crate) fn explain(&self, error: LinkError) -> LinkError {
        match error {
            LinkError::OwnCertificate { fault, .. } => LinkError::OwnCertificate {
                peer: Some(self.peer.clone()),
                fault: fault.explained(self.identity.validity(), identity::now()),
            },
            other => other,
        }
    }

    /// How much may be under way on this connection from now on.
    pub(crate) fn set_windows(&self, send: u64, receive: u32) {
        self.connection.set_send_window(send);
        self.connection
            .set_receive_window(VarInt::from_u32(receive));
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
        let memory = (MAX_MESSAGE_LEN, &self.memory.messages);
        Ok(control(send, receive, CONTROL_PRIORITY, memory))
    }

    /// Primary: waits for the control stream.
    pub(crate) async fn accept_control(
        &self,
    ) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) = self.connection.accept_bi().await.map_err(lost)?;
        let memory = (MAX_MESSAGE_LEN, &self.memory.messages);
        Ok(control(send, receive, CONTROL_PRIORITY, memory))
    }

    /// Either side, after the control stream: opens a stream for one file, which the peer sees with
    /// the first message. What the asking side says is a few bytes and need not wait.
    pub(crate) async fn open_fetch(&self) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) = self.connection.open_bi().await.map_err(lost)?;
        let memory = (MAX_FETCH_LEN, &self.memory.messages);
        Ok(control(send, receive, CONTROL_PRIORITY, memory))
    }

    /// Either side, after the control stream: waits for a stream for one file.
    pub(crate) async fn accept_fetch(&self) -> Result<(ControlSender, ControlReceiver), LinkError> {
        let (send, receive) = self.connection.accept_bi().await.map_err(lost)?;
        let memory = (MAX_FETCH_LEN, &self.memory.messages);
        Ok(control(send, receive, FETCH_PRIORITY, memory))
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
            () = self.identity.revocations().revoked(self.serial()) => self.turn_away(),
        }
    }
}

impl From<CloseCode> for VarInt {
    fn from(code: CloseCode) -> Self {
        Self::from_u32(code as u32)
    }
}

/// The error of a handshake with what was seen in it, and what this node knows of itself.
fn explained(error: LinkError, witness: &Witness, own: &Identity) -> LinkError {
    match (error, witness.seen()) {
        (LinkError::PeerCertificate { .. }, Some(seen)) => LinkError::PeerCertificate {
            name: seen.name,
            fault: seen.fault,
        },
        (LinkError::OwnCertificate { peer, fault }, _) => LinkError::OwnCertificate {
            peer,
            fault: fault.explained(own.validity(), identity::now()),
        },
        (error, _) => error,
    }
}

/// What the certificate of a peer says.
struct PeerCertificate {
    name: String,
    serial: Arc<[u8]>,
    role: Option<CertRole>,
    key: u64,
}

impl PeerCertificate {
    fn of(connection: &quinn::Connection) -> Option<Self> {
        let chain = connection
            .peer_identity()?
            .downcast::<Vec<CertificateDer<'static>>>()
            .ok()?;
        let leaf = chain.first()?;
        Some(Self {
            name: x509::common_name(leaf)?,
            serial: x509::serial(leaf)?.into(),
            role: x509::role(leaf),
            key: member::key_of(leaf)?,
        })
    }
}
