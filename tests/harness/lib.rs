//! What the integration tests share: a disk that crashes, real processes, real clients, waiting
//! for positions. Must never know more of the product than its public crates.

#![allow(clippy::expect_used, reason = "a test that panics has failed")]

use std::io::Write as _;

pub mod cluster;
pub mod crash_disk;
pub mod digest;
pub mod http;
pub mod netns;
pub mod node;
pub mod proxy;
pub mod publisher;
pub mod raw;
pub mod raw_http;
pub mod trial;
pub mod workload;

/// The seed of this run: `SEED` from the environment, else random. Printed, so that a failure can
/// be repeated.
pub fn seed() -> u64 {
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed={seed}");
    seed
}

/// Says that a test cannot be run here, and why.
///
/// # Panics
/// Under `HEADWATER_NO_SKIP`, which `.ci/run` sets where the machine can run everything: what is
/// skipped there, nobody runs.
pub fn skip(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    assert!(
        std::env::var_os("HEADWATER_NO_SKIP").is_none(),
        "{test} would be skipped, and with HEADWATER_NO_SKIP set nothing may be: {why}"
    );
    // Not with a macro: what those print is shown of tests that fail, and this one will not.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

/// Polls until `condition` holds; panics with what was last seen after `MAX_WAIT`.
///
/// # Panics
/// When it does not come true in time.
pub fn eventually<T: std::fmt::Debug>(what: &str, look: impl FnMut() -> Result<(), T>) {
    eventually_within(MAX_WAIT, what, look);
}

/// The same with a limit of its own.
///
/// # Panics
/// When it does not come true in time.
pub fn eventually_within<T: std::fmt::Debug>(
    limit: std::time::Duration,
    what: &str,
    mut look: impl FnMut() -> Result<(), T>,
) {
    let started = std::time::Instant::now();
    loop {
        match look() {
            Ok(()) => return,
            Err(seen) if started.elapsed() > limit => panic!("{what}: last seen {seen:?}"),
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

/// Copies a directory and all below it.
///
/// # Panics
/// When something cannot be read or written.
pub fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("makes the directory");
    for entry in std::fs::read_dir(from).expect("lists") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).expect("copies");
        }
    }
}

const MAX_WAIT: std::time::Duration = std::time::Duration::from_secs(30);
const POLL: std::time::Duration = std::time::Duration::from_millis(10);
