//! What `headwater check-conf` finds where a conf points: the data directory and the certificates.
//! Must never change what it looks at, but for a file of no bytes that shows whether it can write.

use std::fs::OpenOptions;
use std::io;
use std::net::UdpSocket;
use std::path::{Path, PathBuf, absolute};

use super::show::{show_bytes, show_moment, show_time};
use crate::conf::{Conf, Role, RoleName};
use crate::node::data_dir::read_node_id;
use crate::node::role;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// What is as it should be, or will be.
    pub(super) notes: Vec<String>,
    /// What keeps the node from starting, or its peers from accepting it.
    pub(super) problems: Vec<String>,
}

/// Looks at everything that this conf names.
pub(super) fn look(conf: &Conf) -> Found {
    let mut found = Found::default();
    data_dir(&conf.node.data_dir, conf.role.name(), &mut found);
    let storage = match &conf.role {
        Role::Primary(primary) => &primary.storage,
        Role::Secondary(secondary) => &secondary.storage,
    };
    room(&conf.node.data_dir, storage.reserve_disk, &mut found);
    doors(&conf.role, &mut found);
    let certs = match &conf.role {
        Role::Primary(primary) => primary.replication.as_ref().map(|shipping| &shipping.certs),
        Role::Secondary(secondary) => Some(&secondary.following.certs),
    };
    let serves_as_primary = match &conf.role {
        Role::Primary(_) => Some(true),
        Role::Secondary(secondary) => secondary.following.relay.as_ref().map(|_| false),
    };
    if let Some(certs) = certs {
        certificates(certs, serves_as_primary, &mut found);
    }
    if let Role::Secondary(secondary) = &conf.role {
        let following = &secondary.following;
        let own = following.relay.as_ref().map(|serving| serving.listen);
        let own = own.map(|listen| listen.to_string());
        for upstream in following
            .upstreams
            .iter()
            .filter(|up| own.as_ref() == Some(*up))
        {
            found.problems.push(format!(
                "replication.upstream = {upstream:?}: this is where the node itself listens, and it \
                 cannot follow itself"
            ));
        }
    }
    let ignored = conf.ignored.iter().map(ToString::to_string);
    found.notes.extend(ignored);
    found
}

fn data_dir(dir: &Path, role: RoleName, found: &mut Found) {
    let shown = absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let problem = |what: String| format!("node.data_dir = {}: {what}", shown.display());
    if !dir.exists() {
        let parent = dir.ancestors().skip(1).find(|parent| parent.exists());
        let parent = parent.map_or_else(|| PathBuf::from("."), existing);
        match can_write(&parent) {
            Ok(()) => found.notes.push(format!(
                "data directory {}: will be made, with a new log in it",
                shown.display()
            )),
            Err(error) => found.problems.push(problem(format!(
                "cannot be made in {}: {error}",
                parent.display()
            ))),
        }
        return;
    }
    if let Err(error) = can_write(dir) {
        found
            .problems
            .push(problem(format!("cannot be written to: {error}")));
        return;
    }
    let checked = [
        role::check(dir, role).map_err(|error| error.to_string()),
        read_node_id(dir)
            .map(drop)
            .map_err(|error| error.to_string()),
    ];
    let wrong = checked.into_iter().filter_map(Result::err).map(problem);
    found.problems.extend(wrong);
    match wal::find_log(&wal::OsDisk, dir) {
        Ok(Some(log)) => found
            .notes
            .push(format!("data directory {}: log {log}", shown.display())),
        Ok(None) => found.notes.push(format!(
            "data directory {}: no log yet; a new one will be made",
            shown.display()
        )),
        Err(error) => found.problems.push(problem(error.to_string())),
    }
}

/// Whether the volume has more than what is to stay free.
fn room(dir: &Path, reserve: Option<u64>, found: &mut Found) {
    let volume = dir.ancestors().find(|parent| parent.exists());
    let volume = volume.map_or_else(|| PathBuf::from("."), existing);
    if let (Some(reserve), Ok(total)) = (reserve, wal::OsDisk::total(&volume))
        && reserve >= total
    {
        found.problems.push(format!(
            "log.reserve_disk = {}: the volume of {} has {} in all, so that nothing would ever be \
             stored",
            show_bytes(reserve),
            absolute(dir).unwrap_or_else(|_| dir.to_owned()).display(),
            show_bytes(total)
        ));
    }
}

