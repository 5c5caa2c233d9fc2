//! Who this node is to others: its certificate, key and the cluster CA, made into TLS settings. It
//! owns the choice of TLS version, cipher order and verification, and must never weaken them or use
//! a process-wide default; keys never reach a log.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::RootCertStore;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use wal::clock;

use crate::certs::files::{CA_FILE, CERT_FILE, CRL_FILE, KEY_FILE};
use crate::certs::revocations::Revocations;
use crate::certs::role::{self, CertRole, Duty};
use crate::certs::tls::{SCHEMES, SERVER_NAME, provider};
use crate::certs::witness::{self, Noting, Witness};
use crate::certs::x509;
use crate::error::ReplicaError;
use crate::fault::{CertFault, Validity};
use crate::wire::ALPN;
use crate::wire::statement::{MAX_CERTIFICATE, MAX_SIGNATURE};

/// A node's certificate and key, and the CA whose nodes it trusts. All clones share them, and take
/// up together what is read anew.
#[derive(Clone)]
pub struct Identity {
    name: String,
    /// None: made in memory.
    dir: Option<PathBuf>,
    held: Arc<watch::Sender<Arc<Held>>>,
    revocations: Revocations,
    /// Told to look at the files at once.
    nudge: Arc<Notify>,
    /// Whether somebody looks at them: a relay's two ends share an identity.
    watched: Arc<AtomicBool>,
}

/// What is in the files.
pub(crate) struct Held {
    key: Arc<CertifiedKey>,
    ca: Vec<CertificateDer<'static>>,
    validity: Validity,
    /// When the first of the CA's certificates ends.
    ca_until: i64,
}

