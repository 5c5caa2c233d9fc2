//! What a certificate says of itself: its common name, serial number and validity. It must never
//! judge one, nor trust what it reads.

use crate::certs::role::CertRole;
use crate::fault::Validity;

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

/// What the certificate lets its node do; none: it does not say, as those of earlier versions.
pub(crate) fn role(der: &[u8]) -> Option<CertRole> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let units = certificate.subject().iter_organizational_unit();
    let roles = units.filter_map(|unit| CertRole::of_unit(unit.as_str().ok()?));
    // Of two the first counts: none of them is there by accident.
    roles.take(1).next()
}

/// The public key in a DER certificate, as it is encoded there.
pub(crate) fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(certificate.public_key().subject_public_key.data.to_vec())
}

/// The serial number in a DER certificate, as it is encoded there.
pub(crate) fn serial(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(certificate.tbs_certificate.raw_serial().to_vec())
}

/// When a DER certificate is good.
pub(crate) fn validity(der: &[u8]) -> Option<Validity> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let validity = certificate.validity();
    Some(Validity {
        from: validity.not_before.timestamp(),
        until: validity.not_after.timestamp(),
    })
}
