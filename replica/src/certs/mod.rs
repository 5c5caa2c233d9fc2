//! Certificates of a cluster: the CA, what it has signed and revoked, and what a node makes of its
//! own. It must never know what a connection is for.

pub(crate) mod authority;
pub(crate) mod crl;
pub(crate) mod error;
pub(crate) mod files;
pub(crate) mod identity;
pub(crate) mod member;
pub(crate) mod revocations;
pub(crate) mod revoke;
pub(crate) mod role;
pub(crate) mod stamp;
pub(crate) mod tls;
pub(crate) mod witness;
pub(crate) mod x509;

pub use authority::{Authority, init, node};
pub use error::CertsError;
pub use identity::{CertificateStatus, Identity};
pub use revoke::{Revoked, revoke};
pub use role::CertRole;
