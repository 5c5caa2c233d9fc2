//! What compaction does next with the files of one table: a pure function of what the manifest
//! says. It must never look at anything else.

use crate::format::options::TableOptions;
use crate::parquet::{FileMeta, Window};

/// Files to be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Merge {
    /// Ordinals, in LSN order.
    pub(crate) inputs: Vec<u64>,
    /// What the new files must lie in.
    pub(crate) hull: Window,
    /// Whether everything goes into one file of that window.
    pub(crate) join: bool,
}

/// Files whose rows are all older than what is purged.
pub(crate) fn expired(files: &[&FileMeta], purged: Option<i64>) -> Vec<u64> {
    let Some(purged) = purged else {
        return Vec::new();
    };
    let gone = files.iter().filter(|file| file.max_time < purged);
    gone.map(|file| file.ordinal).collect()
}

/// The merge that is due, if one is. `clock` is the primary's at the end of what is compacted.
pub(crate) fn due(files: &[&FileMeta], options: TableOptions, clock: i64) -> Option<Merge> {
    let merge = due_in_class(files, clock).map(|merge| closed(files, merge));
    merge.or_else(|| due_to_join(files, options, clock))
}

/// Windows that have files, each once, small windows first.
fn windows(files: &[&FileMeta]) -> Vec<Window> {
    let mut all: Vec<Window> = files.iter().map(|file| file.window).collect();
    all.sort_unstable();
    all.dedup();
    all
}

fn class(bytes: u64) -> u32 {
    let mut end = SMALL;
    let mut class = 0;
    while bytes >= end {
        end *= 8;
        class += 1;
    }
    class
}

/// Whether nothing will come into the window any more, as far as one can tell.
fn at_rest(window: Window, files: &[&FileMeta], clock: i64) -> bool {
    let inside = files.iter().filter(|file| window.holds(file.window));
    let newest = inside.map(|file| file.made_at).max().unwrap_or(i64::MIN);
    window.end() <= clock && newest.saturating_add(REST) <= clock
}

fn due_in_class(files: &[&FileMeta], clock: i64) -> Option<Merge> {
    for window in windows(files) {
        let here: Vec<&FileMeta> = in_window(files, window).collect();
        let rests = at_rest(window, files, clock);
        let fan_in = if rests { FAN_IN_AT_REST } else { FAN_IN };
        for wanted in 0..class(LARGE) {
            let mut of_class: Vec<&FileMeta> = here
                .iter()
                .copied()
                .filter(|file| class(file.bytes) == wanted)
                .collect();
            if of_class.len() >= fan_in {
                of_class.sort_by_key(|file| (file.first, file.ordinal));
                of_class.truncate(MOST_INPUTS);
                let bytes: u64 = of_class.iter().map(|file| file.bytes).sum();
                return Some(merge(&of_class, window, rests && bytes <= LARGE));
            }
        }
    }
    None
}

fn in_window<'a>(
    files: &'a [&FileMeta],
    window: Window,
) -> impl Iterator<Item = &'a FileMeta> + 'a {
    let files = files.iter().copied();
    files.filter(move |file| file.window == window)
}

/// Small windows at rest become one larger one while that stays a small file.
fn due_to_join(files: &[&FileMeta], options: TableOptions, clock: i64) -> Option<Merge> {
    let retention = options.retention_nanos().unwrap_or(i64::MAX);
    let mut parents: Vec<Window> = windows(files)
        .into_iter()
        .filter_map(Window::parent)
        .filter(|parent| *parent != Window::ALL)
        .collect();
    parents.sort_unstable();
    parents.dedup();
    for parent in parents {
        if parent.width() > retention / RETENTION_PARTS || !at_rest(parent, files, clock) {
            continue;
        }
        let inside: Vec<&FileMeta> = files
            .iter()
            .copied()
            .filter(|file| parent.holds(file.window))
            .collect();
        let total: u64 = inside.iter().map(|file| file.bytes).sum();
        let held: u64 = in_window(&inside, parent).map(|file| file.bytes).sum();
        // What is joined already is not written again for a trickle.
        let worth = (total - held) * 8 >= held || inside.len() > MOST_INPUTS;
        if inside.len() > 1 && total <= LARGE && worth {
            let closed = closed(files, merge(&inside, parent, true));
            // What would be drawn in from outside would only be cut out again, for ever.
            if closed.hull == parent {
                return Some(closed);
            }
        }
    }
    None
}

