//! `[replication]`: whom a node follows, who may follow it, and what that may cost. Must never know
//! how a log is shipped.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use mqtt::TooFew;
use replica::Compression;

use super::reader::{Reader, loopback};

/// Who may follow a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipping {
    /// Directory with `ca.pem`, `cert.pem` and `key.pem`.
    pub certs: PathBuf,
    pub serving: Serving,
}

/// Where secondaries connect, on a primary or on a relay, and what they may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    pub listen: SocketAddr,
    /// Bytes per second to all secondaries together; 0: no limit.
    pub max_rate: u64,
    /// Bytes per second to each of them; 0: no limit.
    pub max_rate_per_secondary: u64,
    /// How blocks travel to them.
    pub compression: Compression,
}

impl Serving {
    /// The defaults, for this address.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            max_rate: 0,
            max_rate_per_secondary: 0,
            compression: Compression::Zstd,
        }
    }
}

/// Whom a secondary follows, and who may follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    /// `host:port` each, tried in order and resolved at every attempt.
    pub upstreams: Vec<String>,
    /// Names, one of which an upstream's certificate must have; none: any that may serve.
    pub upstream_names: Vec<String>,
    /// Directory with `ca.pem`, `cert.pem` and `key.pem`.
    pub certs: PathBuf,
    /// None: it relays to nobody.
    pub relay: Option<Serving>,
    /// How long an upstream that is not the first is followed before those before it are tried.
    pub return_after: Duration,
}

impl Following {
    /// The defaults, for these upstreams.
    #[must_use]
    pub fn new(upstreams: Vec<String>, certs: PathBuf) -> Self {
        Self {
            upstreams,
            upstream_names: Vec::new(),
            certs,
            relay: None,
            return_after: RETURN_AFTER,
        }
    }
}

/// The URL that secondaries tell of a primary's HTTP.
pub(super) fn advertise_http(reader: &mut Reader<'_>) -> Option<String> {
    let url = reader.text("cluster.advertise_http")?;
    let host = ["http://", "https://"]
        .iter()
        .find_map(|scheme| url.strip_prefix(scheme));
    let odd = |letter: char| letter.is_whitespace() || letter.is_control();
    if host.is_none_or(str::is_empty) || url.len() > MAX_URL || url.contains(odd) {
        let rule = "must be a URL, such as \"https://a.example:7440\", or empty";
        reader.refuse("cluster.advertise_http", rule);
    }
    Some(url)
}

/// A primary's. An empty `certs` says in so many words that nothing is shipped.
pub(super) fn shipping(reader: &mut Reader<'_>) -> Option<Shipping> {
    let listen = reader.addr("replication.listen", loopback(7441));
    let serving = serving(reader, listen);
    let certs = reader.path("replication.certs");
    if reader.has("replication.listen") && !reader.has("replication.certs") {
        let rule = "a primary that listens for secondaries needs the directory that \
                    `headwater certs node` made for it";
        reader.missing("replication.certs", rule);
    }
    certs.map(|certs| Shipping { certs, serving })
}

/// A primary's, for messages that wait for secondaries.
pub(super) fn too_few(reader: &mut Reader<'_>) -> TooFew {
    let choices = [("wait", TooFew::Wait), ("fall_back", TooFew::FallBack)];
    reader.choice("replication.too_few", TooFew::default(), &choices)
}

/// A secondary's.
pub(super) fn following(reader: &mut Reader<'_>) -> Option<Following> {
    let upstreams = reader.hosts_ports("replication.upstream", MAX_UPSTREAMS);
    if upstreams.is_none() {
        let rule = "a secondary needs its primary's host:port, such as \"primary.example:7441\"";
        reader.missing("replication.upstream", rule);
    }
    let upstream_names = reader.cert_names("replication.upstream_name", MAX_UPSTREAMS);
    let certs = reader.path("replication.certs");
    if certs.is_none() {
        let rule = "a secondary needs the directory that `headwater certs node` made for it";
        reader.missing("replication.certs", rule);
    }
    let listen = reader.addr_if_any("replication.listen");
    // Read even where nobody is served, so that a wrong value is told at once.
    let serving = serving(reader, listen.unwrap_or(loopback(0)));
    let return_after = reader.duration(
        "replication.return_after",
        RETURN_AFTER,
        Duration::from_millis(100)..=Duration::from_secs(600),
    );
    Some(Following {
        upstreams: upstreams?,
        upstream_names,
        certs: certs?,
        relay: listen.map(|_| serving),
        return_after,
    })
}

