//! How much memory the system lets this process have: what the machine has, what its own control
//! group and all above it may use, of either version and both at once, and its limits of resources.
//! Pure functions over the texts of `/proc`; must never take a limit that it cannot read for none
//! that holds, where another says more.

use std::path::{Component, Path, PathBuf};

/// The least that anything says this process may use, in bytes; none where nothing does.
pub(crate) fn memory_of_process() -> Option<u64> {
    let read = |path: &Path| std::fs::read_to_string(path).ok();
    let text = |path: &str| read(Path::new(path)).unwrap_or_default();
    let machine = mem_total(&text("/proc/meminfo"));
    let group = group_limit(
        &text("/proc/self/cgroup"),
        &text("/proc/self/mountinfo"),
        read,
    );
    let process = process_limit(&text("/proc/self/limits"));
    [machine, group, process].into_iter().flatten().min()
}

/// The least limit of the group that `cgroup` (`/proc/self/cgroup`) names and of all above it that
/// are mounted by `mountinfo` (`/proc/self/mountinfo`).
fn group_limit(
    cgroup: &str,
    mountinfo: &str,
    read: impl Fn(&Path) -> Option<String>,
) -> Option<u64> {
    let groups: Vec<(Version, &str)> = cgroup.lines().filter_map(group).collect();
    let mounts = mountinfo.lines().filter_map(mount);
    mounts
        .filter_map(|mount| {
            let (_, group) = groups
                .iter()
                .find(|(version, _)| *version == mount.version)?;
            directories(&mount, Path::new(group))
                .iter()
                .filter_map(|dir| mount.version.limit(dir, &read))
                .min()
        })
        .min()
}

/// Of the interface of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

impl Version {
    /// What the group at `dir` may use.
    fn limit(self, dir: &Path, read: impl Fn(&Path) -> Option<String>) -> Option<u64> {
        let number = |name: &str| read(&dir.join(name))?.trim().parse().ok();
        match self {
            Self::Two => {
                // Beyond `high` all its processes are slowed down until they hardly move.
                let limits = [number("memory.max"), number("memory.high")];
                limits.into_iter().flatten().min()
            }
            Self::One => {
                let stat = read(&dir.join("memory.stat")).unwrap_or_default();
                // Also of the groups above that a container does not see.
                let all = stat
                    .lines()
                    .find_map(|line| line.strip_prefix("hierarchical_memory_limit "))
                    .and_then(|bytes| bytes.trim().parse().ok());
                let limits = [number("memory.limit_in_bytes"), all];
                limits.into_iter().flatten().min()
            }
        }
        .filter(|limit| *limit < NO_LIMIT)
    }
}

/// A hierarchy with limits of memory, where it is mounted.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    /// The group that is found at `point`.
    root: PathBuf,
    point: PathBuf,
}

/// A line of `/proc/self/cgroup`, if it is of a hierarchy that may limit memory.
fn group(line: &str) -> Option<(Version, &str)> {
    let mut parts = line.splitn(3, ':');
    let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let path = path.trim_end_matches(" (deleted)");
    if number == "0" && controllers.is_empty() {
        return Some((Version::Two, path));
    }
    let limits_memory = controllers.split(',').any(|name| name == "memory");
    limits_memory.then_some((Version::One, path))
}

/// A line of `/proc/self/mountinfo`, if it is of a hierarchy that may limit memory.
fn mount(line: &str) -> Option<Mount> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (system, options) = (kind.next()?, kind.nth(1).unwrap_or_default());
    let version = match system {
        "cgroup2" => Version::Two,
        "cgroup" if options.split(',').any(|name| name == "memory") => Version::One,
        _ => return None,
    };
    Some(Mount {
        version,
        root: unescape(root),
        point: unescape(point),
    })
}

/// Where the group and all above it are found: at least the one that is mounted, which is the
/// process' own, or one above it, wherever a container has been made as usual.
fn directories(mount: &Mount, group: &Path) -> Vec<PathBuf> {
    // A group outside the namespace begins with `..`, and has no place here.
    let inside = group
        .strip_prefix(&mount.root)
        .ok()
        .filter(|below| below.components().all(|part| is_name(&part)));
    let own = mount.point.join(inside.unwrap_or(Path::new("")));
    own.ancestors()
        .take_while(|dir| dir.starts_with(&mount.point))
        .map(Path::to_owned)
        .collect()
}

