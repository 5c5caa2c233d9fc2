//! What of the QUIC side can be said without a peer, and an endpoint for tests that is deaf. It
//! must never be compiled into a node.

use super::*;
use crate::quic::streams::{TLS_ALERT, blames_certificate};
use crate::quic::transport::upstream_transport;

impl Endpoint {
    /// Takes connections on which the peer may open no stream.
    pub(crate) fn deaf(identity: &Identity) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let endpoint =
            Self::listen(address, identity, 0, &Share::unlimited("test")).expect("listens");
        let mut deaf = Taking::new(identity, 0).expect("a config");
        let mut transport = upstream_transport(0);
        transport.max_concurrent_bidi_streams(VarInt::from_u32(0));
        deaf.server.transport_config(Arc::new(transport));
        endpoint.inner.set_server_config(Some(deaf.server.clone()));
        if let Side::Listening { taking, .. } = &endpoint.side {
            *taking.lock().expect("not poisoned") = Arc::new(deaf);
        }
        endpoint
    }
}

#[test]
fn certificate_alerts_are_told_from_other_errors() {
    for alert in [42, 45, 48, 51, 116] {
        assert!(blames_certificate(TLS_ALERT + alert), "{alert}");
    }
    for code in [0, 2, 48, TLS_ALERT, TLS_ALERT + 120, u64::MAX] {
        assert!(!blames_certificate(code), "{code}");
    }
}
