//! What a node saw of a certificate that it did not accept: whose it says it is, and what is wrong
//! with it. The TLS library hands on only an alert. It owns that note for one connection, and must
//! never change what is accepted.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::certs::x509;
use crate::error::clip;
use crate::fault::CertFault;

/// A note about the peer of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Witness(Arc<Mutex<Option<Seen>>>);

/// A certificate that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its common name; nobody vouches for it.
    pub(crate) name: Option<String>,
    pub(crate) fault: CertFault,
}

impl Witness {
    /// What was seen, if a certificate was refused.
    pub(crate) fn seen(&self) -> Option<Seen> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    fn note<T>(&self, leaf: &CertificateDer<'_>, verified: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::InvalidCertificate(error)) = &verified {
            let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *seen = Some(Seen {
                name: x509::common_name(leaf).map(|name| clip(&name)),
                fault: fault(error),
            });
        }
        verified
    }
}

/// The library's error in our words.
pub(crate) fn fault(error: &CertificateError) -> CertFault {
    let unix = |time: &UnixTime| i64::try_from(time.as_secs()).ok();
    match error {
        CertificateError::Expired => CertFault::Expired(None),
        CertificateError::ExpiredContext { not_after, .. } => CertFault::Expired(unix(not_after)),
        CertificateError::NotValidYet => CertFault::NotYetValid(None),
        CertificateError::NotValidYetContext { not_before, .. } => {
            CertFault::NotYetValid(unix(not_before))
        }
        CertificateError::Revoked => CertFault::Revoked,
        CertificateError::UnknownIssuer => CertFault::UnknownIssuer,
        other => CertFault::Other(clip(&other.to_string())),
    }
}

/// A verifier that takes notes.
pub(crate) struct Noting<V: ?Sized> {
    pub(crate) verifier: Arc<V>,
    pub(crate) witness: Witness,
}

impl<V: ?Sized> fmt::Debug for Noting<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Noting").finish_non_exhaustive()
    }
}

impl ServerCertVerifier for Noting<dyn ServerCertVerifier> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .verifier
            .verify_server_cert(leaf, between, name, ocsp, now);
        self.witness.note(leaf, verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

impl ClientCertVerifier for Noting<dyn ClientCertVerifier> {
    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verifier.verify_client_cert(leaf, between, now);
        self.witness.note(leaf, verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
