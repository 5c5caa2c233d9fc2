//! What `headwater check-conf` finds where a conf points: the data directory and the certificates.
//! Must never change what it looks at, but for a file of no bytes that shows whether it can write.

use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf, absolute};

use super::show::{show_moment, show_time};
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
    let certs = match &conf.role {
        Role::Primary(primary) => primary.replication.as_ref().map(|shipping| &shipping.certs),
        Role::Secondary(secondary) => Some(&secondary.following.certs),
    };
    if let Some(certs) = certs {
        certificates(certs, &mut found);
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

fn certificates(dir: &Path, found: &mut Found) {
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
        let home = replica::certs::node(dir.path(), "s", &[]).unwrap();
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
            seen.notes[1].starts_with("certificate of \"s\": until 20"),
            "{seen:?}"
        );
        assert_eq!(seen.problems.len(), 1, "{seen:?}");
        assert!(
            seen.problems[0].contains("cannot follow itself"),
            "{seen:?}"
        );
        let nowhere = found(&text(&dir.path().join("nowhere")));
        assert!(
            nowhere.problems[0].contains("nowhere/ca.pem"),
            "{nowhere:?}"
        );
        replica::certs::node(dir.path(), "other", &[]).unwrap();
        std::fs::copy(dir.path().join("other/key.pem"), home.join("key.pem")).unwrap();
        let mixed = found(&text(&home));
        assert!(mixed.problems[0].contains("not the key of"), "{mixed:?}");
    }
}
