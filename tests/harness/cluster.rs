//! A primary and secondaries on this machine: their directories, certificates and addresses,
//! which outlive the processes. Must never choose a port that another test may have.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use replica::certs::CertRole;
use tempfile::TempDir;

use crate::http::Http;
use crate::node::{self, Node, Place};

/// Where the nodes of one test live.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    mqtt: String,
    replication: String,
    extra: Vec<(&'static str, String)>,
    secondary_extra: Vec<(&'static str, String)>,
    tables: String,
    /// Where nodes run, by their names; the others run where the tests do.
    places: HashMap<String, Place>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Cluster {
    /// A cluster CA and no node yet.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let certs = dir.path().join("certs");
        replica::certs::init(&certs).expect("a CA");
        for name in ["primary", "secondary", "other"] {
            replica::certs::node(&certs, name, CertRole::Primary, &[]).expect("a certificate");
        }
        let any = "127.0.0.1:0".to_owned();
        Self {
            dir,
            mqtt: any.clone(),
            replication: any,
            extra: Vec::new(),
            secondary_extra: Vec::new(),
            tables: String::new(),
            places: HashMap::new(),
        }
    }

    /// A certificate for one more node.
    pub fn certify(&self, name: &str) {
        let certs = self.path("certs");
        replica::certs::node(&certs, name, CertRole::Primary, &[]).expect("a certificate");
    }

    /// Where the node of this name runs from its next start on.
    pub fn place(&mut self, name: &str, place: Place) {
        self.places.insert(name.to_owned(), place);
    }

    /// One more setting for the primary.
    pub fn primary_setting(&mut self, key: &'static str, value: impl ToString) {
        self.extra.push((key, value.to_string()));
    }

    /// One more setting for every secondary.
    pub fn secondary_setting(&mut self, key: &'static str, value: impl ToString) {
        self.secondary_extra.push((key, value.to_string()));
    }

    /// Adds `[[table]]`s to the primary's conf file: only there can they be written.
    pub fn declare(&mut self, tables: &str) {
        self.tables.push_str(tables);
        self.tables.push('\n');
    }

    /// Takes the declared tables out of it again.
    pub fn undeclare(&mut self) {
        self.tables.clear();
    }

    /// A directory of this test.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts the primary; it keeps the ports it was first given.
    pub fn primary(&mut self) -> Node {
        let settings = self.primary_settings();
        let node = Node::start_in(&self.place_of("primary"), &self.primary_conf(), &settings);
        self.mqtt = node.address("mqtt");
        self.replication = node.address("replication");
        node
    }

    /// Starts the primary once more, until it says this; it need not be up then.
    pub fn primary_until(&self, said: &'static str) -> Node {
        let (place, settings) = (self.place_of("primary"), self.primary_settings());
        Node::start_until(said, &place, &self.primary_conf(), &settings)
    }

    fn primary_settings(&self) -> Vec<(&'static str, String)> {
        let mut settings = vec![
            ("node.name", "primary".to_owned()),
            ("node.data_dir", self.text("primary")),
            ("mqtt.listen", self.mqtt.clone()),
            ("http.listen", "127.0.0.1:0".to_owned()),
            ("replication.listen", self.replication.clone()),
            ("replication.certs", self.text("certs/primary")),
            // The temporary directory of a test machine may be small.
            ("log.reserve_disk", "16 MiB".to_owned()),
        ];
        settings.extend(self.extra.iter().cloned());
        settings
    }

    /// Starts the secondary `name`; `upstream` stands in for the primary's own address.
    pub fn secondary(&self, name: &str, upstream: Option<&str>) -> Node {
        self.secondary_with(name, upstream, &[])
    }

    /// The same with settings of its own; `upstream` may be several with commas between them.
    pub fn secondary_with(
        &self,
        name: &str,
        upstream: Option<&str>,
        own: &[(&'static str, String)],
    ) -> Node {
        let upstream = upstream.unwrap_or(&self.replication);
        let mut settings = vec![
            ("node.name", name.to_owned()),
            ("node.data_dir", self.text(name)),
            ("http.listen", "127.0.0.1:0".to_owned()),
            ("replication.upstream", upstream.to_owned()),
            ("replication.certs", self.text(&format!("certs/{name}"))),
            ("log.reserve_disk", "16 MiB".to_owned()),
        ];
        settings.extend(self.secondary_extra.iter().cloned());
        settings.extend(own.iter().cloned());
        let conf = node::conf("secondary.toml");
        Node::start_in(&self.place_of(name), &conf, &settings)
    }

    /// Starts a secondary that others can follow, at this address.
    pub fn relay(&self, name: &str, upstream: Option<&str>, listen: &str) -> Node {
        let listen = ("replication.listen", listen.to_owned());
        self.secondary_with(name, upstream, &[listen])
    }

    /// Where devices publish.
    pub fn mqtt(&self) -> &str {
        &self.mqtt
    }

    /// Where secondaries connect.
    pub fn replication(&self) -> &str {
        &self.replication
    }

    /// The segments of a node: name and content, sorted.
    pub fn log_files(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        contents(&self.log_dir(name), ".log")
    }

    /// The Parquet files of a node: name and content, sorted.
    pub fn parquet_files(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        contents(&self.log_dir(name).join("parquet"), ".parquet")
    }

    /// The directory of a node's log.
    pub fn log_dir(&self, name: &str) -> PathBuf {
        let dir = std::fs::read_dir(self.path(name)).expect("the data directory");
        dir.map(|entry| entry.expect("an entry").path())
            .find(|path| file_name(path).starts_with("log-"))
            .expect("a log")
    }

    /// The repository's conf file, or a copy with the declared tables.
    fn primary_conf(&self) -> PathBuf {
        let shipped = node::conf("primary.toml");
        if self.tables.is_empty() {
            return shipped;
        }
        let text = std::fs::read_to_string(&shipped).expect("the conf file");
        let copy = self.path("primary.toml");
        std::fs::write(&copy, format!("{text}\n{}", self.tables)).expect("writes");
        copy
    }

    fn place_of(&self, name: &str) -> Place {
        self.places.get(name).cloned().unwrap_or_default()
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }
}

fn contents(dir: &Path, suffix: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("the directory")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| file_name(path).ends_with(suffix))
        .map(|path| (file_name(&path), std::fs::read(&path).expect("reads")))
        .collect();
    files.sort();
    files
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Waits until `secondary` answers for everything `primary` holds now.
pub fn catch_up(primary: &Node, secondary: &Node) {
    caught_up(&Http::of(primary), &Http::of(secondary));
}

/// The same of nodes asked over these clients.
pub fn caught_up(primary: &Http, secondary: &Http) {
    let wanted = primary.lsn();
    crate::eventually("the secondary catches up", || match secondary.try_lsn() {
        Some(lsn) if lsn >= wanted => Ok(()),
        seen => Err((seen, wanted)),
    });
}

/// Waits until all of `nodes` end at the same LSN and have every sealed segment in Parquet files.
/// Files may still be merged after it.
pub fn settle(nodes: &[&Node]) {
    crate::eventually("every sealed segment is in files", || {
        let look = |node: &&Node| {
            let status = Http::of(node).status();
            let number = |name: &str| status[name].as_u64();
            (
                number("lsn"),
                number("compacted_lsn"),
                number("backlog_bytes"),
            )
        };
        let seen: Vec<_> = nodes.iter().map(look).collect();
        if seen
            .iter()
            .all(|node| *node == seen[0] && node.2 == Some(0))
        {
            Ok(())
        } else {
            Err(seen)
        }
    });
}
