//! What a revocation promises, over real connections of nodes whose certificates are files. It owns
//! the cluster in a temporary directory and must never wait for time to pass, only for an outcome.

use std::net::SocketAddr;

use std::fs;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;
use crate::cert_watch::keep;
use crate::certs::files::CRL_FILE;
use crate::certs::identity::Identity;
use crate::certs::x509;
use crate::certs::{self, Authority};
use crate::error::LinkError;
use crate::fault::CertFault;
use crate::quic::Endpoint;
use crate::quic::Link;

struct Cluster(TempDir);

impl Cluster {
    fn of(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        certs::init(dir.path()).expect("a CA");
        for name in names {
            certs::node(dir.path(), name, certs::CertRole::Primary, &[]).expect("a node");
        }
        Self(dir)
    }

    fn home(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn node(&self, name: &str) -> Identity {
        Identity::load(&self.home(name)).expect("an identity")
    }

    fn revoke(&self, name: &str) {
        certs::revoke(self.0.path(), name).expect("revoked");
    }
}

fn listen(identity: &Identity) -> Endpoint {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Endpoint::listen(
        any,
        identity,
        1 << 20,
        &wal::Share::unlimited("replication"),
    )
    .expect("listens")
}

/// Both ends of one attempt, seen to its outcome, and the socket of the dialing one.
struct Meeting {
    listener: Result<Link, LinkError>,
    dialer: Result<Link, LinkError>,
    _socket: Endpoint,
}

async fn meet(listening: &Endpoint, dialer: &Identity) -> Meeting {
    let address = listening.local_addr().expect("an address");
    let socket = Endpoint::dial(
        address,
        dialer,
        1 << 20,
        &wal::Share::unlimited("replication"),
    )
    .expect("dials");
    let accepting = async {
        let incoming = listening.accept().await.expect("an incoming connection");
        incoming.accept().await
    };
    let (listener, mut dialer) = tokio::join!(accepting, socket.connect(address));
    // A dialer takes part in TLS to the end before it hears that it was refused.
    if let (Err(_), Ok(link)) = (&listener, &dialer) {
        dialer = Err(link.closed().await);
    }
    Meeting {
        listener,
        dialer,
        _socket: socket,
    }
}

impl Meeting {
    fn links(&self) -> (&Link, &Link) {
        let (listener, dialer) = (&self.listener, &self.dialer);
        (
            listener.as_ref().expect("the listener's link"),
            dialer.as_ref().expect("the dialer's link"),
        )
    }

