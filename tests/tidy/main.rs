//! Promises of the source tree itself: who may depend on whom, what every file opens with, that the
//! documents name the numbers in the code.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The crates a package depends on, tests aside.
fn dependencies(package: &str) -> Vec<String> {
    let manifest: toml::Table = read(&format!("{package}/Cargo.toml"))
        .parse()
        .expect("TOML");
    let table = manifest["dependencies"].as_table().expect("a table");
    table.keys().cloned().collect()
}

/// Every Rust file of ours.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("lists") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" {
                dirs.push(path);
            } else if name.ends_with(".rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 100, "only {} files found", found.len());
    found
}

#[test]
fn crates_know_only_what_they_may() {
    let ours = ["wal", "intake", "mqtt", "replica", "query", "server"];
    for (package, may) in [
        ("ingest/wal", &[][..]),
        ("ingest/intake", &["wal"]),
        ("ingest/mqtt", &["wal", "intake"]),
        ("replica", &["wal"]),
        ("query", &["wal"]),
        ("server", &["wal", "intake", "mqtt", "replica", "query"]),
    ] {
        let known = dependencies(package);
        let known: Vec<&str> = known
            .iter()
            .map(String::as_str)
            .filter(|name| ours.contains(name))
            .collect();
        assert!(
            known.iter().all(|name| may.contains(name)),
            "{package} knows {known:?}"
        );
    }
}

#[test]
fn one_crate_each_knows_mqtt_quic_sql_and_http() {
    for (package, alone) in [
        ("ingest/mqtt", &["ntex", "ntex-mqtt"][..]),
        ("replica", &["quinn", "rustls", "rcgen", "bincode"]),
        ("query", &["datafusion"]),
        ("server", &["axum", "hyper"]),
    ] {
        for other in [
            "ingest/wal",
            "ingest/intake",
            "ingest/mqtt",
            "replica",
            "query",
            "server",
        ] {
            let known = dependencies(other);
            let leaks: Vec<&&str> = alone
                .iter()
                .filter(|name| known.iter().any(|known| known == *name))
                .collect();
            assert!(
                other == package || leaks.is_empty(),
                "{other} knows {leaks:?}"
            );
        }
    }
}

#[test]
fn one_module_knows_quinn() {
    for path in sources() {
        let inside = path.components().any(|part| part.as_os_str() == "replica");
        let knows = path.components().any(|part| part.as_os_str() == "quic");
        if inside && !knows {
            let text = std::fs::read_to_string(&path).expect("reads");
            assert!(!text.contains("quinn::"), "{} names quinn", path.display());
        }
    }
}

#[test]
fn every_file_says_first_what_it_owns_and_stays_readable() {
    for path in sources() {
        let text = std::fs::read_to_string(&path).expect("reads");
        assert!(
            text.starts_with("//! "),
            "{} does not open with //!",
            path.display()
        );
        let lines = text.lines().count();
        assert!(lines <= 600, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_format_document_names_the_numbers_of_the_code() {
    let text = read("ingest/wal/FORMAT.md");
    assert!(text.contains(&format!("format version {}\n", wal::FORMAT_VERSION)));
    assert!(text.contains(&format!("| {} | | body |", wal::BLOCK_HEADER_LEN)));
    assert!(text.contains(&format!("at most {} MiB", wal::MAX_BLOCK_LEN >> 20)));
}

#[test]
fn conf_files_parse_to_the_defaults() {
    let primary = server::conf::parse("conf/primary.toml", &read("conf/primary.toml"), [], &[]);
    let bare = server::conf::parse("bare", "[node]\nrole = \"primary\"\n[http]\n", [], &[]);
    assert_eq!(
        format!("{:?}", primary.expect("valid")),
        format!("{:?}", bare.expect("valid"))
    );
}