/// The right of one task to look at an identity's files, until it is dropped.
pub(crate) struct Watch(Arc<AtomicBool>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Until when a node's certificates are good, in seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateStatus {
    /// Common name: the name other nodes know this one by.
    pub name: String,
    /// When the node's own begins.
    pub from_unix_s: i64,
    /// When the node's own ends.
    pub until_unix_s: i64,
    /// When the first of the cluster CA's ends.
    pub ca_until_unix_s: i64,
    /// What it lets its node do: "primary", "relay" or "secondary"; empty: it does not say.
    #[serde(default)]
    pub role: String,
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
        let held = read_held(dir)?;
        let revocations = Revocations::load(dir.join(CRL_FILE), held.ca.clone())?;
        let identity = Self::assemble(held, revocations, Some(dir.to_owned()));
        let identity = identity.map_err(|reason| unusable(dir, reason))?;
        if let Some(fault) = identity.fault() {
            tracing::warn!(node = %identity.name, %fault, "this node's certificate: peers refuse it");
        }
        Ok(identity)
    }

    /// An identity from parts in memory, checked as [`Identity::load`] does. It knows of no
    /// revocations.
    pub(crate) fn from_parts(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        ca: Vec<CertificateDer<'static>>,
    ) -> Result<Self, String> {
        Self::assemble(Held::new(chain, key, ca)?, Revocations::none(), None)
    }

    fn assemble(
        held: Held,
        revocations: Revocations,
        dir: Option<PathBuf>,
    ) -> Result<Self, String> {
        let identity = Self {
            name: held.name().ok_or("the certificate has no common name")?,
            dir,
            held: Arc::new(watch::Sender::new(Arc::new(held))),
            revocations,
            nudge: Arc::new(Notify::new()),
            watched: Arc::default(),
        };
        let held = identity.held();
        identity.check_chain(&held)?;
        identity.server_tls().map_err(|error| error.to_string())?;
        let witness = Witness::default();
        let client = identity.client_tls(&witness);
        client.map_err(|error| error.to_string())?;
        Ok(identity)
    }

    /// Common name of the certificate: the name other nodes know this one by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Until when its certificates are good.
    #[must_use]
    pub fn certificate(&self) -> CertificateStatus {
        let held = self.held();
        CertificateStatus {
            name: self.name.clone(),
            from_unix_s: held.validity.from,
            until_unix_s: held.validity.until,
            ca_until_unix_s: held.ca_until,
            role: self
                .role()
                .map_or_else(String::new, |role| role.to_string()),
        }
    }

    /// What its certificate lets this node do; none: it is of an earlier version and does not say.
    #[must_use]
    pub fn role(&self) -> Option<CertRole> {
        self.held().role()
    }

    /// Its certificate, as others are shown it.
    pub(crate) fn certificate_der(&self) -> Option<Vec<u8>> {
        let leaf = self.held().key.cert.first().map(|leaf| leaf.to_vec());
        leaf.filter(|leaf| leaf.len() <= MAX_CERTIFICATE)
    }

    /// Signs these bytes with the certificate's key; how, and the signature.
    pub(crate) fn sign(&self, bytes: &[u8]) -> Option<(u16, Vec<u8>)> {
        let signer = self.held().key.key.choose_scheme(SCHEMES)?;
        let signature = signer.sign(bytes).ok()?;
        (signature.len() <= MAX_SIGNATURE).then(|| (signer.scheme().into(), signature))
    }

    /// Why nobody would follow this node, by its certificate: a sentence for people. `as_primary`:
    /// it is to be the primary, else a relay.
    #[must_use]
    pub fn unfit(&self, as_primary: bool) -> Option<String> {
        let duty = if as_primary {
            Duty::Primary
        } else {
            Duty::Relay
        };
        // As those see it who have such a certificate themselves.
        let why = role::refusal(self.role(), duty, self.role())?;
        let wanted = if as_primary { "primary" } else { "relay" };
        let name = &self.name;
        Some(format!(
            "{why}: nobody follows this node; make another one with `headwater certs node DIR \
             {name} --role {wanted}`"
        ))
    }

    /// What makes peers refuse its certificate, as far as this node knows: a sentence for people.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let fault = self.fault()?;
        Some(format!("{fault}; {}", fault.advice()))
    }

    /// Looks at the files at once; otherwise they are looked at every few seconds.
    pub fn look_again(&self) {
        self.nudge.notify_waiters();
    }

    /// The right to look at the files, and to speak of them; `None` while somebody else does.
    pub(crate) fn watch(&self) -> Option<Watch> {
        let watched = Arc::clone(&self.watched);
        (!watched.swap(true, Ordering::Relaxed)).then(|| Watch(watched))
    }

    pub(crate) fn fault(&self) -> Option<CertFault> {
        let held = self.held();
        let serial = held.key.cert.first().and_then(|leaf| x509::serial(leaf));
        if serial.is_some_and(|serial| self.revocations.is_revoked(&serial)) {
            return Some(CertFault::Revoked);
        }
        held.validity.fault(now())
    }

    pub(crate) fn validity(&self) -> Validity {
        self.held().validity
    }

    /// Where its files are; `None` for one that was made in memory.
    pub(crate) fn dir(&self) -> Option<&Path> {
        self.dir.as_deref()
    }

    /// Told when the files are to be looked at.
    pub(crate) fn nudged(&self) -> &Notify {
        &self.nudge
    }

    /// Moves when other certificates are in force.
    pub(crate) fn renewals(&self) -> watch::Receiver<Arc<Held>> {
        self.held.subscribe()
    }

    /// Takes what the files hold now, if that is something else and whole. True: it was.
    pub(crate) fn reload(&self) -> Result<bool, ReplicaError> {
        let Some(dir) = &self.dir else {
            return Ok(false);
        };
        let held = read_held(dir)?;
        if held.is_same(&self.held()) {
            return Ok(false);
        }
        let refuse = |reason: String| unusable(dir, reason);
        if held.name().as_deref() != Some(&self.name) {
            let found = held.name().unwrap_or_default();
            return Err(refuse(format!(
                "the certificate is now that of {found:?}; a node takes another name only when it \
                 starts, this one is {:?}",
                self.name
            )));
        }
        self.check_chain(&held).map_err(refuse)?;
        self.revocations.trust(held.ca.clone());
        self.held.send_replace(Arc::new(held));
        Ok(true)
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.borrow())
    }

    /// What is revoked, as this node knows it; nothing for an identity made in memory.
    pub(crate) fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// TLS for the primary, for all connections from now on.
    pub(crate) fn server_tls(&self) -> Result<ServerTls, ReplicaError> {
        let held = self.held();
        let roots = Arc::new(held.roots().map_err(ReplicaError::Tls)?);
        // A list says what is revoked and nothing else: an old one, or none of that CA, must not
        // lock nodes out.
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
            .with_crls(self.revocations.crls())
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status()
            .build()
            .map_err(tls)?;
        let key = Arc::clone(&held.key);
        Ok(ServerTls { verifier, key })
    }

    /// TLS for a secondary: TLS 1.3, the primary's certificate checked against the cluster CA, what
    /// is revoked now and [`SERVER_NAME`], its own presented, no early data. What is not accepted
    /// is told to `witness`.
    pub(crate) fn client_tls(
        &self,
        witness: &Witness,
    ) -> Result<rustls::ClientConfig, ReplicaError> {
        let held = self.held();
        let verifier: Arc<dyn ServerCertVerifier> =
            self.server_verifier(&held).map_err(ReplicaError::Tls)?;
        let noting = Noting {
            verifier,
            witness: witness.clone(),
        };
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(noting))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&held.key))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.enable_early_data = false;
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn server_verifier(&self, held: &Held) -> Result<Arc<WebPkiServerVerifier>, String> {
        WebPkiServerVerifier::builder_with_provider(Arc::new(held.roots()?), provider())
            .with_crls(self.revocations.crls())
            .only_check_end_entity_revocation()
            .allow_unknown_revocation_status()
            .build()
            .map_err(|error| error.to_string())
    }

    fn check_chain(&self, held: &Held) -> Result<(), String> {
        let verifier = self.server_verifier(held)?;
        let (leaf, between) = held
            .key
            .cert
            .split_first()
            .ok_or("the certificate chain is empty")?;
        let name = ServerName::try_from(SERVER_NAME).map_err(|error| error.to_string())?;
        match verifier.verify_server_cert(leaf, between, &name, &[], UnixTime::now()) {
            Ok(_) => Ok(()),
            // Peers will refuse it; that is told elsewhere.
            Err(rustls::Error::InvalidCertificate(error))
                if matches!(
                    witness::fault(&error),
                    CertFault::Expired(_) | CertFault::NotYetValid(_) | CertFault::Revoked
                ) =>
            {
                Ok(())
            }
            Err(error) => Err(format!(
                "the certificate is not one of this cluster's CA ({error})"
            )),
        }
    }
}

