//! `headwater certs`: a cluster's authority and its nodes' certificates, as files. Must never
//! print what a key file holds.

use std::path::Path;

use replica::certs::{self, CertRole, CertsError};

use super::output::say;

/// Makes the authority.
pub(super) fn init(dir: &Path) -> Result<(), CertsError> {
    certs::init(dir)?;
    say!(
        "{} holds a new cluster authority; keep its key safe and off the nodes.\n\
         Next, for each node: headwater certs node {} NAME --san HOST_OR_IP\n\
         A node whose NAME begins with secondary or relay may follow and relay, any other may be the\n\
         primary too; --role says otherwise.",
        dir.display(),
        dir.display()
    );
    Ok(())
}

/// Makes one node's certificate.
pub(super) fn node(
    dir: &Path,
    name: &str,
    role: Option<CertRole>,
    sans: &[String],
) -> Result<(), CertsError> {
    let granted = role.unwrap_or_else(|| CertRole::of_name(name));
    let made = certs::node(dir, name, granted, sans)?;
    say!(
        "{} holds ca.pem, cert.pem and key.pem; set replication.certs to it on {name}.\n\
         Its role is {granted}{}: {}.",
        made.display(),
        if role.is_some() {
            ""
        } else {
            ", by its name (--role says otherwise)"
        },
        granted.allows()
    );
    Ok(())
}

/// Revokes one node's certificate.
pub(super) fn revoke(dir: &Path, name: &str) -> Result<(), CertsError> {
    let revoked = certs::revoke(dir, name)?;
    say!(
        "The certificate of {name} (serial number {}) {} revoked; {} lists {} in all.",
        revoked.serial,
        if revoked.already { "was already" } else { "is" },
        revoked.list.display(),
        revoked.listed
    );
    let own = dir.join(name);
    let others: Vec<_> = revoked
        .copies
        .iter()
        .filter(|copy| !copy.starts_with(&own))
        .collect();
    if !others.is_empty() {
        say!(
            "Copy each of these to its node, into the directory that replication.certs names there;\n\
             a running node follows it within 10 seconds. Until a node has it, it lets {name} in."
        );
    }
    for copy in others {
        say!("  {}", copy.display());
    }
    say!(
        "To let {name} in again: move {} away, then headwater certs node {} {name}",
        own.display(),
        dir.display()
    );
    Ok(())
}
