//! What Linux tells about this machine and about processes: CPU time, open files, the machine's
//! name.
//!
//! Reads `/proc` only; must never start or signal a process.

use std::fs;
use std::path::Path;

use crate::error::{BenchError, Context};

/// User and system CPU seconds of a process so far, with all its threads.
///
/// # Errors
/// When there is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64, BenchError> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).context(format!("read {path}"))?;
    parse_stat(&stat).ok_or_else(|| BenchError::Invalid(format!("{path} does not parse")))
}

/// The name of the process may hold spaces and parentheses; the fields after its last `)` do not.
fn parse_stat(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

/// CPU seconds of this process so far.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn own_cpu_seconds() -> Result<f64, BenchError> {
    cpu_seconds(std::process::id())
}

/// A line of this process's `/proc/self/status` in bytes: `VmHWM` is the most memory it had
/// resident, mapped files included, `RssAnon` what it holds of its own.
///
/// # Errors
/// When there is no such line.
pub fn own_memory(name: &str) -> Result<u64, BenchError> {
    memory(std::process::id(), name)
}

/// The same of any process.
///
/// # Errors
/// When there is no such process or line.
pub fn memory(pid: u32, name: &str) -> Result<u64, BenchError> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).context(format!("read {path}"))?;
    parse_memory(&status, name).ok_or_else(|| BenchError::Invalid(format!("{path} has no {name}")))
}

/// Files a process has open, sockets included.
///
/// # Errors
/// When there is no such process.
pub fn open_files(pid: u32) -> Result<u64, BenchError> {
    let path = format!("/proc/{pid}/fd");
    let files = fs::read_dir(&path).context(format!("list {path}"))?;
    Ok(files.count() as u64)
}

/// What has gone over the loopback device of this network namespace so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes, headers included.
    pub bytes: u64,
    /// Packets; several segments that travelled as one count once.
    pub packets: u64,
}

impl Traffic {
    /// What has come since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(before.bytes),
            packets: self.packets.saturating_sub(before.packets),
        }
    }
}

/// What has gone over loopback so far.
///
/// # Errors
/// When `/proc` does not tell.
pub fn loopback_traffic() -> Result<Traffic, BenchError> {
    let path = "/proc/self/net/dev";
    let devices = fs::read_to_string(path).context(format!("read {path}"))?;
    parse_traffic(&devices, "lo")
        .ok_or_else(|| BenchError::Invalid(format!("{path} has no loopback device")))
}

fn parse_traffic(devices: &str, name: &str) -> Option<Traffic> {
    let line = devices
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    let mut numbers = line.split_ascii_whitespace();
    Some(Traffic {
        bytes: numbers.next()?.parse().ok()?,
        packets: numbers.next()?.parse().ok()?,
    })
}

fn parse_memory(status: &str, name: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

/// Makes `VmHWM` of this process what is resident now.
///
/// # Errors
/// When the kernel refuses.
pub fn reset_own_peak() -> Result<(), BenchError> {
    fs::write("/proc/self/clear_refs", "5").context("write /proc/self/clear_refs")
}

/// Refuses more connections than this process may open files.
///
/// # Errors
/// When the limit is too low.
pub fn require_files(connections: usize) -> Result<(), BenchError> {
    let limits = fs::read_to_string("/proc/self/limits").context("read /proc/self/limits")?;
    let limit = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|line| line.split_ascii_whitespace().next()?.parse::<usize>().ok());
    match limit {
        Some(limit) if limit < connections + SPARE_FILES => Err(BenchError::Usage(format!(
            "{connections} connections need more than the {limit} open files allowed here; \
             raise it with ulimit -n, for the server too"
        ))),
        _ => Ok(()),
    }
}

/// Cores this process may use.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// One line about this machine, for the head of a table.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown CPU", |line| {
            line.trim_start_matches([' ', '\t', ':'])
        });
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} cores of {model}, Linux {}", cores(), kernel.trim())
}

/// Bytes of all files below a directory.
///
/// # Errors
/// When something below it cannot be read.
pub fn dir_bytes(dir: &Path) -> Result<u64, BenchError> {
    let mut total = 0;
    for entry in fs::read_dir(dir).context(format!("list {}", dir.display()))? {
        let entry = entry.context(format!("list {}", dir.display()))?;
        let metadata = entry
            .metadata()
            .context(format!("stat {}", entry.path().display()))?;
        total += if metadata.is_dir() {
            dir_bytes(&entry.path())?
        } else {
            metadata.len()
        };
    }
    Ok(total)
}

/// Lengths of all files below a directory whose names end in `.extension`, while others may come
/// and go.
///
/// # Errors
/// When the directory cannot be listed.
pub fn files_of(dir: &Path, extension: &str) -> Result<Vec<u64>, BenchError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).context(format!("list {}", dir.display()))? {
        let entry = entry.context(format!("list {}", dir.display()))?;
        let path = entry.path();
        // What was removed since it was listed is not there to be counted.
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_dir() {
            found.extend(files_of(&path, extension)?);
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(metadata.len());
        }
    }
    Ok(found)
}

/// Linux reports process times in hundredths of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Files a generator needs besides its sockets.
const SPARE_FILES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(parse_stat(stat), Some(2.0));
        assert_eq!(parse_stat("7 (a"), None);
        assert!(own_cpu_seconds().is_ok());
    }

    #[test]
    fn traffic_is_read_of_the_device_asked_for() {
        let devices = "Inter-| Receive\n face |bytes packets\n  lo0: 7 8 0\n    lo: 5000 12 0 0\n";
        let traffic = Traffic {
            bytes: 5000,
            packets: 12,
        };
        assert_eq!(parse_traffic(devices, "lo"), Some(traffic));
        assert_eq!(parse_traffic(devices, "eth0"), None);
        assert!(loopback_traffic().is_ok());
    }

    #[test]
    fn memory_is_read_by_its_whole_name() {
        let status = "VmHWMx:\t 1 kB\nVmHWM:\t    2048 kB\nRssAnon:\t   12 kB\n";
        assert_eq!(parse_memory(status, "VmHWM"), Some(2 << 20));
        assert_eq!(parse_memory(status, "RssAnon"), Some(12 << 10));
        assert_eq!(parse_memory(status, "VmPeak"), None);
        assert!(own_memory("VmHWM").is_ok());
    }
}
