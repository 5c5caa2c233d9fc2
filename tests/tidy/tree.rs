//! The checkout as a list of files. Must never look into what a build made.

use std::path::{Path, PathBuf};

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file of the checkout.
pub(crate) fn read(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file of ours below a folder whose name ends in `.extension`: its path from the checkout's
/// root, and its text.
pub(crate) fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let root = root();
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder);
        for entry in entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                let text = std::fs::read_to_string(&path);
                let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let path = path.strip_prefix(&root).expect("below the root");
                found.push((path.to_string_lossy().into_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// Every Rust file of ours.
pub(crate) fn sources() -> Vec<(String, String)> {
    let found = files("", "rs");
    assert!(found.len() > 100, "only {} files found", found.len());
    found
}

/// The lines of a document's section, without its heading.
pub(crate) fn section(document: &str, heading: &str) -> String {
    let text = read(document);
    let heading = format!("## {heading}");
    text.lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with("## "))
        .flat_map(|line| [line, "\n"])
        .collect()
}

/// What stands in `backticks` in a text.
pub(crate) fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The crates that are shipped, by their folders.
pub(crate) const PRODUCT: [&str; 6] = [
    "ingest/wal",
    "ingest/intake",
    "ingest/mqtt",
    "replica",
    "query",
    "server",
];