fn is_name(part: &Component<'_>) -> bool {
    matches!(part, Component::Normal(_))
}

/// A path as the kernel writes it: what would end a field, as `\` and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut found = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        found.push_str(before);
        let code = after
            .get(..3)
            .and_then(|digits| u8::from_str_radix(digits, 8).ok())
            .filter(u8::is_ascii);
        if let Some(code) = code {
            found.push(char::from(code));
            rest = &after[3..];
        } else {
            found.push('\\');
            rest = after;
        }
    }
    found.push_str(rest);
    PathBuf::from(found)
}

/// What `/proc/self/limits` lets the process have: allocations beyond it fail.
fn process_limit(limits: &str) -> Option<u64> {
    let soft = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let limits = ["Max address space", "Max data size"].map(soft);
    limits.into_iter().flatten().min()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn mem_total(text: &str) -> Option<u64> {
    let rest = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1 << 10)
}

/// What version 1 says instead of "none" is just below this, and depends on the size of pages.
const NO_LIMIT: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    const MIB: u64 = 1 << 20;
    const NONE_V1: &str = "9223372036854771712\n";

    fn limit(cgroup: &str, mountinfo: &str, files: &[(&str, &str)]) -> Option<u64> {
        let files: HashMap<&Path, &str> = files
            .iter()
            .map(|(path, text)| (Path::new(*path), *text))
            .collect();
        group_limit(cgroup, mountinfo, |path| {
            files.get(path).map(|text| (*text).to_owned())
        })
    }

    /// A service of systemd on a machine with version 2 only, `MemoryMax=400M` on its slice.
    #[test]
    fn the_limits_of_a_service_and_of_its_slices_hold_in_version_2() {
        let cgroup = "0::/system.slice/iot.slice/headwater.service\n";
        let mountinfo = "22 28 0:20 / /proc rw,nosuid - proc proc rw\n\
            29 24 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 \
            rw,nsdelegate,memory_recursiveprot\n";
        let own = "/sys/fs/cgroup/system.slice/iot.slice/headwater.service/memory.max";
        let slice = "/sys/fs/cgroup/system.slice/iot.slice/memory.max";
        let system = "/sys/fs/cgroup/system.slice/memory.max";
        let files = [(own, "max\n"), (slice, "419430400\n"), (system, "max\n")];
        assert_eq!(limit(cgroup, mountinfo, &files), Some(400 * MIB));
        let files = [(own, "104857600\n"), (slice, "419430400\n")];
        assert_eq!(limit(cgroup, mountinfo, &files), Some(100 * MIB));
        let files = [(own, "419430400\n"), (system, "52428800\n")];
        assert_eq!(limit(cgroup, mountinfo, &files), Some(50 * MIB));
        let high = "/sys/fs/cgroup/system.slice/memory.high";
        let files = [(own, "419430400\n"), (high, "209715200\n")];
        assert_eq!(limit(cgroup, mountinfo, &files), Some(200 * MIB));
        assert_eq!(limit(cgroup, mountinfo, &[(own, "max\n")]), None);
    }

    /// A container of Docker on a machine with version 2: a namespace of its own.
    #[test]
    fn a_container_with_a_namespace_has_its_group_at_the_top() {
        let mountinfo = "1187 1186 0:26 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 \
            cgroup rw,nsdelegate\n";
        let files = [("/sys/fs/cgroup/memory.max", "268435456\n")];
        assert_eq!(limit("0::/\n", mountinfo, &files), Some(256 * MIB));
        // Moved out of the namespace's root after it was made.
        let outside = "0::/../../user.slice\n";
        assert_eq!(limit(outside, mountinfo, &files), Some(256 * MIB));
        // The host's hierarchy in a namespace of one's own: its root lies above.
        let above = mountinfo.replace(" / /sys", " /../../.. /sys");
        assert_eq!(limit("0::/\n", &above, &files), Some(256 * MIB));
    }

    /// Docker and Kubernetes on version 1: the controller's directory is mounted from the group.
    #[test]
    fn a_container_without_a_namespace_has_its_group_mounted() {
        let cgroup = "12:devices:/docker/3f0c\n11:cpu,cpuacct:/docker/3f0c\n\
            5:memory:/docker/3f0c\n1:name=systemd:/docker/3f0c\n0::/system.slice/containerd.service\n";
        let mountinfo = "700 699 0:31 /docker/3f0c /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup \
            rw,cpu,cpuacct\n\
            704 699 0:35 /docker/3f0c /sys/fs/cgroup/memory ro,nosuid master:20 - cgroup cgroup \
            rw,memory\n";
        let own = "/sys/fs/cgroup/memory/memory.limit_in_bytes";
        let files = [(own, "134217728\n")];
        assert_eq!(limit(cgroup, mountinfo, &files), Some(128 * MIB));
        // The pod's limit, which only the sum over the hierarchy tells.
        let stat = "/sys/fs/cgroup/memory/memory.stat";
        let files = [
            (own, NONE_V1),
            (
                stat,
                "cache 0\nrss 4096\nhierarchical_memory_limit 67108864\n",
            ),
        ];
        assert_eq!(limit(cgroup, mountinfo, &files), Some(64 * MIB));
        let none = format!("hierarchical_memory_limit {NONE_V1}");
        let files = [(own, NONE_V1), (stat, none.as_str())];
        assert_eq!(limit(cgroup, mountinfo, &files), None);
    }

    /// systemd's hybrid: version 1 has the controllers, version 2 only the names.
    #[test]
    fn both_versions_at_once_are_looked_at() {
        let cgroup = "9:memory:/system.slice/headwater.service\n\
            1:name=systemd:/system.slice/headwater.service\n0::/system.slice/headwater.service\n";
        let mountinfo = "31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:9 - cgroup2 cgroup2 \
            rw,nsdelegate\n\
            32 30 0:28 / /sys/fs/cgroup/systemd rw shared:10 - cgroup cgroup rw,xattr,name=systemd\n\
            40 30 0:36 / /sys/fs/cgroup/memory rw,nosuid shared:17 - cgroup cgroup rw,memory\n";
        let v1 = "/sys/fs/cgroup/memory/system.slice/headwater.service/memory.limit_in_bytes";
        let above = "/sys/fs/cgroup/memory/system.slice/memory.limit_in_bytes";
        let v2 = "/sys/fs/cgroup/unified/system.slice/headwater.service/memory.max";
        let files = [(v1, "419430400\n"), (above, NONE_V1)];
        assert_eq!(limit(cgroup, mountinfo, &files), Some(400 * MIB));
        let files = [(v1, "419430400\n"), (above, "314572800\n")];
        assert_eq!(limit(cgroup, mountinfo, &files), Some(300 * MIB));
        let files = [(v1, NONE_V1), (v2, "209715200\n")];
        assert_eq!(limit(cgroup, mountinfo, &files), Some(200 * MIB));
    }

    #[test]
    fn odd_texts_are_no_limits_and_no_panics() {
        let mountinfo = "29 24 0:26 / /mnt/a\\040b\\134c rw - cgroup2 none rw\n";
        let files = [("/mnt/a b\\c/x:y/memory.max", "1048576\n")];
        assert_eq!(limit("0::/x:y\n", mountinfo, &files), Some(MIB));
        assert_eq!(limit("0::/x:y (deleted)\n", mountinfo, &files), Some(MIB));
        for cgroup in ["", "0", "0:", "0::", "7:memory", "::::\n\n0::x/../y\n", "é"] {
            assert_eq!(limit(cgroup, mountinfo, &[]), None);
        }
        for mountinfo in [
            "",
            " - ",
            "1 2 3 - cgroup2",
            "1 2 3 / - cgroup",
            "a b c / \\7é - cgroup2 x",
        ] {
            assert_eq!(limit("0::/\n", mountinfo, &files), None);
        }
        let wrong = [("/mnt/a b\\c/memory.max", "many\n")];
        assert_eq!(limit("0::/\n", mountinfo, &wrong), None);
    }

    #[test]
    fn limits_of_the_process_hold_too() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
            Max data size             unlimited            unlimited            bytes\n\
            Max address space         2147483648           unlimited            bytes\n";
        assert_eq!(process_limit(limits), Some(2 << 30));
        assert_eq!(
            process_limit(&limits.replace("2147483648", "unlimited")),
            None
        );
        assert_eq!(process_limit(""), None);
    }

    #[test]
    fn a_machine_tells_its_memory() {
        let meminfo = "MemTotal:       16303428 kB\nMemFree:         1000000 kB\n";
        assert_eq!(mem_total(meminfo), Some(16_303_428 << 10));
        assert_eq!(mem_total("MemFree: 1 kB\n"), None);
        assert_eq!(mem_total("MemTotal: many kB\n"), None);
        assert!(memory_of_process().is_some());
    }
}
