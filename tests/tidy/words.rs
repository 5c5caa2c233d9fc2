//! One word for one thing: what the crates export stands in ARCHITECTURE.md's "Words", and words
//! that were given up do not come back. Must never ban a word that has a plain use.

use std::collections::BTreeSet;

use crate::layers::Module;
use crate::tree::{PRODUCT, files, quoted, read, section, sources};

/// The types that a crate's root hands on, those of other crates aside.
fn exported(package: &str) -> BTreeSet<String> {
    let root = Module::parse(&read(&format!("{package}/src/lib.rs")));
    let own = |name: &String| root.children.iter().any(|(_, child)| child == name);
    root.imports
        .iter()
        .filter(|import| import.public && import.path.first().is_some_and(own))
        .map(|import| import.name.clone())
        .filter(|name| is_type(name))
        .collect()
}

/// Whether a name is written as types are: `Lsn`, not `LSN` or `lsn`.
fn is_type(name: &str) -> bool {
    name.starts_with(char::is_uppercase) && name.contains(char::is_lowercase)
}

#[test]
fn every_exported_type_is_among_the_words() {
    let words = section("ARCHITECTURE.md", "Words");
    let known: BTreeSet<&str> = quoted(&words)
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric() && c != '_'))
        .collect();
    let missing: Vec<String> = PRODUCT
        .iter()
        .map(|package| {
            let missing: Vec<String> = exported(package)
                .into_iter()
                .filter(|name| !known.contains(name.as_str()))
                .collect();
            (package, missing)
        })
        .filter(|(_, missing)| !missing.is_empty())
        .map(|(package, missing)| format!("{package}: {}", missing.join(", ")))
        .collect();
    assert!(
        missing.is_empty(),
        "not among the words of ARCHITECTURE.md:\n{}",
        missing.join("\n")
    );
}

/// The plain words of a text: identifiers are taken apart at underscores and capitals.
fn words(text: &str) -> impl Iterator<Item = String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut before = ' ';
    for c in text.chars().chain([' ']) {
        let begins = c.is_uppercase() && before.is_lowercase();
        if (begins || !c.is_alphabetic()) && !word.is_empty() {
            words.push(std::mem::take(&mut word));
        }
        if c.is_alphabetic() {
            word.extend(c.to_lowercase());
        }
        before = c;
    }
    words.into_iter()
}

fn is_allowed(name: &str, path: &str) -> bool {
    path == "tests/tidy/words.rs"
        || ALLOWED
            .iter()
            .any(|(allowed, folder)| *allowed == name && path.starts_with(folder))
}

#[test]
fn words_that_were_given_up_do_not_come_back() {
    let all = ["rs", "toml", "md"].map(|extension| files("", extension));
    let mut found = Vec::new();
    for (path, text) in all.iter().flatten() {
        for (number, line) in text.lines().enumerate() {
            let back = words(line)
                .find(|word| RETIRED_WORDS.contains(&word.as_str()) && !is_allowed(word, path));
            if let Some(word) = back {
                found.push(format!("{path}:{}: {word}", number + 1));
            }
        }
    }
    assert!(found.is_empty(), "words given up:\n{}", found.join("\n"));
}

#[test]
fn types_that_were_renamed_do_not_come_back() {
    let mut found = Vec::new();
    for (path, text) in sources() {
        for (_, name) in Module::parse(&text).defined {
            let new = RETIRED_TYPES.iter().find(|(old, _)| *old == name);
            if let Some((old, new)) = new
                && !is_allowed(old, &path)
            {
                found.push(format!("{path}: {old}, which is {new}"));
            }
        }
    }
    assert!(found.is_empty(), "types renamed:\n{}", found.join("\n"));
}

#[test]
fn identifiers_are_taken_apart_where_people_read_them_apart() {
    let found: Vec<String> = words("let greet_timeout = JoinError::new(v2, `x`);").collect();
    assert_eq!(
        found,
        ["let", "greet", "timeout", "join", "error", "new", "v", "x"]
    );
    assert!(is_type("Lsn") && !is_type("LSN") && !is_type("lsn"));
}

/// In no text and no name.
const RETIRED_WORDS: [&str; 17] = [
    "accompany",
    "brief",
    "briefs",
    "shelve",
    "shelves",
    "shelved",
    "shelving",
    "pursuit",
    "pursuits",
    "knock",
    "knocks",
    "knocked",
    "greet",
    "greets",
    "greeted",
    "greeting",
    "desk",
];

/// No type of ours is called so, and what it is called instead.
const RETIRED_TYPES: [(&str, &str); 27] = [
    ("Book", "Entries"),
    ("Brief", "NodeSummary"),
    ("Briefs", "Summaries"),
    ("Course", "Session"),
    ("DamageBoard", "DamageList"),
    ("Desk", "Schedule"),
    ("Door", "Acceptor"),
    ("Downstream", "FollowTask"),
    ("Heard", "PrimaryClock"),
    ("Holds", "Leases"),
    ("JoinError", "FillError"),
    ("JoinProgress", "BootstrapProgress"),
    ("JoinStatus", "BootstrapStatus"),
    ("Joining", "Bootstrap"),
    ("Kept", "Leases"),
    ("Knock", "Incoming"),
    ("Notes", "Inner"),
    ("Packing", "Compression"),
    ("Past", "SegmentStarts"),
    ("PrimaryNode", "PrimaryParts"),
    ("Pursuit", "Task"),
    ("SecondaryNode", "SecondaryParts"),
    ("Shelved", "Diverged"),
    ("ShelvedStatus", "DivergedStatus"),
    ("Standing", "Lineage"),
    ("Ticket", "GroupId or Admitted"),
    ("Visitor", "PeerLog"),
];

/// Where one of them is meant in another sense, or as what it was: in files or folders that begin
/// so.
const ALLOWED: [(&str, &str); 2] = [
    ("Standing", "server/src/cli/against"),
    ("shelved", "CHANGELOG.md"),
];
