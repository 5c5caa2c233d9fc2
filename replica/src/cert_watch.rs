//! The task that keeps what a node shows its peers, and checks them by, up to the files of its
//! certificate directory. It owns when a listening endpoint gets new TLS settings and when it is
//! said that a certificate ends; it must never judge a list or a certificate: `certs` does.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use wal::{Due, Quiet};

use crate::certs::files::{CA_FILE, CERT_FILE, KEY_FILE};
use crate::certs::identity::{self, Identity};
use crate::certs::stamp::Stamp;
use crate::error::ReplicaError;
use crate::fault::{CertFault, Moment};
use crate::quic::Endpoint;

/// Keeps what a node has of its certificates up to their files, until `shutdown`: the certificate
/// and the revocation list, which links and the next connection look at, and the TLS settings of an
/// endpoint that listens.
pub(crate) async fn keep(
    identity: Identity,
    listening: Option<Arc<Endpoint>>,
    shutdown: CancellationToken,
) {
    let renewing = async {
        if let Some(endpoint) = &listening {
            renew(&identity, endpoint).await;
        }
    };
    let revoking = identity.revocations().watch_task(shutdown.clone());
    let watching = async {
        if let Some(_watch) = identity.watch() {
            tokio::join!(reread(&identity, LOOK_EVERY), remind(&identity));
        }
    };
    let all = async { tokio::join!(renewing, revoking, watching) };
    tokio::select! {
        _ = all => {}
        () = shutdown.cancelled() => {}
    }
}

async fn renew(identity: &Identity, endpoint: &Endpoint) {
    let mut changed = identity.revocations().changed();
    let mut renewed = identity.renewals();
    // Whatever came between binding and now counts as news.
    changed.mark_changed();
    loop {
        let alive = tokio::select! {
            alive = changed.changed() => alive.is_ok(),
            alive = renewed.changed() => alive.is_ok(),
        };
        if !alive {
            return;
        }
        if let Err(error) = endpoint.set_identity(identity) {
            // Revoked peers are still turned away, after the TLS handshake.
            tracing::error!(%error, "the new certificates cannot be used for TLS");
        }
    }
}

/// Takes up what is in the files whenever they are others. Sessions go on.
async fn reread(identity: &Identity, pause: Duration) {
    let Some(dir) = identity.dir() else { return };
    let mut seen = None;
    // A fault of its own is news even while another was told of; these texts count nothing.
    let mut quiet: Quiet<String> = Quiet::default();
    loop {
        let now = stamps(dir).await;
        let is_other = seen.as_ref().is_some_and(|seen| *seen != now);
        if is_other || seen.is_none() {
            match reload(identity).await {
                Ok(renewed) => {
                    quiet.reset();
                    if renewed {
                        say_renewed(identity);
                    }
                    seen = Some(now);
                }
                // Files that are being exchanged are looked at again.
                Err(error) => {
                    if is_other && quiet.note(error.to_string(), Instant::now()) != Due::Not {
                        tracing::warn!(reason = %error, "the certificate in force stays");
                    }
                    seen = seen.or(Some(Vec::new()));
                }
            }
        }
        tokio::select! {
            () = sleep(pause) => {}
            () = identity.nudged().notified() => {}
        }
    }
}

async fn stamps(dir: &Path) -> Vec<Option<Stamp>> {
    let paths = [CA_FILE, CERT_FILE, KEY_FILE].map(|name| dir.join(name));
    let stamps = move || {
        let stamps = paths.iter().map(|path| Stamp::of(path).ok().flatten());
        stamps.collect()
    };
    spawn_blocking(stamps).await.unwrap_or_default()
}

async fn reload(identity: &Identity) -> Result<bool, ReplicaError> {
    let reading = identity.clone();
    match spawn_blocking(move || reading.reload()).await {
        Ok(reloaded) => reloaded,
        Err(error) => Err(ReplicaError::Tls(error.to_string())),
    }
}

fn say_renewed(identity: &Identity) {
    let until = Moment(identity.validity().until);
    tracing::info!(node = identity.name(), %until,
        "new certificates are in force for the next connections");
    if let Some(fault) = identity.fault() {
        tracing::warn!(%fault, advice = fault.advice(), "this node's certificate: peers refuse it");
    }
}

