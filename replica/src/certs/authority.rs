//! Certificates of a cluster: one CA, one certificate per node. It owns what is in them and the
//! files they are kept in; it must never overwrite a file or leave a key readable by others.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, DnsName, PrivateKeyDer, PrivatePkcs8KeyDer};
use wal::clock;

use crate::certs::error::CertsError;
use crate::certs::files::{
    CA_FILE, CA_KEY_FILE, CERT_FILE, KEY_FILE, PUBLIC, SECRET, create_dir, hand_out, read,
    refuse_existing, write_new,
};
use crate::certs::identity::Identity;
use crate::certs::role::CertRole;
use crate::certs::tls::{SERVER_NAME, provider};

/// Makes a cluster CA in `dir`: `ca.pem` for everyone and `ca-key.pem`, which signs nodes and is
/// best kept off them.
///
/// # Errors
/// When one of the files is there already, or the directory cannot be written.
pub fn init(dir: &Path) -> Result<(), CertsError> {
    let (ca, key) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
    refuse_existing(&[&ca, &key])?;
    let authority = Authority::new()?;
    create_dir(dir)?;
    write_new(&key, &authority.issuer.key().serialize_pem(), SECRET)?;
    write_new(&ca, &authority.ca_pem, PUBLIC)
}

/// Makes a certificate for a node of this role, signed by the CA in `dir`:
/// `dir/name/{ca.pem, cert.pem, key.pem}`, and `crl.pem` if the CA has revoked any. Returns that
/// directory.
///
/// # Errors
/// When the name or one of `sans` cannot be, a file is there already, or `dir` holds no CA.
pub fn node(
    dir: &Path,
    name: &str,
    role: CertRole,
    sans: &[String],
) -> Result<PathBuf, CertsError> {
    check_name(name)?;
    let home = dir.join(name);
    let (ca, cert, key) = (
        home.join(CA_FILE),
        home.join(CERT_FILE),
        home.join(KEY_FILE),
    );
    refuse_existing(&[&ca, &cert, &key])?;
    let authority = Authority::load(dir)?;
    let issued = authority.sign(name, role, sans)?;
    // Nothing is written that could not be loaded, for instance because the CA's key is another's.
    authority.identity(&issued)?;
    create_dir(&home)?;
    write_new(&key, &issued.key.serialize_pem(), SECRET)?;
    write_new(&cert, &issued.certificate.pem(), PUBLIC)?;
    write_new(&ca, &authority.ca_pem, PUBLIC)?;
    hand_out(dir, &home)?;
    Ok(home)
}

/// A cluster CA in memory: what [`init`] and [`node`] keep in files, for a quickstart and for
/// tests.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    ca_der: CertificateDer<'static>,
}