impl Held {
    fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        ca: Vec<CertificateDer<'static>>,
    ) -> Result<Self, String> {
        let leaf = chain.first().ok_or("the certificate chain is empty")?;
        let validity = x509::validity(leaf).ok_or("the certificate cannot be read")?;
        let ends = ca.iter().filter_map(|ca| x509::validity(ca));
        let ca_until = ends.map(|validity| validity.until).min();
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("{KEY_FILE} is not the key of {CERT_FILE}")
            }
            error => error.to_string(),
        })?;
        Ok(Self {
            key: Arc::new(key),
            ca,
            validity,
            ca_until: ca_until.unwrap_or(validity.until),
        })
    }

    fn name(&self) -> Option<String> {
        self.key
            .cert
            .first()
            .and_then(|leaf| x509::common_name(leaf))
    }

    fn role(&self) -> Option<CertRole> {
        self.key.cert.first().and_then(|leaf| x509::role(leaf))
    }

    fn is_same(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert && self.ca == other.ca
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
}

/// TLS for a primary: TLS 1.3, a client certificate of the cluster required that is not revoked, no
/// early data.
#[derive(Clone)]
pub(crate) struct ServerTls {
    verifier: Arc<dyn ClientCertVerifier>,
    key: Arc<CertifiedKey>,
}

impl ServerTls {
    /// What judges certificates of those who connect.
    pub(crate) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// For one connection; what is not accepted is told to `witness`.
    pub(crate) fn config(&self, witness: &Witness) -> Result<rustls::ServerConfig, ReplicaError> {
        let noting = Noting {
            verifier: Arc::clone(&self.verifier),
            witness: witness.clone(),
        };
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(Arc::new(noting))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(&self.key))));
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.max_early_data_size = 0;
        // A resumed session would skip looking at the certificate again.
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn read_held(dir: &Path) -> Result<Held, ReplicaError> {
    let ca = certificates(&dir.join(CA_FILE))?;
    let chain = certificates(&dir.join(CERT_FILE))?;
    let key_path = dir.join(KEY_FILE);
    let key = PrivateKeyDer::from_pem_slice(&read(&key_path)?)
        .map_err(|error| unusable(&key_path, format!("no private key in PEM ({error})")))?;
    Held::new(chain, key, ca).map_err(|reason| unusable(dir, reason))
}

/// Seconds since 1970, by this machine's clock.
pub(crate) fn now() -> i64 {
    clock::unix_nanos().div_euclid(1_000_000_000)
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
