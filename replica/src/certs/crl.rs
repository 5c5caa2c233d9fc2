//! What a revocation list says: its issuer, number and serials, read out of PEM. It owns the limits
//! on such a file and the check of its signature; it must never decide what is done with a
//! certificate that is listed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::certs::tls::provider;

/// One list of one CA.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Crl {
    der: CertificateRevocationListDer<'static>,
    issuer: Vec<u8>,
    number: u64,
    entries: Vec<Entry>,
}

/// One revoked certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As [`plain`] leaves it.
    pub(crate) serial: Box<[u8]>,
    pub(crate) revoked_unix_s: u64,
}

impl Crl {
    /// For the TLS library.
    pub(crate) fn der(&self) -> CertificateRevocationListDer<'static> {
        self.der.clone()
    }

    /// Rises with every list of a CA.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether both are lists of one CA.
    pub(crate) fn is_of_issuer_of(&self, other: &Self) -> bool {
        self.issuer == other.issuer
    }

    fn parse(der: CertificateRevocationListDer<'static>) -> Result<Self, String> {
        let (rest, list) = x509_parser::parse_x509_crl(&der)
            .map_err(|error| format!("no revocation list ({error})"))?;
        if !rest.is_empty() {
            return Err("there are bytes after the revocation list".to_owned());
        }
        let (issuer, entries) = (list.issuer().as_raw().to_vec(), entries(&list));
        let number = number(&list)?;
        Ok(Self {
            der,
            issuer,
            number,
            entries,
        })
    }

    /// Whether one of these CAs has signed it, and may.
    fn check(&self, ca: &[CertificateDer<'static>]) -> Result<(), String> {
        let (_, list) = x509_parser::parse_x509_crl(&self.der)
            .map_err(|error| format!("no revocation list ({error})"))?;
        let mut fault = "the revocation list is of another CA than this cluster's";
        for der in ca {
            let Ok((_, authority)) = x509_parser::parse_x509_certificate(der) else {
                continue;
            };
            if authority.subject().as_raw() != self.issuer {
                continue;
            }
            let message = list.tbs_cert_list.as_ref();
            if !has_signed(&authority, message, &list.signature_value.data) {
                fault = "the revocation list's signature is not the cluster CA's";
            } else if !may_sign_lists(&authority) {
                fault = "the cluster CA's certificate does not allow it to sign revocation lists";
            } else {
                return Ok(());
            }
        }
        Err(fault.to_owned())
    }
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crl")
            .field("number", &self.number)
            .field("entries", &self.entries.len())
            .finish_non_exhaustive()
    }
}

/// The lists in a PEM file, every one signed by one of these CAs; at least one.
pub(crate) fn parse(pem: &[u8], ca: &[CertificateDer<'static>]) -> Result<Vec<Crl>, String> {
    let mut lists = Vec::new();
    for der in CertificateRevocationListDer::pem_slice_iter(pem) {
        let der = der.map_err(|error| format!("no revocation list in PEM ({error})"))?;
        if lists.len() == MAX_LISTS {
            return Err(format!("more than {MAX_LISTS} revocation lists"));
        }
        let list = Crl::parse(der)?;
        list.check(ca)?;
        lists.push(list);
    }
    if lists.is_empty() {
        return Err("no revocation list in PEM".to_owned());
    }
    accepted_by_tls(&lists, ca)?;
    Ok(lists)
}

/// Reads a file that may not be there.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        let reason = format!("it is longer than {MAX_FILE_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(Some(bytes))
}

/// A serial number without the zeros before it, as it is compared.
pub(crate) fn plain(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    serial.get(zeros..).unwrap_or_default()
}

/// Whether this CA's key made the signature of these bytes.
pub(crate) fn has_signed(ca: &X509Certificate<'_>, message: &[u8], signature: &[u8]) -> bool {
    let key = &ca.public_key().subject_public_key.data;
    // The key fits one kind of algorithm only; the others refuse it.
    let algorithms = provider().signature_verification_algorithms.all;
    algorithms
        .iter()
        .any(|algorithm| algorithm.verify_signature(key, message, signature).is_ok())
}

fn may_sign_lists(ca: &X509Certificate<'_>) -> bool {
    match ca.key_usage() {
        Ok(Some(usage)) => usage.value.crl_sign(),
        Ok(None) => true,
        Err(_) => false,
    }
}

fn number(list: &CertificateRevocationList<'_>) -> Result<u64, String> {
    let bytes = list
        .crl_number()
        .ok_or("the revocation list has no number")?
        .to_bytes_be();
    let bytes = plain(&bytes);
    let mut wide = [0; 8];
    match wide.len().checked_sub(bytes.len()) {
        Some(from) => wide
            .iter_mut()
            .skip(from)
            .zip(bytes)
            .for_each(|(into, byte)| *into = *byte),
        None => return Err("the revocation list's number is too large".to_owned()),
    }
    Ok(u64::from_be_bytes(wide))
}

fn entries(list: &CertificateRevocationList<'_>) -> Vec<Entry> {
    list.iter_revoked_certificates()
        .map(|revoked| Entry {
            serial: plain(revoked.raw_serial()).into(),
            revoked_unix_s: u64::try_from(revoked.revocation_date.timestamp()).unwrap_or(0),
        })
        .collect()
}

/// What the TLS library cannot use would fail every handshake later.
fn accepted_by_tls(lists: &[Crl], ca: &[CertificateDer<'static>]) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    for certificate in ca {
        roots
            .add(certificate.clone())
            .map_err(|error| error.to_string())?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
        .with_crls(lists.iter().map(Crl::der))
        .build()
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Bytes of a file of lists: some 50,000 entries.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A cluster has one CA, and two while it changes to another.
const MAX_LISTS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certs::files::CRL_FILE;

    #[test]
    fn serials_are_compared_without_leading_zeros() {
        assert_eq!(plain(&[0, 0x80, 0]), [0x80, 0]);
        assert_eq!(plain(&[1]), [1]);
        assert_eq!(plain(&[0, 0]), [0_u8; 0]);
        assert_eq!(plain(&[]), [0_u8; 0]);
    }

    #[test]
    fn a_file_that_is_not_there_or_too_long_is_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(CRL_FILE);
        assert_eq!(read(&path).expect("nothing there"), None);
        let file = File::create(&path).expect("a file");
        file.set_len(MAX_FILE_BYTES + 1).expect("grown");
        let error = read(&path).expect_err("too long");
        assert!(error.to_string().contains("longer than"), "{error}");
    }

    #[test]
    fn nonsense_is_no_list() {
        for pem in [
            &b""[..],
            b"nonsense",
            b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        ] {
            let error = parse(pem, &[]).expect_err("no list");
            assert!(error.contains("no revocation list"), "{error}");
        }
    }
}
