//! Typed access to a conf. Every getter registers its key, so what nobody asked for is known to be
//! unknown at the end. Must never stop at the first problem.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::problem::{Origin, Problem, RoleName};
use super::source::{Entry, LISTS, Source};
use super::units::{parse_duration, parse_size, show_duration, show_size};

/// Reads values, remembers keys, collects problems. Whatever is refused reads as its default.
pub(super) struct Reader<'a> {
    source: &'a Source,
    known: BTreeSet<&'static str>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(source: &'a Source) -> Self {
        Self {
            source,
            known: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// A text; an empty one counts as not written.
    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        let rule = || "must be a text".to_owned();
        let text = self.value(key, rule, |entry| entry.text().map(str::to_owned))?;
        Some(text).filter(|text| !text.is_empty())
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let rule = || "must be true or false".to_owned();
        self.value(key, rule, Entry::flag).unwrap_or(default)
    }

    /// An integer within `range`.
    pub(super) fn int<T>(&mut self, key: &'static str, default: T, range: RangeInclusive<u64>) -> T
    where
        T: TryFrom<u64>,
    {
        let rule = || {
            format!(
                "must be an integer from {} to {}",
                range.start(),
                range.end()
            )
        };
        let number = self.value(key, rule, |entry| {
            let number = u64::try_from(entry.integer()?).ok();
            T::try_from(number.filter(|number| range.contains(number))?).ok()
        });
        number.unwrap_or(default)
    }

    /// A size with its unit, within `range` bytes.
    pub(super) fn size<T>(&mut self, key: &'static str, default: T, range: RangeInclusive<u64>) -> T
    where
        T: TryFrom<u64>,
    {
        let size = self.value(
            key,
            || size_rule(&range),
            |entry| {
                let bytes = parse_size(entry.text()?);
                T::try_from(bytes.filter(|bytes| range.contains(bytes))?).ok()
            },
        );
        size.unwrap_or(default)
    }

    /// A size with its unit, within `range` bytes; an empty text counts as not written.
    pub(super) fn size_if_any(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let rule = || format!("{}, or empty", size_rule(&range));
        let size = self.value(key, rule, |entry| match entry.text()? {
            "" => Some(None),
            text => {
                let bytes = parse_size(text);
                bytes.filter(|bytes| range.contains(bytes)).map(Some)
            }
        });
        size.flatten()
    }

    /// A time with its unit, within `range`.
    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let time = self.value(
            key,
            || duration_rule(&range),
            |entry| parse_duration(entry.text()?).filter(|time| range.contains(time)),
        );
        time.unwrap_or(default)
    }

    /// An IP address and port to listen on.
    pub(super) fn addr(&mut self, key: &'static str, default: SocketAddr) -> SocketAddr {
        let rule = || {
            "must be an IP address and a port, such as \"127.0.0.1:1883\" or \"[::1]:1883\""
                .to_owned()
        };
        self.value(key, rule, |entry| entry.text()?.parse().ok())
            .unwrap_or(default)
    }

    /// An IP address and port to listen on; an empty text counts as not written.
    pub(super) fn addr_if_any(&mut self, key: &'static str) -> Option<SocketAddr> {
        let rule =
            || "must be an IP address and a port, such as \"0.0.0.0:7441\", or empty".to_owned();
        let addr = self.value(key, rule, |entry| match entry.text()? {
            "" => Some(None),
            text => text.parse().ok().map(Some),
        });
        addr.flatten()
    }

    /// Bytes per second as a size with its unit, at most `most`; "0" is no limit, or off.
    pub(super) fn rate(&mut self, key: &'static str, default: u64, most: u64) -> u64 {
        let range = LEAST_RATE..=most;
        let rule = || format!("{}, or \"0\"", size_rule(&range));
        let rate = self.value(key, rule, |entry| match entry.text()?.trim() {
            "0" => Some(0),
            text => parse_size(text).filter(|rate| *rate == 0 || range.contains(rate)),
        });
        rate.unwrap_or(default)
    }

    /// A text that is one of the names of `choices`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: T,
        choices: &[(&str, T)],
    ) -> T {
        let rule = || {
            let names = choices.iter().map(|(name, _)| format!("{name:?}"));
            format!("must be {}", names.collect::<Vec<_>>().join(" or "))
        };
        let choice = self.value(key, rule, |entry| {
            let text = entry.text()?;
            let (_, value) = choices.iter().find(|(name, _)| *name == text)?;
            Some(*value)
        });
        choice.unwrap_or(default)
    }

    /// A text that `parse` understands.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        default: T,
        rule: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> T {
        let parsed = self.value(key, || rule.to_owned(), |entry| parse(entry.text()?));
        parsed.unwrap_or(default)
    }

    /// One or more different host names or IP addresses with a port, resolved later.
    pub(super) fn hosts_ports(&mut self, key: &'static str, most: usize) -> Option<Vec<String>> {
        let rule = || {
            format!(
                "must be host:port, such as \"primary.example:7441\", or a list of up to {most} of \
                 them"
            )
        };
        self.value(key, rule, |entry| {
            let texts = entry.some_texts()?;
            let different: BTreeSet<&str> = texts.iter().copied().collect();
            let good = (1..=most).contains(&texts.len())
                && different.len() == texts.len()
                && texts.iter().copied().all(is_host_port);
            good.then(|| texts.into_iter().map(str::to_owned).collect())
        })
    }

    /// One or more different names of certificates; an empty text counts as not written.
    pub(super) fn cert_names(&mut self, key: &'static str, most: usize) -> Vec<String> {
        let rule = || {
            format!(
                "must be a name that `headwater certs node` was given, such as \"primary-1\", a list \
                 of up to {most} of them, or empty"
            )
        };
        let names = self.value(key, rule, |entry| {
            let texts = entry.some_texts()?;
            if texts == [""] {
                return Some(Vec::new());
            }
            let different: BTreeSet<&str> = texts.iter().copied().collect();
            let odd = |c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-');
            let good = (1..=most).contains(&texts.len())
                && different.len() == texts.len()
                && texts
                    .iter()
                    .all(|name| (1..=64).contains(&name.len()) && !name.contains(odd));
            good.then(|| texts.into_iter().map(str::to_owned).collect())
        });
        names.unwrap_or_default()
    }

    /// A list of texts that are all `good`; it may be empty.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        rule: &str,
        good: fn(&str) -> bool,
    ) -> Vec<String> {
        let texts = self.value(
            key,
            || rule.to_owned(),
            |entry| {
                let mut texts = entry.some_texts()?;
                // An empty text of the environment is an empty list.
                texts.retain(|text| !text.is_empty());
                let all = texts.iter().all(|text| good(text)) && texts.len() <= MOST_TEXTS;
                all.then(|| texts.into_iter().map(str::to_owned).collect())
            },
        );
        texts.unwrap_or_default()
    }

    /// A path; an empty one counts as not written.
    pub(super) fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        // A directory of that name would be made where the process happens to be.
        if text == "~" || text.starts_with("~/") || text.starts_with('$') || text.contains('\0') {
            self.refuse(key, PATH_RULE);
        }
        Some(PathBuf::from(text))
    }

    /// The items of a list as written.
    pub(super) fn list(&mut self, list: &'static str) -> &'a [BTreeMap<String, Entry>] {
        // Whatever stands under this key alone is no list of sections.
        let _: Option<()> = self.value(list, || list_rule(list), |_| None);
        self.source.lists.get(list).map_or(&[], Vec::as_slice)
    }

    /// The file that was read.
    pub(super) fn file(&self) -> &str {
        &self.source.file
    }

    /// Records what a reader of parts found.
    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Whether the key was written, even empty.
    pub(super) fn has(&self, key: &str) -> bool {
        self.source.entries.contains_key(key)
    }

    /// Whether the section was written, even empty.
    pub(super) fn has_section(&self, section: &str) -> bool {
        self.source.has_section(section)
    }

    /// Records that a key without default was not written.
    pub(super) fn missing(&mut self, key: &'static str, rule: &str) {
        // A value that was refused has been reported already.
        let refused = self.problems.iter().any(
            |problem| matches!(problem, Problem::Refused { key: refused, .. } if refused == key),
        );
        if !refused {
            let file = self.source.file.clone();
            self.problems.push(Problem::Missing {
                file,
                key: key.to_owned(),
                rule: rule.to_owned(),
            });
        }
    }

    /// Records that a value, right by itself, is wrong beside the others.
    pub(super) fn refuse(&mut self, key: &'static str, rule: &str) {
        if let Some(entry) = self.source.entries.get(key) {
            self.problems.push(refused(key, entry, rule.to_owned()));
        }
    }

    /// The keys asked for so far.
    pub(super) fn into_known(self) -> BTreeSet<&'static str> {
        self.known
    }

    /// All problems, with those of the keys that nobody asked for. `others` are the keys that the
    /// other role would ask for.
    pub(super) fn finish(
        mut self,
        role: Option<RoleName>,
        others: &BTreeSet<&'static str>,
    ) -> Vec<Problem> {
        for (key, entry) in &self.source.entries {
            // Without a role nobody has asked for the keys of either.
            let unasked = role.is_none() && others.contains(key.as_str());
            if !unasked && !self.known.contains(key.as_str()) {
                let problem = self.stray(key, entry, role, others);
                self.problems.push(problem);
            }
        }
        if role == Some(RoleName::Secondary) {
            let lists = self.source.lists.iter();
            for (list, _) in lists.filter(|(_, items)| !items.is_empty()) {
                let origin = Origin::File(self.source.file.clone());
                let problem = other_role(origin, list, RoleName::Secondary);
                self.problems.push(problem);
            }
        }
        self.problems
    }

    /// What is wrong with a key that nobody asked for.
    fn stray(
        &self,
        key: &str,
        entry: &Entry,
        role: Option<RoleName>,
        others: &BTreeSet<&'static str>,
    ) -> Problem {
        let (origin, name) = (entry.origin.clone(), key.to_owned());
        if planned(key) {
            return Problem::NotYet { origin, key: name };
        }
        let section = key.split_once('.').map(|(section, _)| section);
        let list = LISTS.into_iter().find(|list| Some(*list) == section);
        match (role, list) {
            (Some(role), _) if others.contains(key) => return other_role(origin, key, role),
            (_, Some(list)) => return refused(key, entry, list_rule(list)),
            _ => {}
        }
        let nearest = self
            .known
            .union(others)
            .copied()
            .max_by(|a, b| likeness(key, a).total_cmp(&likeness(key, b)))
            .unwrap_or("node.role");
        Problem::Unknown {
            origin,
            key: name,
            nearest,
        }
    }

    fn value<T>(
        &mut self,
        key: &'static str,
        rule: impl FnOnce() -> String,
        parse: impl FnOnce(&Entry) -> Option<T>,
    ) -> Option<T> {
        self.known.insert(key);
        let entry = self.source.entries.get(key)?;
        let value = parse(entry);
        if value.is_none() {
            self.problems.push(refused(key, entry, rule()));
        }
        value
    }
}