    fn errors(self) -> (LinkError, LinkError) {
        (
            self.listener.err().expect("refused at the listener"),
            self.dialer.err().expect("refused at the dialer"),
        )
    }
}

fn is_own(error: &LinkError) -> bool {
    let fault = CertFault::Revoked;
    matches!(error, LinkError::OwnCertificate { fault: told, .. } if *told == fault)
}

/// The certificate of this peer is revoked.
fn revoked(name: &str) -> LinkError {
    LinkError::PeerCertificate {
        name: Some(name.to_owned()),
        fault: CertFault::Revoked,
    }
}

#[tokio::test]
async fn a_revoked_node_is_refused_whoever_dials_and_both_sides_say_why() {
    let cluster = Cluster::of(&["a", "b", "c"]);
    cluster.revoke("b");

    let a = listen(&cluster.node("a"));
    let (listener, dialer) = meet(&a, &cluster.node("b")).await.errors();
    assert_eq!(listener, revoked("b"));
    assert!(is_own(&dialer), "{}", dialer);
    for error in [listener, dialer] {
        assert!(error.to_string().contains("revoked"), "{error}");
        assert!(error.is_about_certificate());
    }

    let b = listen(&cluster.node("b"));
    let (listener, dialer) = meet(&b, &cluster.node("c")).await.errors();
    assert!(is_own(&listener), "{}", listener);
    assert_eq!(dialer, revoked("b"));

    meet(&a, &cluster.node("c")).await.links();
}

#[tokio::test]
async fn a_link_knows_the_serial_of_its_peer() {
    let cluster = Cluster::of(&["a", "b"]);
    let a = listen(&cluster.node("a"));
    let meeting = meet(&a, &cluster.node("b")).await;
    let (listener, dialer) = meeting.links();
    assert_ne!(listener.serial(), dialer.serial());
    cluster.revoke("b");
    let revocations = cluster.node("a").revocations().clone();
    assert!(revocations.is_revoked(listener.serial()));
    assert!(!revocations.is_revoked(dialer.serial()));
}

#[tokio::test]
async fn a_listening_node_follows_the_file_and_ends_what_is_connected() {
    let cluster = Cluster::of(&["a", "b", "c"]);
    let identity = cluster.node("a");
    let (a, b, c) = (listen(&identity), cluster.node("b"), cluster.node("c"));
    let (of_b, of_c) = (meet(&a, &b).await, meet(&a, &c).await);
    let (stop, a) = (CancellationToken::new(), Arc::new(a));
    let revocations = identity.revocations().clone();
    let watching = {
        let stop = stop.clone();
        tokio::spawn(async move { revocations.watch_every(SOON, stop).await })
    };
    let keeping = tokio::spawn(keep(identity, Some(Arc::clone(&a)), stop.clone()));

    cluster.revoke("b");
    let (listener, dialer) = of_b.links();
    let ends = async { tokio::join!(listener.closed(), dialer.closed()) };
    let ends = timeout(WITHIN, ends).await.expect("the connection ends");
    assert_eq!(ends.0, revoked("b"));
    assert!(is_own(&ends.1), "{}", ends.1);

    // Until the endpoint has its new settings, b is turned away after the handshake; then in it.
    let (listener, dialer) = meet(&a, &b).await.errors();
    assert_eq!(listener, revoked("b"));
    assert!(is_own(&dialer), "{dialer}");

    let (listener, _) = of_c.links();
    assert!(listener.open_blocks().await.is_ok(), "c is let be");
    meet(&a, &c).await.links();
    stop.cancel();
    watching.await.expect("watching ends");
    keeping.await.expect("keeping ends");
}

#[tokio::test]
async fn a_peer_revoked_during_its_handshake_gets_no_link() {
    let cluster = Cluster::of(&["a", "b"]);
    let (identity, b) = (cluster.node("a"), cluster.node("b"));
    let a = listen(&identity);
    cluster.revoke("b");
    let revocations = identity.revocations();
    let source = revocations.source.clone().expect("a file");
    assert!(revocations.look(&source, &mut None).await.expect("news"));
    // The endpoint has the settings of before, as a handshake under way has.
    let (listener, dialer) = meet(&a, &b).await.errors();
    assert_eq!(listener, revoked("b"));
    assert!(is_own(&dialer), "{}", dialer);
}

#[tokio::test]
async fn new_settings_refuse_the_next_connection_in_its_handshake() {
    let cluster = Cluster::of(&["a", "b"]);
    let identity = cluster.node("a");
    let (a, b) = (listen(&identity), cluster.node("b"));
    meet(&a, &b).await.links();
    cluster.revoke("b");
    a.set_identity(&cluster.node("a")).expect("swapped");
    let (listener, dialer) = meet(&a, &b).await.errors();
    assert_eq!(listener, revoked("b"));
    assert!(is_own(&dialer), "{}", dialer);
}

#[tokio::test]
async fn a_dialing_node_leaves_a_revoked_upstream_and_does_not_come_back() {
    let cluster = Cluster::of(&["a", "b"]);
    let (a, b) = (listen(&cluster.node("a")), cluster.node("b"));
    let meeting = meet(&a, &b).await;
    let stop = CancellationToken::new();
    let (revocations, stopped) = (b.revocations().clone(), stop.clone());
    let watching = tokio::spawn(async move { revocations.watch_every(SOON, stopped).await });

    cluster.revoke("a");
    let (listener, dialer) = meeting.links();
    let ends = async { tokio::join!(listener.closed(), dialer.closed()) };
    let ends = timeout(WITHIN, ends).await.expect("the connection ends");
    assert!(is_own(&ends.0), "{}", ends.0);
    assert_eq!(ends.1, revoked("a"));
    let (listener, dialer) = meet(&a, &b).await.errors();
    assert!(is_own(&listener), "{}", listener);
    assert_eq!(dialer, revoked("a"));
    stop.cancel();
    watching.await.expect("watching ends");
}

#[tokio::test]
async fn what_is_revoked_stays_so_whatever_becomes_of_the_file() {
    let cluster = Cluster::of(&["a", "b", "c"]);
    let identity = cluster.node("a");
    let revocations = identity.revocations();
    let source = revocations.source.clone().expect("a file");
    let (file, mut seen) = (cluster.home("a").join(CRL_FILE), None);
    assert!(!revocations.look(&source, &mut seen).await.expect("no file"));

    cluster.revoke("b");
    let first = fs::read(&file).expect("a list");
    assert!(revocations.look(&source, &mut seen).await.expect("news"));
    assert!(!revocations.look(&source, &mut seen).await.expect("no news"));
    cluster.revoke("c");
    let second = fs::read(&file).expect("a list");
    assert!(revocations.look(&source, &mut seen).await.expect("news"));

    for (bytes, fault) in [
        (Some(&first[..]), "older"),
        (Some(&second[..second.len() / 2]), "no revocation list"),
        (Some(b""), "no revocation list"),
        (None, "gone"),
    ] {
        match bytes {
            Some(bytes) => fs::write(&file, bytes).expect("written"),
            None => fs::remove_file(&file).expect("removed"),
        }
        for _ in 0..2 {
            let error = revocations.look(&source, &mut seen).await;
            let error = error.expect_err(fault).to_string();
            assert!(error.contains(fault) && error.contains(CRL_FILE), "{error}");
        }
        for name in ["b", "c"] {
            assert!(revocations.is_revoked(&serial(&cluster, name)), "{fault}");
        }
    }
    fs::write(&file, second).expect("written");
    assert!(
        !revocations
            .look(&source, &mut seen)
            .await
            .expect("as before")
    );
}

fn serial(cluster: &Cluster, name: &str) -> Vec<u8> {
    let pem = fs::read_to_string(cluster.home(name).join("cert.pem")).expect("a file");
    let der = certs::authority::first_certificate(&pem).expect("a certificate");
    x509::serial(&der).expect("a serial")
}

#[test]
fn a_node_whose_own_certificate_is_revoked_still_loads() {
    let cluster = Cluster::of(&["a"]);
    cluster.revoke("a");
    let a = cluster.node("a");
    assert!(a.revocations().is_revoked(&serial(&cluster, "a")));
}

#[test]
fn a_list_of_another_cluster_or_a_forged_one_does_not_load() {
    let (ours, theirs) = (Cluster::of(&["a"]), Cluster::of(&["a"]));
    theirs.revoke("a");
    let file = ours.home("a").join(CRL_FILE);
    fs::copy(theirs.home("a").join(CRL_FILE), &file).expect("copied");
    let error = Identity::load(&ours.home("a")).expect_err("another CA's");
    assert!(error.to_string().contains("another CA"), "{error}");

    ours.revoke("a");
    let pem = fs::read_to_string(&file).expect("a list");
    let flipped: String = pem.lines().rev().nth(1).map(flip).expect("a last line");
    let last = pem.lines().rev().nth(1).expect("a last line");
    fs::write(&file, pem.replace(last, &flipped)).expect("written");
    let error = Identity::load(&ours.home("a")).expect_err("a forged list");
    assert!(error.to_string().contains("signature"), "{error}");
}

/// One other bit in the last bytes of base64, which are of the signature.
fn flip(line: &str) -> String {
    let first = if line.starts_with('A') { "B" } else { "A" };
    format!("{first}{}", &line[1..])
}

#[tokio::test]
async fn a_list_past_its_end_still_revokes_and_locks_nobody_out() {
    let cluster = Cluster::of(&["a", "b", "c"]);
    let authority = Authority::load(cluster.0.path()).expect("the CA");
    let list = rcgen::CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2020, 1, 1),
        next_update: rcgen::date_time_ymd(2021, 1, 1),
        crl_number: rcgen::SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: rcgen::SerialNumber::from(serial(&cluster, "b")),
            revocation_time: rcgen::date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    let pem = list.signed_by(authority.issuer()).expect("signed");
    let pem = pem.pem().expect("PEM");
    for name in ["a", "c"] {
        fs::write(cluster.home(name).join(CRL_FILE), &pem).expect("written");
    }
    let a = listen(&cluster.node("a"));
    meet(&a, &cluster.node("c")).await.links();
    let (listener, _) = meet(&a, &cluster.node("b")).await.errors();
    assert_eq!(listener, revoked("b"));
}

#[tokio::test]
async fn an_identity_in_memory_knows_of_no_revocations() {
    let authority = Authority::new().expect("a CA");
    let identity = authority
        .issue("a", certs::CertRole::Primary, &[])
        .expect("a node");
    identity
        .revocations()
        .watch_task(CancellationToken::new())
        .await;
    assert!(identity.revocations().crls().is_empty());
}

const SOON: Duration = Duration::from_millis(5);
/// What is promised within this time comes at once, unless it never does.
const WITHIN: Duration = Duration::from_secs(10);
