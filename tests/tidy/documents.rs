//! That the documents say what the code does. Must never hold prose, only names and numbers.

use std::collections::BTreeSet;

use crate::tree::{files, quoted, read, root, section};

#[test]
fn the_format_document_names_the_numbers_of_the_code() {
    let text = read("ingest/wal/FORMAT.md");
    assert!(text.contains(&format!("format version {}\n", wal::FORMAT_VERSION)));
    assert!(text.contains(&format!("| {} | 8 | mark", wal::BLOCK_HEADER_LEN)));
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

/// Tables and commands apart.
#[test]
fn documents_are_wrapped_at_100_columns() {
    let mut long = Vec::new();
    for (path, text) in files("", "md") {
        let mut command = false;
        for (number, line) in text.lines().enumerate() {
            command ^= line.trim_start().starts_with("```");
            let is_prose = !command && !line.starts_with('|');
            // A link or a command in a sentence is not broken.
            let can_break = line.trim().rsplit('`').count() < 3 && !line.contains("](");
            if is_prose && can_break && line.chars().count() > 100 {
                long.push(format!("{path}:{}", number + 1));
            }
        }
    }
    assert!(
        long.is_empty(),
        "longer than 100 columns:\n{}",
        long.join("\n")
    );
}

/// The members of the workspace, by their folders.
fn members() -> Vec<String> {
    let manifest: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let members = manifest["workspace"]["members"].as_array();
    members
        .expect("a list")
        .iter()
        .map(|member| member.as_str().expect("a folder").to_owned())
        .collect()
}

/// The folders right below `src` of a crate, those aside that hold a module and its tests alone.
fn folders(member: &str) -> BTreeSet<String> {
    let src = format!("{member}/src/");
    files(member, "rs")
        .iter()
        .filter_map(|(path, _)| path.strip_prefix(&src)?.split_once('/'))
        .filter(|(folder, file)| *folder != "tests" && !["mod.rs", "tests.rs"].contains(file))
        .map(|(folder, _)| folder.to_owned())
        .collect()
}

/// The folders that ARCHITECTURE.md's code map names, without their last slash.
fn mapped() -> BTreeSet<String> {
    let map = section("ARCHITECTURE.md", "Code map");
    quoted(&map)
        .filter_map(|name| name.strip_suffix('/'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_folder_on_the_code_map_is_there() {
    let mapped = mapped();
    assert!(mapped.len() > 8, "{mapped:?}");
    let members = members();
    let gone: Vec<&String> = mapped
        .iter()
        .filter(|folder| {
            let inside = |member: &String| {
                let member = root().join(member);
                member.join(folder).is_dir() || member.join("src").join(folder).is_dir()
            };
            !root().join(folder).is_dir() && !members.iter().any(inside)
        })
        .collect();
    assert!(gone.is_empty(), "not there: {gone:?}");
}

#[test]
fn every_crate_is_on_the_code_map() {
    let mapped = mapped();
    let missing: Vec<String> = members()
        .into_iter()
        .filter(|member| !mapped.contains(member))
        .collect();
    assert!(missing.is_empty(), "not on the code map: {missing:?}");
}

#[test]
fn every_folder_of_a_crate_is_on_the_code_map() {
    let mapped = mapped();
    let missing: Vec<String> = members()
        .iter()
        .flat_map(|member| {
            folders(member)
                .into_iter()
                .filter(|folder| !mapped.contains(folder))
                .map(move |folder| format!("{member}/src/{folder}/"))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "not on the code map:\n{}",
        missing.join("\n")
    );
}