impl Authority {
    /// A new CA.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> Result<Self, CertsError> {
        let key = KeyPair::generate().map_err(make)?;
        let params = ca_params();
        let certificate = params.self_signed(&key).map_err(make)?;
        Ok(Self {
            ca_pem: certificate.pem(),
            ca_der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        })
    }

    /// The CA that [`init`] made in `dir`.
    ///
    /// # Errors
    /// When the files cannot be read or are not those of a CA.
    pub fn load(dir: &Path) -> Result<Self, CertsError> {
        let (ca_path, key_path) = (dir.join(CA_FILE), dir.join(CA_KEY_FILE));
        let ca_pem = read(&ca_path)?;
        let key = KeyPair::from_pem(&read(&key_path)?).map_err(|error| CertsError::Ca {
            path: key_path,
            reason: error.to_string(),
        })?;
        let broken = |reason: String| CertsError::Ca {
            path: ca_path.clone(),
            reason,
        };
        let ca_der = first_certificate(&ca_pem).map_err(broken)?;
        let issuer =
            Issuer::from_ca_cert_der(&ca_der, key).map_err(|error| broken(error.to_string()))?;
        if issuer
            .key_usages()
            .iter()
            .all(|usage| *usage != KeyUsagePurpose::KeyCertSign)
        {
            return Err(broken("this is no CA certificate".to_owned()));
        }
        Ok(Self {
            issuer,
            ca_pem,
            ca_der,
        })
    }

    /// A node certificate of this CA, ready to use.
    ///
    /// # Errors
    /// When the name or one of `sans` cannot be.
    pub fn issue(
        &self,
        name: &str,
        role: CertRole,
        sans: &[String],
    ) -> Result<Identity, CertsError> {
        self.identity(&self.sign(name, role, sans)?)
    }

    /// One that says nothing of what its node may do, as earlier versions made them.
    #[cfg(test)]
    pub(crate) fn issue_without_role(&self, name: &str) -> Result<Identity, CertsError> {
        let key = KeyPair::generate().map_err(make)?;
        let params = node_params(name, None, &[])?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(make)?;
        self.identity(&Issued { certificate, key })
    }

    /// One that is good from `from_s` to `until_s` seconds after now.
    #[cfg(test)]
    pub(crate) fn issue_dated(
        &self,
        name: &str,
        from_s: i64,
        until_s: i64,
    ) -> Result<Identity, CertsError> {
        let at = |s: i64| {
            let s = u64::try_from(clock::unix_nanos() / 1_000_000_000 + s).unwrap_or(0);
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(s)
        };
        let mut params = node_params(name, Some(CertRole::Primary), &[])?;
        (params.not_before, params.not_after) = (at(from_s), at(until_s));
        let key = KeyPair::generate().map_err(make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(make)?;
        self.identity(&Issued { certificate, key })
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The CA's certificate.
    pub(crate) fn der(&self) -> &CertificateDer<'static> {
        &self.ca_der
    }

    fn identity(&self, issued: &Issued) -> Result<Identity, CertsError> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(issued.key.serialize_der()));
        let chain = vec![issued.certificate.der().clone()];
        Identity::from_parts(chain, key, vec![self.ca_der.clone()]).map_err(CertsError::Make)
    }

    fn sign(&self, name: &str, role: CertRole, sans: &[String]) -> Result<Issued, CertsError> {
        check_name(name)?;
        let mut params = node_params(name, Some(role), sans)?;
        params.serial_number = Some(random_serial()?);
        let key = KeyPair::generate().map_err(make)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(make)?;
        Ok(Issued { certificate, key })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

fn ca_params() -> CertificateParams {
    // The random part keeps two clusters apart by name, so that a certificate of the other one
    // fails as "unknown issuer" and not as a bad signature.
    let name = format!("Headwater cluster CA {:08x}", fastrand::u32(..));
    let mut params = dated(&name, CA_YEARS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn node_params(
    name: &str,
    role: Option<CertRole>,
    sans: &[String],
) -> Result<CertificateParams, CertsError> {
    let mut params = dated(name, NODE_YEARS);
    if let Some(role) = role {
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, role.unit());
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.subject_alt_names = alternative_names(name, sans)?;
    Ok(params)
}

/// 126 random bits: no two certificates share a number, so a revocation means one of them.
fn random_serial() -> Result<SerialNumber, CertsError> {
    let mut bytes = [0; 16];
    provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| CertsError::Make("the system has no randomness".to_owned()))?;
    // Positive and of full length, whatever comes.
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    Ok(SerialNumber::from(bytes.to_vec()))
}

fn dated(common_name: &str, years: u64) -> CertificateParams {
    let now = Duration::from_millis(clock::unix_ms());
    let begin = Duration::from_secs(now.saturating_sub(CLOCK_SKEW).as_secs());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = epoch + begin;
    params.not_after = epoch + begin + CLOCK_SKEW + YEAR * u32::try_from(years).unwrap_or(1);
    params
}

/// The name every node shares, its own where that is a DNS name, this machine, and what was asked
/// for.
fn alternative_names(name: &str, sans: &[String]) -> Result<Vec<SanType>, CertsError> {
    let mut names = vec![dns(SERVER_NAME)?];
    if DnsName::try_from(name).is_ok() {
        names.push(dns(name)?);
    }
    names.push(dns("localhost")?);
    names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    names.push(SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    for san in sans {
        names.push(match san.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => dns(san)?,
        });
    }
    let mut distinct: Vec<SanType> = Vec::with_capacity(names.len());
    for name in names {
        if !distinct.contains(&name) {
            distinct.push(name);
        }
    }
    Ok(distinct)
}

fn dns(name: &str) -> Result<SanType, CertsError> {
    let refused = || CertsError::San {
        san: name.to_owned(),
    };
    if DnsName::try_from(name).is_err() {
        return Err(refused());
    }
    Ok(SanType::DnsName(name.try_into().map_err(|_| refused())?))
}

pub(crate) fn check_name(name: &str) -> Result<(), CertsError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= 64
        && name.chars().all(allowed);
    if good {
        Ok(())
    } else {
        Err(CertsError::Name {
            name: name.to_owned(),
        })
    }
}

pub(crate) fn first_certificate(pem: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| error.to_string())
}

fn make(error: rcgen::Error) -> CertsError {
    CertsError::Make(error.to_string())
}

const CA_YEARS: u64 = 10;
const NODE_YEARS: u64 = 5;
const YEAR: Duration = Duration::from_secs(31_557_600);

