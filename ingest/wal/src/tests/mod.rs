//! Promises of the whole crate that no single file can make. Tests only; must never hold what the
//! product needs.

mod as_of;
mod digests;
mod drops;
mod evolution;
mod forged;
mod forged_blocks;
mod model;
mod numbers;
mod old_ints;
mod reading;
mod refusals;
pub(crate) mod refusing_disk;
mod renames;
mod retention;
mod roles;
mod room;
mod roundtrip;
mod running_out;
mod tables;
mod types;

/// Of a random test, from the environment to repeat it; printed.
fn seed() -> u64 {
    let given = std::env::var("SEED").ok();
    let given = given.and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}");
    seed
}
