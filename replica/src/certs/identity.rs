//! Who this node is to others: its certificate, key and the cluster CA, made into TLS settings. It
//! owns the choice of TLS version, cipher order and verification, and must never weaken them or use
//! a process-wide default; keys never reach a log.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, RootCertStore};

use crate::certs::files::{CA_FILE, CERT_FILE, CRL_FILE, KEY_FILE};
use crate::certs::revocations::Revocations;
use crate::certs::tls::{SERVER_NAME, provider};
use crate::error::ReplicaError;
use crate::wire::ALPN;

/// A node's certificate and key, and the CA whose nodes it trusts.
pub struct Identity {
    name: String,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    ca: Vec<CertificateDer<'static>>,
    /// Shared by all clones.
    revocations: Revocations,
}

impl Identity {
    /// Reads `ca.pem`, `cert.pem` and `key.pem` of a directory made by `headwater certs node`, and
    /// `crl.pem` if it is there, and checks that they belong together. An expired or revoked
    /// certificate is loaded with a warning: peers will refuse it, but a primary keeps serving its
    /// devices.
    ///
    /// # Errors
    /// When a file cannot be read, or they do not belong together.
    pub fn load(dir: &Path) -> Result<Self, ReplicaError> {
        let ca = certificates(&dir.join(CA_FILE))?;
        let chain = certificates(&dir.join(CERT_FILE))?;
        let key_path = dir.join(KEY_FILE);
        let key = PrivateKeyDer::from_pem_slice(&read(&key_path)?)
            .map_err(|error| unusable(&key_path, format!("no private key in PEM ({error})")))?;
        let revocations = Revocations::load(dir.join(CRL_FILE), ca.clone())?;
        Self::assemble(chain, key, ca, revocations).map_err(|reason| unusable(dir, reason))
    }

    /// An identity from parts in memory, checked as [`Identity::load`] does. It knows of no
    /// revocations.
    pub(crate) fn from_parts(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        ca: Vec<CertificateDer<'static>>,
    ) -> Result<Self, String> {
        Self::assemble(chain, key, ca, Revocations::none())
    }

    fn assemble(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        ca: Vec<CertificateDer<'static>>,
        revocations: Revocations,
    ) -> Result<Self, String> {
        let leaf = chain.first().ok_or("the certificate chain is empty")?;
        let name = common_name(leaf).ok_or("the certificate has no common name")?;
        let identity = Self {
            name,
            chain,
            key,
            ca,
            revocations,
        };
        identity.check_chain()?;
        identity.server_tls().map_err(|error| error.to_string())?;
        identity.client_tls().map_err(|error| error.to_string())?;
        Ok(identity)
    }

    /// Common name of the certificate: the name other nodes know this one by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What is revoked, as this node knows it; nothing for an identity made in memory.
    pub(crate) fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// TLS for the primary: TLS 1.3, a client certificate of the cluster required that is not
    /// revoked now, no early data.
    pub(crate) fn server_tls(&self) -> Result<rustls::ServerConfig, ReplicaError> {
        let roots = Arc::new(self.roots().map_err(ReplicaError::Tls)?);
        // A list says what is revoked and nothing else: an old one, or none of that CA, must not
        // lock nodes out.
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .with_crls(self.revocations.crls())
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status()
            .build()
            .map_err(tls)?;
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(tls)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.max_early_data_size = 0;
        // A resumed session would skip looking at the certificate again.
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// TLS for a secondary: TLS 1.3, the primary's certificate checked against the cluster CA, what
    /// is revoked now and [`SERVER_NAME`], its own presented, no early data.
    pub(crate) fn client_tls(&self) -> Result<rustls::ClientConfig, ReplicaError> {
        let verifier = self.server_verifier().map_err(ReplicaError::Tls)?;
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(tls)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_early_data = false;
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        for certificate in &self.ca {
            roots
                .add(certificate.clone())
                .map_err(|error| format!("the cluster CA: {error}"))?;
        }
        if roots.is_empty() {
            return Err("the cluster CA has no certificate".to_owned());
        }
        Ok(roots)
    }

    fn server_verifier(&self) -> Result<Arc<WebPkiServerVerifier>, String> {
        WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), provider())
            .with_crls(self.revocations.crls())
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| error.to_string())
    }

    fn check_chain(&self) -> Result<(), String> {
        let verifier = self.server_verifier()?;
        let (leaf, between) = self
            .chain
            .split_first()
            .ok_or("the certificate chain is empty")?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| error.to_string())?;
        match verifier.verify_server_cert(leaf, between, &name, &[], UnixTime::now()) {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(error))
                if is_about_time(&error) || error == CertificateError::Revoked =>
            {
                tracing::warn!(node = %self.name, %error, "this node's certificate: peers refuse it");
                Ok(())
            }
            Err(error) => Err(format!(
                "the certificate is not one of this cluster's CA ({error})"
            )),
        }
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            chain: self.chain.clone(),
            key: self.key.clone_key(),
            ca: self.ca.clone(),
            revocations: self.revocations.clone(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The subject's common name in a DER certificate.
pub(crate) fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = certificate
        .subject()
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?;
    (!name.is_empty()).then(|| name.to_owned())
}

/// The serial number in a DER certificate, as it is encoded there.
pub(crate) fn serial(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(certificate.tbs_certificate.raw_serial().to_vec())
}

fn is_about_time(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ReplicaError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(unusable(path, "no certificate in PEM".to_owned())),
        Err(error) => Err(unusable(path, format!("no certificate in PEM ({error})"))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ReplicaError> {
    fs::read(path).map_err(|source| ReplicaError::Read {
        path: path.to_owned(),
        source,
    })
}

fn unusable(path: &Path, reason: String) -> ReplicaError {
    ReplicaError::Certificate {
        path: path.to_owned(),
        reason,
    }
}

fn tls(error: impl fmt::Display) -> ReplicaError {
    ReplicaError::Tls(error.to_string())
}
