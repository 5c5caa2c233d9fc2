//! How long a file may be and what it opens with. Must never ask for more than CONTRIBUTING.md
//! says.

use crate::tree::sources;

#[test]
fn files_stay_readable() {
    let long: Vec<String> = sources()
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .filter(|(_, lines)| *lines > LONGEST)
        .map(|(path, lines)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "too long:\n{}", long.join("\n"));
}

#[test]
fn every_file_says_first_what_it_owns_and_what_it_must_never_do() {
    let silent: Vec<String> = sources()
        .iter()
        .filter_map(|(path, text)| {
            let header: Vec<&str> = text
                .lines()
                .take_while(|line| line.starts_with("//!"))
                .collect();
            if !text.starts_with("//! ") {
                Some(format!("{path} does not open with //!"))
            } else if !header.join(" ").to_lowercase().contains("never") {
                Some(format!("{path} does not say what it must never do"))
            } else {
                None
            }
        })
        .collect();
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

/// Lines of a file, tests included.
const LONGEST: usize = 500;
