//! One node's conf: read once at start, parsed into types in which a wrong setting cannot be held.
//! A secondary *has no* MQTT section. Must never hand out a value that was not checked.

mod foreign;
mod http;
mod ingest;
mod item;
mod problem;
mod reader;
mod replication;
mod route;
mod source;
mod table;
#[cfg(test)]
mod tests;
mod units;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use foreign::Ignored;
pub use http::Http;
use http::http;
pub use ingest::{DeadLetters, Ingest};
pub use problem::{ConfError, Origin, Problem, RoleName};
use reader::{Reader, loopback};
pub use replication::{Following, Serving, Shipping};
use source::{Source, variables};

/// Everything one node needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    pub node: Node,
    pub role: Role,
    /// Variables of the environment that are named like keys and are none.
    pub ignored: Vec<Ignored>,
}

/// What every node has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// How the node calls itself in logs, status and metrics.
    pub name: String,
    /// Where its log lives; one process at a time.
    pub data_dir: PathBuf,
    /// Bytes that its buffers, compaction and queries share; None: half of the machine's.
    pub memory_limit: Option<u64>,
}

/// How every node keeps its disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// Free bytes of the file system that the log leaves alone; None: as many as suit its size.
    pub reserve_disk: Option<u64>,
    /// Bytes per second that compaction may read of the log and write; 0: no limit.
    pub compaction_rate: u64,
    /// Bytes per second that are read to see whether they are still what was written; 0: none.
    pub scrub_rate: u64,
    /// What a node does that finds no log.
    pub create: Create,
}

/// What a node does that finds no log in its data directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Create {
    /// It begins one, or brings a copy in.
    #[default]
    Auto,
    /// It does not start.
    Never,
}

impl Default for Storage {
    fn default() -> Self {
        Self {
            reserve_disk: None,
            compaction_rate: 32 << 20,
            scrub_rate: 4 << 20,
            create: Create::Auto,
        }
    }
}

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    Primary(Primary),
    Secondary(Secondary),
}

impl Role {
    /// The role's name.
    pub fn name(&self) -> RoleName {
        match self {
            Self::Primary(_) => RoleName::Primary,
            Self::Secondary(_) => RoleName::Secondary,
        }
    }
}

/// Takes messages, owns the log, ships it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Primary {
    pub mqtt: Mqtt,
    pub log: Log,
    pub storage: Storage,
    /// Tables that are declared; others come into being with their first message.
    pub tables: Vec<wal::TableDef>,
    /// What is said of messages by their topic; the first that matches wins.
    pub routes: Vec<mqtt::AckRoute>,
    /// None: no secondary can connect.
    pub replication: Option<Shipping>,
    /// What a message does that waits for more secondaries than there are.
    pub too_few: mqtt::TooFew,
    /// None: answers no HTTP.
    pub http: Option<Http>,
    /// The URL of its HTTP that others are told; None: where it listens.
    pub advertise_http: Option<String>,
    pub ingest: Ingest,
    pub dead_letters: DeadLetters,
    /// How many tables and columns rows may bring into being.
    pub limits: wal::Limits,
}

/// Follows a primary and answers queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secondary {
    pub following: Following,
    pub storage: Storage,
    pub http: Http,
}

/// Where devices publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mqtt {
    pub listen: SocketAddr,
    /// Largest packet taken from a client, in bytes.
    pub max_packet: u32,
    /// Messages of one connection that may wait for their acknowledgement.
    pub max_inflight: u16,
    pub max_connections: usize,
    /// Worker threads; 0: one per core.
    pub workers: usize,
    /// When a message that no route speaks of is acknowledged.
    pub ack: mqtt::Ack,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            listen: loopback(1883),
            max_packet: 1 << 20,
            max_inflight: 1024,
            max_connections: 100_000,
            workers: 0,
            ack: mqtt::Ack::Durable,
        }
    }
}

/// The log on a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A segment is sealed once it is this long, in bytes.
    pub segment_size: u64,
    /// Extra time to let a group fill.
    pub max_group_delay: Duration,
    /// Bytes of segments kept for secondaries once their rows are in files.
    pub keep_segments: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            segment_size: 64 << 20,
            max_group_delay: Duration::ZERO,
            keep_segments: 1 << 30,
        }
    }
}