fn size_rule(range: &RangeInclusive<u64>) -> String {
    let (least, most) = (show_size(*range.start()), show_size(*range.end()));
    format!("must be a size with its unit, from \"{least}\" to \"{most}\"")
}

/// This machine alone.
pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// What a time within `range` must look like.
pub(super) fn duration_rule(range: &RangeInclusive<Duration>) -> String {
    let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
    format!("must be a time with its unit, from \"{least}\" to \"{most}\"")
}

fn refused(key: &str, entry: &Entry, rule: String) -> Problem {
    Problem::Refused {
        origin: entry.origin.clone(),
        key: key.to_owned(),
        value: entry.show(),
        rule,
    }
}

/// `key` belongs to the role that the node, being a `role`, has not.
fn other_role(origin: Origin, key: &str, role: RoleName) -> Problem {
    let owner = match role {
        RoleName::Primary => RoleName::Secondary,
        RoleName::Secondary => RoleName::Primary,
    };
    Problem::OtherRole {
        origin,
        key: key.to_owned(),
        owner,
        role,
    }
}

fn planned(key: &str) -> bool {
    let mut names = PLANNED.iter().filter_map(|name| key.strip_prefix(name));
    names.any(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let port: Option<u16> = port.parse().ok();
    let strange = |c: char| c.is_whitespace() || c.is_control() || ",/@[]?#".contains(c);
    let is_host = match host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains(':') && !host.contains(strange),
    };
    is_host && port.is_some_and(|port| port != 0)
}