/// Whether the node can listen where it is to. Ports that are taken may be its own.
fn doors(role: &Role, found: &mut Found) {
    let (mqtt, http, replication) = match role {
        Role::Primary(primary) => (
            Some(primary.mqtt.listen),
            primary.http.as_ref().map(|http| http.listen),
            primary.replication.as_ref().map(|ship| ship.serving.listen),
        ),
        Role::Secondary(secondary) => (
            None,
            Some(secondary.http.listen),
            secondary.following.relay.as_ref().map(|own| own.listen),
        ),
    };
    for (key, listen) in [
        ("mqtt.listen", mqtt),
        ("http.listen", http),
        ("replication.listen", replication),
    ] {
        let Some(listen) = listen else { continue };
        let any_port = UdpSocket::bind((listen.ip(), 0));
        if any_port.is_err_and(|error| error.kind() == io::ErrorKind::AddrNotAvailable) {
            found.problems.push(format!(
                "{key} = {listen}: {} is no address of this machine",
                listen.ip()
            ));
        }
    }
    if let (Some(mqtt), Some(http)) = (mqtt, http) {
        let is_one = mqtt.ip() == http.ip();
        let meet = is_one || mqtt.ip().is_unspecified() || http.ip().is_unspecified();
        if meet && mqtt.port() == http.port() && mqtt.port() != 0 {
            found.problems.push(format!(
                "http.listen = {http}: mqtt.listen is {mqtt}, and one port cannot serve both"
            ));
        }
    }
}

/// The empty path is the working directory.
fn existing(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        path.to_owned()
    }
}

fn can_write(dir: &Path) -> io::Result<()> {
    if !dir.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let path = dir.join(format!(".check-conf-{}", std::process::id()));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&path)?;
    std::fs::remove_file(&path)
}

/// `serves_as_primary`: whether the node is the primary, or else a relay; none: nobody follows it.
fn certificates(dir: &Path, serves_as_primary: Option<bool>, found: &mut Found) {
    let shown = dir.display();
    let identity = match replica::Identity::load(dir) {
        Ok(identity) => identity,
        Err(error) => {
            found
                .problems
                .push(format!("replication.certs = {shown}: {error}"));
            return;
        }
    };
    if let Some(trouble) = identity.trouble() {
        found.problems.push(format!(
            "replication.certs = {shown}: no peer accepts this certificate: {trouble}"
        ));
        return;
    }
    if let Some(unfit) = serves_as_primary.and_then(|primary| identity.unfit(primary)) {
        found
            .problems
            .push(format!("replication.certs = {shown}: {unfit}"));
    }
    found.notes.push(match identity.role() {
        Some(role) => format!(
            "certificate of {:?}: role {role}: {}",
            identity.name(),
            role.allows()
        ),
        None => format!(
            "certificate of {:?}: NO ROLE: who has one like it can play the primary; make others \
             with `headwater certs node`",
            identity.name()
        ),
    });
    let certificate = identity.certificate();
    let now = wal::clock::unix_ms();
    let whose = format!("certificate of {:?}", certificate.name);
    for (whose, until_unix_s, over) in [
        (&*whose, certificate.until_unix_s, "no peer accepts it"),
        (
            "the cluster CA's certificate",
            certificate.ca_until_unix_s,
            "nodes go on accepting each other, other programs may not: make another CA",
        ),
    ] {
        let until = u64::try_from(until_unix_s.saturating_mul(1000)).unwrap_or(0);
        let left = until.saturating_sub(now);
        let until = show_moment(until);
        let soon = if left < SOON_MS { "ONLY " } else { "" };
        found.notes.push(match left {
            0 => format!("{whose} HAS EXPIRED at {until}: {over}"),
            _ => format!("{whose}: until {until}, {soon}{} left", show_time(left)),
        });
    }
}

/// What is left of a certificate is said louder from here on: 30 days.
const SOON_MS: u64 = 30 * 86_400_000;

#[cfg(test)]
mod tests {
    use replica::certs::CertRole;

    use super::*;
    use crate::conf::parse;

    fn found(text: &str) -> Found {
        look(&parse("node.toml", text, [], &[]).unwrap())
    }