/// Reads a conf file, the process's environment and `overrides`, each winning over the one before.
///
/// # Errors
/// With every problem found, not only the first.
pub fn load(path: &Path, overrides: &[String]) -> Result<Conf, ConfError> {
    let file = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        let (file, reason) = (file.clone(), error.to_string());
        ConfError(vec![Problem::Unreadable { file, reason }])
    })?;
    let (variables, unreadable) = variables();
    match parse(&file, &text, variables, overrides) {
        Ok(conf) if unreadable.is_empty() => Ok(conf),
        Ok(_) => Err(ConfError(unreadable)),
        Err(ConfError(problems)) => Err(ConfError([unreadable, problems].concat())),
    }
}

/// Parses the text of a conf file. `file` is only a name for messages.
///
/// # Errors
/// With every problem found, not only the first.
pub fn parse(
    file: &str,
    text: &str,
    variables: impl IntoIterator<Item = (String, String)>,
    overrides: &[String],
) -> Result<Conf, ConfError> {
    let mut source = Source::parse(file, text).map_err(|problem| ConfError(vec![problem]))?;
    source.apply_env(variables, foreign::is_service_link);
    let mut problems: Vec<Problem> = overrides
        .iter()
        .filter_map(|text| source.apply_set(text).err())
        .collect();
    let (conf, found) = build(&source);
    problems.extend(found);
    match conf {
        Some(conf) if problems.is_empty() => Ok(conf),
        _ => Err(ConfError(problems)),
    }
}

fn build(source: &Source) -> (Option<Conf>, Vec<Problem>) {
    let mut reader = Reader::new(source);
    let node = node(&mut reader);
    let role_name = role_name(&mut reader);
    let role = match role_name {
        Some(RoleName::Primary) => Some(Role::Primary(primary(&mut reader))),
        Some(RoleName::Secondary) => secondary(&mut reader).map(Role::Secondary),
        None => None,
    };
    let mut problems = reader.finish(role_name, &other_keys(role_name));
    let (other, slips) = foreign::judge(&source.strays, &all_keys());
    problems.extend(slips);
    let links = source.links.iter().map(|variable| Ignored::ServiceLink {
        variable: variable.clone(),
    });
    let ignored = links.chain(other).collect();
    let conf = role.map(|role| Conf {
        node,
        role,
        ignored,
    });
    (conf, problems)
}

/// The keys of either role.
fn all_keys() -> BTreeSet<&'static str> {
    let nothing = Source::default();
    let mut reader = Reader::new(&nothing);
    node(&mut reader);
    role_name(&mut reader);
    let mut keys = reader.into_known();
    keys.extend(other_keys(None));
    keys
}

/// The keys this version knows beside those of `role`.
fn other_keys(role: Option<RoleName>) -> BTreeSet<&'static str> {
    let nothing = Source::default();
    let mut reader = Reader::new(&nothing);
    if role != Some(RoleName::Primary) {
        primary(&mut reader);
    }
    if role != Some(RoleName::Secondary) {
        secondary(&mut reader);
    }
    reader.into_known()
}

fn node(reader: &mut Reader<'_>) -> Node {
    let name = reader.text("node.name").unwrap_or_else(host_name);
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        reader.refuse(
            "node.name",
            "must be 1 to 128 bytes without control characters",
        );
    }
    let data_dir = reader
        .path("node.data_dir")
        .unwrap_or_else(|| PathBuf::from("data"));
    Node {
        name,
        data_dir,
        memory_limit: reader.size_if_any("node.memory_limit", LEAST_MEMORY..=1 << 50),
    }
}

fn role_name(reader: &mut Reader<'_>) -> Option<RoleName> {
    const RULE: &str = "must be \"primary\" or \"secondary\"";
    match reader.text("node.role").as_deref() {
        Some("primary") => Some(RoleName::Primary),
        Some("secondary") => Some(RoleName::Secondary),
        Some(_) => {
            reader.refuse("node.role", RULE);
            None
        }
        None => {
            reader.missing("node.role", RULE);
            None
        }
    }
}