fn list_rule(list: &str) -> String {
    format!("{list}s are written in the conf file, each as a [[{list}]]")
}

/// How much an unknown key looks like a known one. A key outside any section is compared with the
/// bare names.
fn likeness(key: &str, known: &str) -> f64 {
    if key.contains('.') {
        return strsim::normalized_damerau_levenshtein(key, known);
    }
    let (section, name) = known.split_once('.').unwrap_or(("", known));
    let to = |name: &str| strsim::normalized_damerau_levenshtein(key, name);
    to(section).max(to(name))
}

/// Most texts of one list.
const MOST_TEXTS: usize = 1_024;

const PATH_RULE: &str =
    "must be a path as it is: ~ and variables are not expanded here, and NUL is in none";

/// Keys and sections of the public surface that this version does not have yet.
const PLANNED: [&str; 18] = [
    "user",
    "pg",
    "flight",
    "archive",
    "cluster.peers",
    "cluster.advertise_mqtt",
    "cluster.failover",
    "cluster.promotion",
    "cluster.lease",
    "cluster.max_loss_rows",
    "cluster.on_promote",
    "http.tls_cert",
    "http.tls_key",
    "mqtt.user",
    "mqtt.tls_listen",
    "mqtt.tls_cert",
    "mqtt.tls_key",
    "http.token",
];

/// The slowest rate that still gets anything done, in bytes per second.
const LEAST_RATE: u64 = 1 << 10;