fn serving(reader: &mut Reader<'_>, listen: SocketAddr) -> Serving {
    let choices = [("zstd", Compression::Zstd), ("none", Compression::None)];
    let default = Serving::new(listen);
    Serving {
        listen,
        max_rate: reader.rate("replication.max_rate", default.max_rate, MOST_RATE),
        max_rate_per_secondary: reader.rate(
            "replication.max_rate_per_secondary",
            default.max_rate_per_secondary,
            MOST_RATE,
        ),
        compression: reader.choice("replication.compression", default.compression, &choices),
    }
}

const MAX_UPSTREAMS: usize = 8;

const RETURN_AFTER: Duration = Duration::from_secs(30);

const MOST_RATE: u64 = 1 << 40;

/// Longest URL that is advertised.
const MAX_URL: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf::{ConfError, Primary, Role, parse};

    const PRIMARY: &str = "[node]\nrole = \"primary\"\n[replication]\ncerts = \"c\"\n";
    const SECONDARY: &str = "[node]\nrole = \"secondary\"\n[replication]\ncerts = \"c\"\n";

    fn primary(lines: &str) -> Primary {
        match parse("node.toml", &format!("{PRIMARY}{lines}"), [], &[]).map(|conf| conf.role) {
            Ok(Role::Primary(primary)) => primary,
            other => panic!("{other:?}"),
        }
    }

    fn followed(lines: &str, set: &[String]) -> Result<Following, ConfError> {
        let conf = parse("node.toml", &format!("{SECONDARY}{lines}"), [], set)?;
        match conf.role {
            Role::Secondary(secondary) => Ok(secondary.following),
            Role::Primary(_) => panic!("a primary"),
        }
    }

    fn refusal(text: &str) -> Vec<String> {
        let error = parse("node.toml", text, [], &[]).expect_err("this conf must be refused");
        error.to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn upstreams_are_one_or_a_list() {
        let one = followed("upstream = \"a:1\"\n", &[]).unwrap();
        assert_eq!(one, Following::new(vec!["a:1".to_owned()], "c".into()));
        let list = followed("upstream = [\"a:1\", \"[::1]:2\"]\n", &[]).unwrap();
        assert_eq!(list.upstreams, ["a:1", "[::1]:2"]);
        let set = ["replication.upstream=b:1, c:2".to_owned()];
        let set = followed("upstream = \"a:1\"\n", &set).unwrap();
        assert_eq!(set.upstreams, ["b:1", "c:2"]);
        let variable = (
            "HEADWATER_REPLICATION_UPSTREAM".to_owned(),
            "d:1,e:2".to_owned(),
        );
        let conf = parse("node.toml", SECONDARY, [variable], &[]).unwrap();
        let Role::Secondary(secondary) = conf.role else {
            panic!("a primary");
        };
        assert_eq!(secondary.following.upstreams, ["d:1", "e:2"]);
    }

    #[test]
    fn lists_that_are_none_are_refused() {
        let rule = "must be host:port, such as \"primary.example:7441\", or a list of up to 8 of \
                    them";
        let nine: Vec<String> = (1..10).map(|port| format!("\"a:{port}\"")).collect();
        for value in [
            "[]",
            "[\"a:1\", 2]",
            "[\"a:1\", \"b\"]",
            "\"http://a:1\"",
            "\"::1:7441\"",
            "\"[a]:7441\"",
            "\"a b:7441\"",
            "[\"a:1\", \"a:1\"]",
            "\"a:1,b:2\"",
            "\"\"",
            &format!("[{}]", nine.join(", ")),
        ] {
            assert_eq!(
                refusal(&format!("{SECONDARY}upstream = {value}\n")),
                [format!("node.toml: replication.upstream = {value}: {rule}")]
            );
        }
    }

    #[test]
    fn an_upstream_may_be_known_by_the_name_in_its_certificate() {
        let up = "upstream = \"a:1\"\n";
        let names = |lines: &str| {
            let followed = followed(&format!("{up}{lines}"), &[]);
            followed.map(|following| following.upstream_names)
        };
        assert_eq!(names("").unwrap(), Vec::<String>::new());
        assert_eq!(
            names("upstream_name = \"\"\n").unwrap(),
            Vec::<String>::new()
        );
        assert_eq!(
            names("upstream_name = \"primary-1\"\n").unwrap(),
            ["primary-1"]
        );
        let two = names("upstream_name = [\"p\", \"relay_2.x\"]\n");
        assert_eq!(two.unwrap(), ["p", "relay_2.x"]);
        let rule = "must be a name that `headwater certs node` was given, such as \"primary-1\", a \
                    list of up to 8 of them, or empty";
        let long = format!("\"{}\"", "a".repeat(65));
        for value in [
            "[]",
            "7",
            "\"a b\"",
            "[\"a\", \"\"]",
            "[\"a\", \"a\"]",
            &long,
        ] {
            assert_eq!(
                refusal(&format!("{SECONDARY}{up}upstream_name = {value}\n")),
                [format!(
                    "node.toml: replication.upstream_name = {value}: {rule}"
                )]
            );
        }
    }

    #[test]
    fn a_secondary_with_an_address_relays() {
        let up = "upstream = \"a:1\"\n";
        assert_eq!(
            followed(&format!("{up}listen = \"\"\n"), &[])
                .unwrap()
                .relay,
            None
        );
        let lines = format!("{up}listen = \"127.0.0.1:7441\"\nmax_rate = \"1 MiB\"\n");
        let relay = followed(&lines, &[]).unwrap().relay.unwrap();
        let expected = Serving {
            max_rate: 1 << 20,
            ..Serving::new(loopback(7441))
        };
        assert_eq!(relay, expected);
        assert_eq!(
            refusal(&format!("{SECONDARY}{up}listen = \"here\"\n")),
            [
                "node.toml: replication.listen = \"here\": must be an IP address and a port, such \
                 as \"0.0.0.0:7441\", or empty"
            ]
        );
    }

    #[test]
    fn rates_have_a_unit_or_are_none() {
        let lines = "max_rate = \"0\"\nmax_rate_per_secondary = \"5 MB\"\n";
        let serving = primary(lines).replication.unwrap().serving;
        assert_eq!(
            (serving.max_rate, serving.max_rate_per_secondary),
            (0, 5_000_000)
        );
        let rule = "must be a size with its unit, from \"1 KiB\" to \"1 TiB\", or \"0\"";
        for value in ["\"1 B\"", "\"2 TiB\"", "\"5\"", "5"] {
            for text in [
                PRIMARY.to_owned(),
                format!("{SECONDARY}upstream = \"a:1\"\n"),
            ] {
                assert_eq!(
                    refusal(&format!("{text}max_rate = {value}\n")),
                    [format!("node.toml: replication.max_rate = {value}: {rule}")]
                );
            }
        }
    }

    #[test]
    fn choices_are_checked() {
        let conf = primary("compression = \"none\"\ntoo_few = \"fall_back\"\n");
        assert_eq!(conf.too_few, TooFew::FallBack);
        let serving = conf.replication.unwrap().serving;
        assert_eq!(serving.compression, Compression::None);
        let lines = "upstream = \"a:1\"\nlisten = \"127.0.0.1:0\"\ncompression = \"none\"\n";
        let relay = followed(lines, &[]).unwrap().relay.unwrap();
        assert_eq!(relay.compression, Compression::None);
        assert_eq!(
            refusal(&format!("{PRIMARY}compression = \"lz4\"\n")),
            ["node.toml: replication.compression = \"lz4\": must be \"zstd\" or \"none\""]
        );
        assert_eq!(
            refusal(&format!("{PRIMARY}too_few = true\n")),
            ["node.toml: replication.too_few = true: must be \"wait\" or \"fall_back\""]
        );
        assert_eq!(
            refusal(&format!(
                "{SECONDARY}upstream = \"a:1\"\ntoo_few = \"wait\"\n"
            )),
            ["node.toml: replication.too_few belongs to a primary, and node.role is \"secondary\""]
        );
    }
}
