//! Revoking a node's certificate: the CA's list and its copies beside every node's certificate. It
//! owns those files; it must never take an entry off the list, nor leave half a list where a node
//! may read it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use wal::clock;

use crate::certs::authority::{Authority, check_name, first_certificate};
use crate::certs::crl::{self, Crl, Entry};
use crate::certs::error::CertsError;
use crate::certs::files::{CERT_FILE, CRL_FILE, hand_out, read, replace};
use crate::certs::x509;

/// What [`revoke`] has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    /// Serial number of the revoked certificate, in hexadecimal.
    pub serial: String,
    /// It was on the list before.
    pub already: bool,
    /// Certificates on the list.
    pub listed: usize,
    /// The CA's list.
    pub list: PathBuf,
    /// The copies beside the nodes' certificates; each belongs on its node.
    pub copies: Vec<PathBuf>,
}

/// Puts the certificate `dir/name/cert.pem` on the list `dir/crl.pem` of the CA in `dir`, and
/// copies the list into every node's directory there. One that is listed already is no error: the
/// copies are brought up to date.
///
/// # Errors
/// When there is no such certificate, it is not alone with its serial number, or a file cannot be
/// written: then what is listed so far stays so.
pub fn revoke(dir: &Path, name: &str) -> Result<Revoked, CertsError> {
    check_name(name)?;
    let authority = Authority::load(dir)?;
    let nodes = nodes(dir, authority.der())?;
    let serial = serial_of(dir, name, &nodes)?;
    let path = dir.join(CRL_FILE);
    let held = held(&path, authority.der())?;
    let mut entries = held.as_ref().map_or(&[][..], Crl::entries).to_vec();
    let already = entries.iter().any(|entry| entry.serial == serial);
    if !already {
        let revoked_unix_s = clock::unix_ms() / 1000;
        entries.push(Entry {
            serial: serial.clone(),
            revoked_unix_s,
        });
        let number = held.map_or(0, |held| held.number()).saturating_add(1);
        let pem = sign(&entries, number, authority.issuer()).map_err(|error| ca(&path, error))?;
        // What nodes could not use must not replace what they can.
        crl::parse(pem.as_bytes(), &[authority.der().clone()])
            .map_err(|reason| ca(&path, reason))?;
        replace(&path, pem.as_bytes())?;
    }
    let mut copies = Vec::with_capacity(nodes.len());
    for node in &nodes {
        copies.extend(hand_out(dir, &node.home)?);
    }
    Ok(Revoked {
        serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
        already,
        listed: entries.len(),
        list: path,
        copies,
    })
}

/// A node's directory in the CA's.
struct Node {
    name: String,
    home: PathBuf,
    certificate: CertificateDer<'static>,
    serial: Box<[u8]>,
}

/// The directories with certificates of this CA, by name. Others are none of its business.
fn nodes(dir: &Path, ca: &CertificateDer<'static>) -> Result<Vec<Node>, CertsError> {
    let listing = fs::read_dir(dir).map_err(|source| CertsError::io("read", dir, source))?;
    let mut nodes = Vec::new();
    for entry in listing {
        let entry = entry.map_err(|source| CertsError::io("read", dir, source))?;
        let home = entry.path();
        let Ok(pem) = fs::read_to_string(home.join(CERT_FILE)) else {
            continue;
        };
        let Ok(certificate) = first_certificate(&pem) else {
            continue;
        };
        if !is_signed(&certificate, ca) {
            continue;
        }
        if let Some(serial) = x509::serial(&certificate) {
            nodes.push(Node {
                name: entry.file_name().to_string_lossy().into_owned(),
                home,
                certificate,
                serial: crl::plain(&serial).into(),
            });
        }
    }
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(nodes)
}