/// Says once a day that a certificate ends soon, or has ended.
async fn remind(identity: &Identity) {
    let mut renewed = identity.renewals();
    loop {
        let status = identity.certificate();
        let now = identity::now();
        let (own, ca) = (status.until_unix_s, status.ca_until_unix_s);
        let lines = [(own, ending(own, now)), (ca, ca_ending(ca, now))];
        for (until, line) in lines {
            if let Some(line) = line {
                let (name, until) = (&status.name, Moment(until));
                tracing::warn!(node = %name, %until, "{line}");
            }
        }
        tokio::select! {
            () = sleep(DAY) => {}
            changed = renewed.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// What there is to say of a node's certificate that ends at `until`.
fn ending(until: i64, now: i64) -> Option<String> {
    let ends = ends(until, now)?;
    let advice = CertFault::Expired(None).advice();
    Some(format!(
        "this node's certificate {ends}: then no connection comes about any more; {advice}"
    ))
}

/// The same of the cluster CA's: what it has signed is accepted for as long as that is good itself.
fn ca_ending(until: i64, now: i64) -> Option<String> {
    let ends = ends(until, now)?;
    Some(format!(
        "the cluster CA's certificate {ends}: nodes go on accepting each other, other programs may \
         not; make another CA (`headwater certs init` in a new directory), put both CAs into the \
         ca.pem of every node, then give each node a certificate of the new one"
    ))
}

fn ends(until: i64, now: i64) -> Option<String> {
    let left = until.saturating_sub(now);
    let days = left / 86_400;
    if left < 0 {
        return Some("has expired".to_owned());
    }
    (days < WARN_DAYS).then(|| match days {
        0 => "ends within a day".to_owned(),
        1 => "ends in 1 day".to_owned(),
        _ => format!("ends in {days} days"),
    })
}

/// A running node takes up new files within ten seconds.
const LOOK_EVERY: Duration = Duration::from_secs(3);

const DAY: Duration = Duration::from_secs(86_400);

/// Days before its end that a certificate is spoken of.
const WARN_DAYS: i64 = 30;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::time::timeout;

    use super::*;
    use crate::certs;
    use crate::quic::Link;

    const SOON: Duration = Duration::from_millis(2);
    const WITHIN: Duration = Duration::from_secs(20);

    #[test]
    fn an_end_is_announced_thirty_days_ahead() {
        let day = 86_400;
        assert_eq!(ending(31 * day, 0), None);
        assert_eq!(ending(30 * day, 0), None);
        let line = ending(30 * day, 1).expect("soon");
        assert!(line.contains("certificate ends in 29 days"), "{line}");
        let line = ending(day / 2, 0).expect("soon");
        assert!(line.contains("ends within a day"), "{line}");
        let line = ending(0, 1).expect("over");
        assert!(line.contains("has expired: then no connection"), "{line}");
    }

    #[test]
    fn an_end_of_the_ca_is_announced_with_what_it_means() {
        assert_eq!(ca_ending(30 * 86_400, 0), None);
        for until in [0, 86_400] {
            let line = ca_ending(until, 1).expect("soon");
            assert!(line.contains("go on accepting each other"), "{line}");
            assert!(line.contains("certs init"), "{line}");
        }
    }

    async fn meet(endpoint: &Endpoint, dialer: &Identity) -> (Link, Link, Endpoint) {
        let address = endpoint.local_addr().expect("an address");
        let socket = Endpoint::dial(
            address,
            dialer,
            1 << 20,
            &wal::Share::unlimited("replication"),
        )
        .expect("dials");
        let accepting = async {
            let incoming = endpoint.accept().await.expect("an incoming connection");
            incoming.accept().await
        };
        let (here, there) = tokio::join!(accepting, socket.connect(address));
        (here.expect("taken"), there.expect("connects"), socket)
    }

    #[tokio::test]
    async fn certificates_are_taken_up_from_their_files_and_sessions_go_on() {
        let dir = tempfile::tempdir().expect("a directory");
        certs::init(dir.path()).expect("a CA");
        let home = certs::node(dir.path(), "a", certs::CertRole::Primary, &[]).expect("a node");
        certs::node(dir.path(), "b", certs::CertRole::Primary, &[]).expect("a node");
        let identity = Identity::load(&home).expect("an identity");
        let dialer = Identity::load(&dir.path().join("b")).expect("an identity");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = Endpoint::listen(
            any,
            &identity,
            1 << 20,
            &wal::Share::unlimited("replication"),
        )
        .expect("listens");
        let endpoint = Arc::new(endpoint);
        let (here, there, _socket) = meet(&endpoint, &dialer).await;
        let before = there.serial().to_vec();

        let watching = identity.clone();
        let watch = tokio::spawn(async move { reread(&watching, SOON).await });
        let (renewing, listening) = (identity.clone(), Arc::clone(&endpoint));
        let renew = tokio::spawn(async move { renew(&renewing, &listening).await });
        // Half of an exchange: the key is not the certificate's.
        let next = tempfile::tempdir().expect("a directory");
        let moved = next.path().join("old");
        std::fs::rename(&home, &moved).expect("moves");
        certs::node(dir.path(), "a", certs::CertRole::Primary, &[]).expect("a new certificate");
        let mut renewals = identity.renewals();
        let taken = timeout(WITHIN, renewals.changed()).await;
        taken.expect("in time").expect("taken up");
        let renewed = async {
            loop {
                let (_, now, _socket) = meet(&endpoint, &dialer).await;
                if now.serial() != before {
                    return;
                }
            }
        };
        timeout(WITHIN, renewed).await.expect("new settings");
        assert!(here.open_blocks().await.is_ok(), "the session goes on");
        // A certificate of another name, or of no use, changes nothing.
        std::fs::write(home.join(CERT_FILE), "no certificate").expect("writes");
        assert!(identity.reload().is_err());
        let b = dir.path().join("b");
        for file in [CERT_FILE, KEY_FILE] {
            std::fs::copy(b.join(file), home.join(file)).expect("copies");
        }
        let error = identity.reload().expect_err("another name").to_string();
        assert!(error.contains("\"b\""), "{error}");
        meet(&endpoint, &dialer).await;
        watch.abort();
        renew.abort();
    }
}
