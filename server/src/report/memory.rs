//! What a node's parts hold of its memory. Must never guess: a part that does not count what it
//! holds has a limit and no bytes.

use serde::{Deserialize, Serialize};
use wal::Share;

/// A node's memory: its limit, what the system says it has, and its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// `node.memory_limit`, all parts together.
    pub limit_bytes: u64,
    /// What the process has in memory, files that it has mapped included; null: not known.
    pub resident_bytes: Option<u64>,
    pub parts: Vec<MemoryPart>,
}

/// One part of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPart {
    pub part: String,
    /// Null: it keeps to its limit without counting.
    pub bytes: Option<u64>,
    pub limit_bytes: u64,
}

impl Memory {
    /// What is held of `shares`; of those in `counted`, what is said there.
    pub(crate) fn of<'a>(
        limit_bytes: u64,
        shares: impl IntoIterator<Item = &'a Share>,
        counted: &[(&str, Option<u64>)],
    ) -> Self {
        let part = |share: &Share| {
            let said = counted.iter().find(|(name, _)| *name == share.name());
            MemoryPart {
                part: share.name().to_owned(),
                bytes: said.map_or(Some(share.used()), |(_, bytes)| *bytes),
                limit_bytes: share.limit(),
            }
        };
        Self {
            limit_bytes,
            resident_bytes: resident_bytes(),
            parts: shares.into_iter().map(part).collect(),
        }
    }
}

/// What this process has in memory.
pub(crate) fn resident_bytes() -> Option<u64> {
    resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// `VmRSS` of `/proc/self/status`, in bytes.
fn resident(status: &str) -> Option<u64> {
    let rest = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1 << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_say_what_they_hold_or_that_they_do_not_count() {
        let shares = ["a", "b", "c"].map(|name| Share::new(name, 100));
        let _held = shares[0].try_take(40);
        let memory = Memory::of(300, &shares, &[("b", Some(7)), ("c", None)]);
        let bytes: Vec<_> = memory.parts.iter().map(|part| part.bytes).collect();
        assert_eq!(bytes, [Some(40), Some(7), None]);
        assert!(memory.resident_bytes.is_some_and(|bytes| bytes > 1 << 20));
        assert_eq!(
            resident("VmPeak: 9 kB\nVmRSS:\t    1234 kB\n"),
            Some(1234 << 10)
        );
        assert_eq!(resident("VmRSS: many kB\n"), None);
    }
}