/// The serial number to put on the list, if it means this certificate and no other.
fn serial_of(dir: &Path, name: &str, nodes: &[Node]) -> Result<Box<[u8]>, CertsError> {
    let Some(node) = nodes.iter().find(|node| node.name == name) else {
        let path = dir.join(name).join(CERT_FILE);
        read(&path)?;
        return Err(ca(&path, "this is no certificate of this CA"));
    };
    let others: Vec<String> = nodes
        .iter()
        .filter(|other| other.serial == node.serial && other.certificate != node.certificate)
        .map(|other| other.name.clone())
        .collect();
    if others.is_empty() {
        Ok(node.serial.clone())
    } else {
        Err(CertsError::SameSerial {
            name: name.to_owned(),
            others: others.join(", "),
        })
    }
}

fn is_signed(certificate: &CertificateDer<'static>, ca: &CertificateDer<'static>) -> bool {
    let parsed = (
        x509_parser::parse_x509_certificate(certificate),
        x509_parser::parse_x509_certificate(ca),
    );
    let (Ok((_, certificate)), Ok((_, ca))) = parsed else {
        return false;
    };
    let signature = &certificate.signature_value.data;
    crl::has_signed(&ca, certificate.tbs_certificate.as_ref(), signature)
}

/// The list so far.
fn held(path: &Path, authority: &CertificateDer<'static>) -> Result<Option<Crl>, CertsError> {
    let Some(pem) = crl::read(path).map_err(|source| CertsError::io("read", path, source))? else {
        return Ok(None);
    };
    let mut lists =
        crl::parse(&pem, std::slice::from_ref(authority)).map_err(|reason| ca(path, reason))?;
    let list = lists.pop();
    if lists.is_empty() {
        Ok(list)
    } else {
        Err(ca(path, "it holds more than one revocation list"))
    }
}

fn sign(
    entries: &[Entry],
    number: u64,
    issuer: &Issuer<'static, KeyPair>,
) -> Result<String, rcgen::Error> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let now = epoch + Duration::from_secs(clock::unix_ms() / 1000);
    let revoked_certs = entries
        .iter()
        .map(|entry| RevokedCertParams {
            serial_number: SerialNumber::from(entry.serial.to_vec()),
            revocation_time: epoch + Duration::from_secs(entry.revoked_unix_s),
            reason_code: None,
            invalidity_date: None,
        })
        .collect();
    let list = CertificateRevocationListParams {
        this_update: now,
        next_update: now + LIFETIME,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    list.signed_by(issuer)?.pem()
}