    #[test]
    fn a_primary_in_a_place_of_its_own_is_good_and_nothing_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("a/b");
        let text = format!("[node]\nrole = \"primary\"\ndata_dir = {data:?}\n");
        let seen = found(&text);
        assert_eq!(seen.problems, Vec::<String>::new());
        assert!(seen.notes[0].contains("will be made"), "{:?}", seen.notes);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn doors_that_cannot_be_opened_and_a_reserve_without_a_volume_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[node]\nrole = \"primary\"\ndata_dir = {:?}\n",
            dir.path().join("data")
        );
        for (more, part) in [
            (
                "[mqtt]\nlisten = \"127.0.0.1:7440\"\n[http]\n",
                "cannot serve both",
            ),
            (
                "[mqtt]\nlisten = \"127.0.0.1:7440\"\n[http]\nlisten = \"0.0.0.0:7440\"\n\
                 insecure_anonymous = true\n",
                "cannot serve both",
            ),
        ] {
            let seen = found(&format!("{text}{more}"));
            assert_eq!(seen.problems.len(), 1, "{more}: {seen:?}");
            assert!(seen.problems[0].contains(part), "{seen:?}");
        }
        let mut small = Found::default();
        room(dir.path(), Some(u64::MAX), &mut small);
        assert!(
            small.problems[0].contains("nothing would ever be stored"),
            "{small:?}"
        );
        let mut large = Found::default();
        room(&dir.path().join("data"), Some(1), &mut large);
        room(dir.path(), None, &mut large);
        assert_eq!(large, Found::default());
        let apart = "[mqtt]\nlisten = \"127.0.0.1:7440\"\n[http]\nlisten = \"127.0.0.1:7441\"\n";
        assert_eq!(
            found(&format!("{text}{apart}")).problems,
            Vec::<String>::new()
        );
        let away = "[http]\nlisten = \"192.0.2.77:7440\"\ninsecure_anonymous = true\n";
        // Where the system lets anybody listen anywhere, that is no problem.
        let seen = found(&format!("{text}{away}"));
        let is_told = |line: &String| line.contains("is no address of this machine");
        assert!(seen.problems.iter().all(is_told), "{seen:?}");
    }

    #[test]
    fn a_directory_that_is_a_file_another_roles_or_damaged_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let text = format!("[node]\nrole = \"primary\"\ndata_dir = {data:?}\n");
        std::fs::write(&data, "").unwrap();
        assert!(found(&text).problems[0].contains("cannot be written to"));
        std::fs::remove_file(&data).unwrap();
        std::fs::create_dir(&data).unwrap();
        let config = wal::Config::default();
        let (committer, _) = wal::open_primary(wal::OsDisk::new(), &data, &config).unwrap();
        committer.stop().unwrap();
        std::fs::write(data.join("role"), "secondary\n").unwrap();
        std::fs::write(data.join("node-id"), "no id\n").unwrap();
        let problems = found(&text).problems;
        assert!(problems[0].contains("is a secondary's"), "{problems:?}");
        assert!(problems[1].contains("32 hexadecimal"), "{problems:?}");
    }

    #[test]
    fn certificates_are_opened() {
        let dir = tempfile::tempdir().unwrap();
        replica::certs::init(dir.path()).unwrap();
        let home = replica::certs::node(dir.path(), "s", CertRole::Secondary, &[]).unwrap();
        let data = dir.path().join("data");
        let text = |certs: &Path| {
            format!(
                "[node]\nrole = \"secondary\"\ndata_dir = {data:?}\n[replication]\n\
                 upstream = [\"127.0.0.1:7441\", \"p:1\"]\nlisten = \"127.0.0.1:7441\"\n\
                 certs = {certs:?}\n"
            )
        };
        let seen = found(&text(&home));
        assert!(
            seen.notes[1].starts_with("certificate of \"s\": role secondary: it may follow"),
            "{seen:?}"
        );
        assert!(
            seen.notes[2].starts_with("certificate of \"s\": until 20"),
            "{seen:?}"
        );
        assert_eq!(seen.problems.len(), 2, "{seen:?}");
        assert!(seen.problems[0].contains("--role relay"), "{seen:?}");
        assert!(
            seen.problems[1].contains("cannot follow itself"),
            "{seen:?}"
        );
        let nowhere = found(&text(&dir.path().join("nowhere")));
        assert!(
            nowhere.problems[0].contains("nowhere/ca.pem"),
            "{nowhere:?}"
        );
        replica::certs::node(dir.path(), "other", CertRole::Relay, &[]).unwrap();
        std::fs::copy(dir.path().join("other/key.pem"), home.join("key.pem")).unwrap();
        let mixed = found(&text(&home));
        assert!(mixed.problems[0].contains("not the key of"), "{mixed:?}");
    }
}
