//! A node of the cluster that is not at the other end of a connection: known by its certificate,
//! believed by its signature. It owns what makes one known; it must never take a word for signed
//! that is not, nor a certificate that this node would not let in.

use std::fmt;

use rustls::pki_types::{CertificateDer, UnixTime};

use crate::certs::identity::Identity;
use crate::certs::tls::provider;
use crate::certs::x509;
use crate::wire::statement::{MAX_CERTIFICATE, fnv};

/// A node as its certificate says.
pub(crate) struct Member {
    /// Which node: the same key is the same node.
    key: u64,
    public_key: Vec<u8>,
    serial: Vec<u8>,
    der: Vec<u8>,
}

impl Member {
    /// The node of this certificate, if `here` would let it in now.
    pub(crate) fn admit(der: &[u8], here: &Identity) -> Option<Self> {
        if der.len() > MAX_CERTIFICATE {
            return None;
        }
        let leaf = CertificateDer::from(der);
        let verifier = here.server_tls().ok()?.verifier();
        let accepted = verifier.verify_client_cert(&leaf, &[], UnixTime::now());
        accepted.ok()?;
        Some(Self {
            key: key_of(der)?,
            public_key: x509::public_key(der)?,
            serial: x509::serial(der)?,
            der: der.to_vec(),
        })
    }

    /// One that nobody has certified.
    #[cfg(test)]
    pub(crate) fn made_up(key: u64) -> Self {
        Self {
            key,
            public_key: Vec::new(),
            serial: Vec::new(),
            der: Vec::new(),
        }
    }

    pub(crate) fn key(&self) -> u64 {
        self.key
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether it has been revoked since.
    pub(crate) fn is_revoked(&self, here: &Identity) -> bool {
        here.revocations().is_revoked(&self.serial)
    }

    /// Whether the node has signed these bytes.
    pub(crate) fn has_signed(&self, bytes: &[u8], scheme: u16, signature: &[u8]) -> bool {
        let algorithms = provider().signature_verification_algorithms;
        let known = algorithms.mapping.iter();
        let meant = known.filter(|(known, _)| u16::from(*known) == scheme);
        let mut meant = meant.flat_map(|(_, algorithms)| algorithms.iter());
        meant.any(|algorithm| {
            let verified = algorithm.verify_signature(&self.public_key, bytes, signature);
            verified.is_ok()
        })
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

/// Tells nodes apart by their keys, which nobody else has.
pub(crate) fn key_of(der: &[u8]) -> Option<u64> {
    Some(fnv(&x509::public_key(der)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::{Authority, CertRole};

    #[test]
    fn a_word_is_believed_of_who_has_signed_it_alone() {
        let authority = Authority::new().expect("a CA");
        let issue = |authority: &Authority, name: &str| {
            let issued = authority.issue(name, CertRole::Secondary, &[]);
            issued.expect("a certificate")
        };
        let (one, other) = (issue(&authority, "one"), issue(&authority, "other"));
        let member = |of: &Identity, here: &Identity| {
            Member::admit(&of.certificate_der().expect("one"), here)
        };
        let known = member(&one, &other).expect("of the same CA");
        let (scheme, signature) = one.sign(b"word").expect("signs");
        assert!(known.has_signed(b"word", scheme, &signature));
        assert!(!known.has_signed(b"words", scheme, &signature));
        assert!(!known.has_signed(b"word", scheme + 1, &signature));
        let (scheme, forged) = other.sign(b"word").expect("signs");
        assert!(!known.has_signed(b"word", scheme, &forged));
        assert!(!known.has_signed(b"word", scheme, &[]));
        let stranger = issue(&Authority::new().expect("a CA"), "one");
        assert!(member(&stranger, &other).is_none());
        let expired = authority.issue_dated("old", -100, -50);
        assert!(member(&expired.expect("a certificate"), &other).is_none());
        assert!(Member::admit(b"no certificate", &other).is_none());
        assert!(Member::admit(&[0x30; MAX_CERTIFICATE + 1], &other).is_none());
    }
}
