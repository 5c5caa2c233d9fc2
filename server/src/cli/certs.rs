//! `headwater certs`: a cluster's authority and its nodes' certificates, as files.

use std::path::Path;

use replica::certs::{self, CertsError};

/// Makes the authority.
pub(super) fn init(dir: &Path) -> Result<(), CertsError> {
    certs::init(dir)?;
    println!(
        "{} holds a new cluster authority; keep its key safe and off the nodes.\n\
         Next, for each node: headwater certs node {} NAME --san HOST_OR_IP",
        dir.display(),
        dir.display()
    );
    Ok(())
}

/// Makes one node's certificate.
pub(super) fn node(dir: &Path, name: &str, sans: &[String]) -> Result<(), CertsError> {
    let made = certs::node(dir, name, sans)?;
    println!(
        "{} holds ca.pem, cert.pem and key.pem; set replication.certs to it on {name}.",
        made.display()
    );
    Ok(())
}