fn primary(reader: &mut Reader<'_>) -> Primary {
    let mqtt = mqtt(reader);
    let default = Log::default();
    let log = Log {
        segment_size: reader.size("log.segment_size", default.segment_size, 1 << 20..=1 << 30),
        max_group_delay: reader.duration(
            "log.max_group_delay",
            default.max_group_delay,
            Duration::ZERO..=Duration::from_secs(1),
        ),
        keep_segments: reader.size("log.keep_segments", default.keep_segments, 0..=1 << 50),
    };
    let storage = storage(reader);
    let tables = table::tables(reader);
    let routes = route::routes(reader);
    let replication = replication::shipping(reader);
    let too_few = replication::too_few(reader);
    let http = http(reader);
    let http = reader.has_section("http").then_some(http);
    let primary = Primary {
        mqtt,
        log,
        storage,
        tables,
        routes,
        replication,
        too_few,
        http,
        advertise_http: replication::advertise_http(reader),
        ingest: ingest::ingest(reader),
        dead_letters: ingest::dead_letters(reader),
        limits: ingest::limits(reader),
    };
    check_acks(reader, &primary);
    primary
}

/// Nobody may be made to wait for secondaries where none can connect.
fn check_acks(reader: &mut Reader<'_>, primary: &Primary) {
    if primary.replication.is_some() {
        return;
    }
    let waits = |ack: mqtt::Ack| ack != mqtt::Ack::Durable;
    if waits(primary.mqtt.ack) {
        let rule = "without replication.certs no secondary can connect";
        reader.refuse("mqtt.ack", rule);
    }
    if primary.routes.iter().any(|route| waits(route.ack)) {
        let rule = "a [[route]] waits for secondaries, and without certificates none can connect";
        reader.missing("replication.certs", rule);
    }
}

fn secondary(reader: &mut Reader<'_>) -> Option<Secondary> {
    let following = replication::following(reader);
    let storage = storage(reader);
    let http = http(reader);
    Some(Secondary {
        following: following?,
        storage,
        http,
    })
}

fn storage(reader: &mut Reader<'_>) -> Storage {
    let default = Storage::default();
    let choices = [("auto", Create::Auto), ("never", Create::Never)];
    Storage {
        reserve_disk: reader.size_if_any("log.reserve_disk", 0..=1 << 40),
        compaction_rate: reader.size("log.compaction_rate", default.compaction_rate, 0..=1 << 40),
        scrub_rate: reader.rate("log.scrub_rate", default.scrub_rate, 1 << 40),
        create: reader.choice("log.create", default.create, &choices),
    }
}

fn mqtt(reader: &mut Reader<'_>) -> Mqtt {
    let default = Mqtt::default();
    let mqtt = Mqtt {
        listen: reader.addr("mqtt.listen", default.listen),
        max_packet: reader.size("mqtt.max_packet", default.max_packet, 1 << 10..=16 << 20),
        max_inflight: reader.int("mqtt.max_inflight", default.max_inflight, 1..=65_535),
        max_connections: reader.int(
            "mqtt.max_connections",
            default.max_connections,
            1..=10_000_000,
        ),
        workers: reader.int("mqtt.workers", default.workers, 0..=1024),
        ack: reader.parsed("mqtt.ack", default.ack, route::ACK_RULE, route::parse_ack),
    };
    if !reader.flag("mqtt.allow_anonymous", true) {
        let rule = "this version knows no [[mqtt.user]] yet, so nobody could publish";
        reader.refuse("mqtt.allow_anonymous", rule);
    }
    let insecure = reader.flag("mqtt.insecure_anonymous", false);
    if !insecure && !mqtt.listen.ip().to_canonical().is_loopback() {
        let rule = "listening beyond loopback lets anyone who reaches the port publish; \
                    set mqtt.insecure_anonymous = true if that is meant";
        reader.refuse("mqtt.listen", rule);
    }
    mqtt
}

fn host_name() -> String {
    let name = gethostname::gethostname().to_string_lossy().into_owned();
    if name.is_empty() {
        "headwater".to_owned()
    } else {
        name
    }
}

const MAX_NAME: usize = 128;

/// A node needs at least this much memory, in bytes.
pub(crate) const LEAST_MEMORY: u64 = 128 << 20;