fn merge(files: &[&FileMeta], hull: Window, join: bool) -> Merge {
    let mut sorted = files.to_vec();
    sorted.sort_by_key(|file| (file.first, file.ordinal));
    let inputs = sorted.iter().map(|file| file.ordinal).collect();
    Merge { inputs, hull, join }
}

/// Adds every file that overlaps the merge in time and in LSN: where the last write wins, or ever
/// will, the new file must stand wholly before or after any other that may hold the same key.
fn closed(files: &[&FileMeta], mut due: Merge) -> Merge {
    loop {
        let inside = |file: &&&FileMeta| due.inputs.contains(&file.ordinal);
        let chosen: Vec<&FileMeta> = files.iter().filter(inside).copied().collect();
        let min = |of: fn(&FileMeta) -> i64| chosen.iter().map(|file| of(file)).min();
        let (Some(min_time), Some(first), Some(end), Some(max_time)) = (
            min(|file| file.min_time),
            chosen.iter().map(|file| file.first).min(),
            chosen.iter().map(|file| file.end).max(),
            chosen.iter().map(|file| file.max_time).max(),
        ) else {
            return due;
        };
        let between = |file: &&FileMeta| {
            file.overlaps(min_time, max_time) && file.first < end && file.end > first
        };
        let all: Vec<&FileMeta> = files.iter().copied().filter(between).collect();
        if all.len() == chosen.len() {
            return due;
        }
        let mut hull = due.hull;
        for file in &all {
            while !hull.holds(file.window) {
                hull = hull.parent().unwrap_or(Window::ALL);
            }
        }
        let join = due.join && hull == due.hull;
        due = merge(&all, hull, join);
    }
}