/// Certificates begin this long in the past, for nodes whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_node_directory_loads_and_tells_its_name() {
        let dir = tempfile::tempdir().expect("a directory");
        init(dir.path()).expect("a CA");
        let sans = ["10.0.0.7".to_owned(), "db.example".to_owned()];
        let home = node(dir.path(), "secondary-1", CertRole::Primary, &sans).expect("a node");
        assert_eq!(home, dir.path().join("secondary-1"));
        let identity = Identity::load(&home).expect("an identity");
        assert_eq!(identity.name(), "secondary-1");
    }

    #[test]
    fn keys_are_for_their_owner_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        init(dir.path()).expect("a CA");
        let home = node(dir.path(), "n1", CertRole::Primary, &[]).expect("a node");
        for path in [dir.path().join(CA_KEY_FILE), home.join(KEY_FILE)] {
            let mode = fs::metadata(&path).expect("a file").permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", path.display());
        }
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        init(dir.path()).expect("a CA");
        let before = fs::read(dir.path().join(CA_FILE)).expect("the CA");
        let error = init(dir.path()).expect_err("a second CA");
        assert!(
            matches!(&error, CertsError::Exists { path } if path.ends_with(CA_FILE)),
            "{error}"
        );
        assert_eq!(fs::read(dir.path().join(CA_FILE)).expect("the CA"), before);

        let home = node(dir.path(), "n1", CertRole::Primary, &[]).expect("a node");
        for file in [CA_FILE, CERT_FILE] {
            fs::remove_file(home.join(file)).expect("removed");
        }
        let error = node(dir.path(), "n1", CertRole::Primary, &[]).expect_err("a second n1");
        assert!(
            matches!(&error, CertsError::Exists { path } if path.ends_with(KEY_FILE)),
            "{error}"
        );
        assert!(error.to_string().contains("key.pem"));
    }

    #[test]
    fn names_and_alternative_names_are_checked() {
        let authority = Authority::new().expect("a CA");
        let long = "x".repeat(65);
        for name in [
            "",
            ".",
            "..",
            "../evil",
            "a/b",
            "a b",
            "-x",
            "nö",
            long.as_str(),
        ] {
            let error = authority
                .issue(name, CertRole::Primary, &[])
                .expect_err(name);
            assert!(matches!(error, CertsError::Name { .. }), "{error}");
        }
        let error = authority
            .issue("n1", CertRole::Primary, &["not a name".to_owned()])
            .expect_err("a bad san");
        assert!(matches!(error, CertsError::San { .. }), "{error}");
        let sans = ["::1".to_owned(), "localhost".to_owned(), "n1".to_owned()];
        assert_eq!(
            authority
                .issue("n1", CertRole::Primary, &sans)
                .expect("a node")
                .name(),
            "n1"
        );
        assert_eq!(
            authority
                .issue("node_7.a", CertRole::Primary, &[])
                .expect("a node")
                .name(),
            "node_7.a"
        );
    }

    #[test]
    fn files_of_two_clusters_are_not_mixed() {
        let (one, two) = (
            tempfile::tempdir().expect("one"),
            tempfile::tempdir().expect("two"),
        );
        init(one.path()).expect("a CA");
        init(two.path()).expect("a CA");
        let home = node(one.path(), "n1", CertRole::Primary, &[]).expect("a node");
        fs::copy(two.path().join(CA_FILE), home.join(CA_FILE)).expect("copied");
        let error = Identity::load(&home).expect_err("another CA");
        assert!(
            error.to_string().contains("not one of this cluster's CA"),
            "{error}"
        );

        fs::copy(two.path().join(CA_KEY_FILE), one.path().join(CA_KEY_FILE)).expect("copied");
        let error =
            node(one.path(), "n2", CertRole::Primary, &[]).expect_err("a CA with another's key");
        assert!(matches!(error, CertsError::Make(_)), "{error}");
        assert!(!one.path().join("n2").exists());
    }

    #[test]
    fn a_node_certificate_is_no_ca() {
        let dir = tempfile::tempdir().expect("a directory");
        init(dir.path()).expect("a CA");
        let home = node(dir.path(), "n1", CertRole::Primary, &[]).expect("a node");
        fs::copy(home.join(CERT_FILE), home.join(CA_FILE)).expect("copied");
        fs::copy(home.join(KEY_FILE), home.join(CA_KEY_FILE)).expect("copied");
        let error = node(&home, "n2", CertRole::Primary, &[]).expect_err("no CA");
        assert!(matches!(error, CertsError::Ca { .. }), "{error}");
    }

    #[test]
    fn missing_and_broken_files_are_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let error = node(dir.path(), "n1", CertRole::Primary, &[]).expect_err("no CA there");
        assert!(error.to_string().contains("ca.pem"), "{error}");
        init(dir.path()).expect("a CA");
        let home = node(dir.path(), "n1", CertRole::Primary, &[]).expect("a node");
        fs::write(home.join(KEY_FILE), "nonsense").expect("written");
        let error = Identity::load(&home).expect_err("no key");
        assert!(error.to_string().contains("key.pem"), "{error}");
        fs::remove_file(home.join(CERT_FILE)).expect("removed");
        let error = Identity::load(&home).expect_err("no certificate");
        assert!(error.to_string().contains("cert.pem"), "{error}");
    }
}