fn ca(path: &Path, reason: impl ToString) -> CertsError {
    CertsError::Ca {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

/// A list must outlive the CA: nodes do not look at its end, other tools might.
const LIFETIME: Duration = Duration::from_secs(100 * 31_557_600);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs;
    use crate::certs::identity::Identity;

    fn cluster(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a directory");
        certs::init(dir.path()).expect("a CA");
        for name in names {
            certs::node(dir.path(), name, certs::CertRole::Primary, &[]).expect("a node");
        }
        dir
    }

    fn list(dir: &Path) -> Crl {
        let authority = Authority::load(dir).expect("the CA");
        let held = held(&dir.join(CRL_FILE), authority.der()).expect("a list");
        held.expect("a file")
    }

    #[test]
    fn the_list_grows_its_number_rises_and_every_node_gets_a_copy() {
        let dir = cluster(&["a", "b", "c"]);
        let first = revoke(dir.path(), "a").expect("revoked");
        let before = list(dir.path());
        assert_eq!(
            (first.already, first.listed, before.number()),
            (false, 1, 1)
        );

        let second = revoke(dir.path(), "b").expect("revoked");
        let after = list(dir.path());
        assert_eq!(
            (second.already, second.listed, after.number()),
            (false, 2, 2)
        );
        assert_eq!(
            &after.entries()[..1],
            before.entries(),
            "it stays as it was"
        );
        assert_ne!(first.serial, second.serial);

        let homes = ["a", "b", "c"].map(|name| dir.path().join(name).join(CRL_FILE));
        assert_eq!(second.copies, homes);
        let bytes = fs::read(&second.list).expect("the list");
        for copy in homes {
            assert_eq!(fs::read(&copy).expect("a copy"), bytes);
        }
        assert!(!dir.path().join("crl.pem.new").exists());
    }

    #[test]
    fn revoking_twice_changes_nothing_but_brings_copies_up_to_date() {
        let dir = cluster(&["a", "b"]);
        let first = revoke(dir.path(), "a").expect("revoked");
        let bytes = fs::read(&first.list).expect("the list");
        let lost = dir.path().join("b").join(CRL_FILE);
        fs::remove_file(&lost).expect("removed");
        let again = revoke(dir.path(), "a").expect("no error");
        assert!(again.already);
        assert_eq!(again.serial, first.serial);
        assert_eq!(fs::read(&again.list).expect("the list"), bytes);
        assert_eq!(fs::read(&lost).expect("a copy"), bytes);
    }

    #[test]
    fn a_new_certificate_of_a_revoked_name_is_not_revoked() {
        let dir = cluster(&["a", "b"]);
        let old = revoke(dir.path(), "a").expect("revoked");
        let aside = dir.path().join("a.revoked");
        fs::rename(dir.path().join("a"), &aside).expect("moved");
        let home = certs::node(dir.path(), "a", certs::CertRole::Primary, &[]).expect("a node");
        let identity = Identity::load(&home).expect("an identity");
        let pem = fs::read_to_string(home.join(CERT_FILE)).expect("a file");
        let new = x509::serial(&first_certificate(&pem).expect("a certificate"));
        assert!(!identity.revocations().crls().is_empty(), "it got the list");
        assert!(!identity.revocations().is_revoked(&new.expect("a serial")));

        let both = revoke(dir.path(), "a").expect("revoked");
        assert_eq!((both.already, both.listed), (false, 2));
        assert_ne!(both.serial, old.serial);
        assert_eq!(both.copies.len(), 3, "one beside the old certificate too");
    }

    #[test]
    fn certificates_that_share_a_number_are_not_revoked_together_unasked() {
        let dir = cluster(&["a", "b"]);
        let authority = Authority::load(dir.path()).expect("the CA");
        for name in ["a", "b"] {
            let mut params = rcgen::CertificateParams::default();
            params.serial_number = Some(SerialNumber::from(7));
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            let key = KeyPair::generate().expect("a key");
            let made = params.signed_by(&key, authority.issuer()).expect("signed");
            fs::write(dir.path().join(name).join(CERT_FILE), made.pem()).expect("written");
        }
        let error = revoke(dir.path(), "a").expect_err("one number, two nodes");
        assert!(
            matches!(&error, CertsError::SameSerial { name, others } if name == "a" && others == "b"),
            "{error}"
        );
        assert!(!dir.path().join(CRL_FILE).exists());
    }

    #[test]
    fn only_certificates_of_this_ca_can_be_revoked() {
        let (dir, other) = (cluster(&["a"]), cluster(&["b"]));
        let error = revoke(dir.path(), "nobody").expect_err("no such node");
        assert!(error.to_string().contains("nobody"), "{error}");
        let error = revoke(dir.path(), "../a").expect_err("no name");
        assert!(matches!(error, CertsError::Name { .. }), "{error}");

        let from = other.path().join("b").join(CERT_FILE);
        fs::copy(from, dir.path().join("a").join(CERT_FILE)).expect("copied");
        let error = revoke(dir.path(), "a").expect_err("another CA's");
        assert!(
            error.to_string().contains("no certificate of this CA"),
            "{error}"
        );
    }

    #[test]
    fn a_list_that_is_not_the_cas_is_not_overwritten() {
        let (dir, other) = (cluster(&["a"]), cluster(&["b"]));
        revoke(other.path(), "b").expect("revoked");
        let foreign = fs::read(other.path().join(CRL_FILE)).expect("a list");
        for bytes in [&foreign[..], b"nonsense"] {
            fs::write(dir.path().join(CRL_FILE), bytes).expect("written");
            let error = revoke(dir.path(), "a").expect_err("not its own list");
            assert!(error.to_string().contains(CRL_FILE), "{error}");
            assert_eq!(fs::read(dir.path().join(CRL_FILE)).expect("a file"), bytes);
        }
    }
}