/// Files of one size class that are merged while their window still grows.
const FAN_IN: usize = 8;
/// The same once the window is at rest.
const FAN_IN_AT_REST: usize = 2;
/// Most files of one merge that is not forced to take more.
const MOST_INPUTS: usize = 16;
/// Files of this size and more are left alone, and windows are joined up to it.
const LARGE: u64 = 256 << 20;
/// The smallest size class ends here; each one ends at eight times the one before.
const SMALL: u64 = 1 << 20;
/// A window is at rest once nothing has come into it for this long, by the primary's clock.
const REST: i64 = 3_600_000_000_000;
/// Small windows are not joined into one larger than this part of the retention: what is expired
/// goes file by file.
const RETENTION_PARTS: i64 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Lsn, TableId};
    use crate::parquet::DAY;

    const AT_REST_AFTER: i64 = REST + DAY;

    fn file(ordinal: u64, day: i64, bytes: u64) -> FileMeta {
        FileMeta {
            table: TableId(1),
            ordinal,
            window: Window::of(0, day * DAY),
            first: Lsn(ordinal * 10),
            end: Lsn(ordinal * 10 + 10),
            rows: bytes / 10,
            min_time: day * DAY,
            max_time: day * DAY + DAY - 1,
            made_at: day * DAY,
            bytes,
            chunks: Vec::new(),
        }
    }

    /// Merges until nothing is due, as compaction does; bytes add up.
    fn settle(files: &mut Vec<FileMeta>, options: TableOptions, clock: i64) -> usize {
        let mut merges = 0;
        loop {
            let all: Vec<&FileMeta> = files.iter().collect();
            let Some(merge) = due(&all, options, clock) else {
                return merges;
            };
            merges += 1;
            assert!(merge.inputs.len() > 1, "{merge:?}");
            assert!(merges < 10_000, "merges without end: {merge:?}");
            let (taken, left): (Vec<FileMeta>, Vec<FileMeta>) = files
                .drain(..)
                .partition(|file| merge.inputs.contains(&file.ordinal));
            *files = left;
            let next = taken
                .iter()
                .chain(files.iter())
                .map(|file| file.ordinal)
                .max()
                .unwrap_or(0)
                + 1;
            files.push(FileMeta {
                ordinal: next,
                window: merge.hull,
                first: taken.iter().map(|file| file.first).min().expect("inputs"),
                end: taken.iter().map(|file| file.end).max().expect("inputs"),
                min_time: taken
                    .iter()
                    .map(|file| file.min_time)
                    .min()
                    .expect("inputs"),
                max_time: taken
                    .iter()
                    .map(|file| file.max_time)
                    .max()
                    .expect("inputs"),
                made_at: taken.iter().map(|file| file.made_at).max().expect("inputs"),
                bytes: taken.iter().map(|file| file.bytes).sum(),
                ..taken[0].clone()
            });
        }
    }

    #[test]
    fn a_growing_day_keeps_few_files_and_rewrites_little() {
        let mut files = Vec::new();
        let mut merges = 0;
        for ordinal in 0..1_000 {
            files.push(file(ordinal * 1_000, 20_000, 300_000));
            merges += settle(&mut files, TableOptions::default(), 20_000 * DAY);
            assert!(files.len() <= 8 * 4 + 2, "{} files", files.len());
        }
        assert!(merges < 1_000 / 6, "{merges} merges");
    }

    #[test]
    fn years_of_slow_sensors_end_in_few_files() {
        let mut files = Vec::new();
        for day in 20_000..22_000 {
            files.push(file(
                u64::try_from(day).expect("positive") * 1_000,
                day,
                300_000,
            ));
            settle(
                &mut files,
                TableOptions::default(),
                day * DAY + AT_REST_AFTER,
            );
        }
        assert!(files.len() < 60, "{} files", files.len());
    }

    #[test]
    fn retention_bounds_how_far_windows_are_joined() {
        let retention = Some(std::time::Duration::from_secs(90 * 86_400));
        let options = TableOptions {
            retention,
            ..TableOptions::default()
        };
        let mut files = Vec::new();
        for day in 20_000..20_200 {
            files.push(file(
                u64::try_from(day).expect("positive") * 1_000,
                day,
                300_000,
            ));
            settle(&mut files, options, day * DAY + AT_REST_AFTER);
        }
        assert!(files.iter().all(|file| file.window.width() <= 8 * DAY));
        let all: Vec<&FileMeta> = files.iter().collect();
        let cut = 20_100 * DAY;
        let gone = expired(&all, Some(cut));
        assert!(!gone.is_empty());
        for file in &files {
            assert_eq!(gone.contains(&file.ordinal), file.max_time < cut);
        }
        assert!(expired(&all, None).is_empty());
    }

    #[test]
    fn a_merge_takes_all_that_lies_between_its_inputs() {
        let mut files: Vec<FileMeta> = (0..8).map(|at| file(at * 2, 20_000, 1_000)).collect();
        // Late rows of the same day, in the middle of the log, in a file of a larger window.
        let mut late = file(5, 19_990, 1_000);
        late.window = Window::of(2, 19_990 * DAY);
        late.max_time = 20_000 * DAY + 5;
        files.push(late);
        let all: Vec<&FileMeta> = files.iter().collect();
        let merge = due(&all, TableOptions::default(), 20_000 * DAY).expect("due");
        assert!(merge.inputs.contains(&5) && merge.inputs.len() == 9);
        assert!(all.iter().all(|file| merge.hull.holds(file.window)));
    }

    #[test]
    fn days_are_not_joined_when_that_would_draw_in_what_is_cut_out_again() {
        // One run: two full days of one window of 8 days, and one file for the days around them.
        let (first, second) = (file(1, 20_002, 900_000), file(1, 20_005, 900_000));
        let mut around = file(1, 19_990, 200_000);
        around.max_time = 20_012 * DAY;
        around.window = Window::of(2, 19_990 * DAY);
        let mut files = vec![first, second, around];
        for (ordinal, file) in (0..).zip(&mut files) {
            file.ordinal = ordinal;
        }
        assert_eq!(files[0].window.parent(), files[1].window.parent());
        let all: Vec<&FileMeta> = files.iter().collect();
        let merge = due(&all, TableOptions::default(), 20_100 * DAY);
        assert_eq!(merge, None);
    }
}
