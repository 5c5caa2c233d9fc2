//! Which crate may know which: of ours, and of others'. Must never be the only guard: `cargo deny`
//! looks at what is linked.

use crate::tree::{PRODUCT, read, sources};

/// The crates a package depends on, tests aside.
fn dependencies(package: &str) -> Vec<String> {
    let manifest: toml::Table = read(&format!("{package}/Cargo.toml"))
        .parse()
        .expect("TOML");
    let table = manifest["dependencies"].as_table().expect("a table");
    table.keys().cloned().collect()
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
        for other in PRODUCT {
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
    for (path, text) in sources() {
        if path.starts_with("replica/") && !path.starts_with("replica/src/quic") {
            assert!(!text.contains("quinn::"), "{path} names quinn");
        }
    }
}

/// Every package of a lock file with its version.
fn locked(path: &str) -> Vec<(String, String)> {
    let lock: toml::Table = read(path).parse().expect("TOML");
    let packages = lock["package"].as_array().expect("a list");
    packages
        .iter()
        .map(|package| {
            let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
            (text("name"), text("version"))
        })
        .collect()
}

/// What is fuzzed is what is shipped.
#[test]
fn fuzz_targets_lock_the_versions_of_the_product() {
    let product = locked("Cargo.lock");
    let other: Vec<(String, String)> = locked("tests/fuzz/Cargo.lock")
        .into_iter()
        .filter(|(name, version)| {
            let mut ours = product.iter().filter(|(ours, _)| ours == name).peekable();
            ours.peek().is_some() && !ours.any(|(_, ours)| ours == version)
        })
        .collect();
    assert!(
        other.is_empty(),
        "other versions than in Cargo.lock: {other:?}"
    );
}
