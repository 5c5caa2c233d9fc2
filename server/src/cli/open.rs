//! `headwater open`: what keeps the log of a stopped node from being whole, what each way to go on
//! without it would lose, and that, once it is told to. Must never lose anything that was not said
//! first, or that no copy is kept of.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use wal::{BrokenLog, GiveUp, Loss, find_broken, give_up};

use super::exit::FAILURE;
use super::output::say;
use super::show::{count, show_moment};
use crate::node::data_dir::{DataDirError, DirLock};

/// Why nothing was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    #[error("{} holds no log", .0.display())]
    NoLog(PathBuf),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error("nothing was given up: {0}")]
    Log(#[from] wal::WalError),
}

/// Says what is wrong and, if it is told what, gives it up.
pub(super) fn run(data_dir: &Path, what: Option<GiveUp>) -> Result<ExitCode, OpenError> {
    if !wal::holds_log(&wal::OsDisk, data_dir)? {
        return Err(OpenError::NoLog(data_dir.to_owned()));
    }
    let _held = DirLock::take(data_dir)?;
    let disk = wal::OsDisk::new();
    let Some(broken) = find_broken(&disk, data_dir)? else {
        say!("nothing keeps this log from being opened, and nothing was changed");
        return Ok(ExitCode::SUCCESS);
    };
    say!("{}", words(&broken));
    let Some(what) = what else {
        say!("{}", ways(&broken, data_dir));
        return Ok(ExitCode::from(FAILURE));
    };
    say!("{}", lost(&broken, what));
    if let Some((_, kept)) = give_up(&disk, data_dir, what)? {
        say!(
            "done: the log is whole again, and can be opened. Its files as they were are in {}",
            kept.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn words(broken: &BrokenLog) -> String {
    let acknowledged = broken.acknowledged.0.saturating_sub(broken.from.lsn.0);
    format!(
        "{} cannot be read from offset {} on: {}.\nEverything below LSN {} is sound. The log goes on \
         to LSN {}, as far as what can be read behind it says; of that {} acknowledged for sure.",
        broken.file.display(),
        broken.offset,
        broken.reason,
        broken.from.lsn,
        broken.to,
        match acknowledged {
            1 => "1 row or control block was".to_owned(),
            more => format!("{more} rows and control blocks were"),
        },
    )
}

/// What is lost with it.
fn lost(broken: &BrokenLog, what: GiveUp) -> String {
    match what {
        GiveUp::Tail => format!("--cut-tail: lost are {}", show(&broken.tail)),
        GiveUp::Hole => format!(
            "--accept-hole: lost are {}. What is behind stays, under other LSNs",
            show(&broken.hole)
        ),
    }
}

fn show(loss: &Loss) -> String {
    let known: u64 = loss.tables.values().sum();
    let unknown = loss.lsns.saturating_sub(known);
    let mut parts: Vec<String> = Vec::new();
    for (table, rows) in &loss.tables {
        parts.push(format!("{} of table {table:?}", count(*rows, "row")));
    }
    if unknown > 0 {
        parts.push(format!(
            "{} of which nothing more is known",
            count(unknown, "row or control block")
        ));
    }
    if parts.is_empty() {
        return "no rows".to_owned();
    }
    let moment = |nanos: i64| show_moment(u64::try_from(nanos / 1_000_000).unwrap_or(0));
    let times = loss.times.map_or(String::new(), |(from, to)| {
        format!(" (times {} to {})", moment(from), moment(to))
    });
    format!("{}{times}", parts.join(", "))
}

fn ways(broken: &BrokenLog, data_dir: &Path) -> String {
    let dir = data_dir.display();
    let helps = if broken.hole.lsns < broken.tail.lsns {
        "--accept-hole loses less"
    } else {
        "both lose the same"
    };
    format!(
        "A secondary that has these bytes loses nothing: a primary that serves secondaries fetches \
         them by itself, or, with both stopped,\n  headwater repair {dir} --from \
         SECONDARY_DATA_DIR\nWithout one ({helps}; copies of the files are kept under \
         {dir}/diverged either way)\n  headwater open --accept-hole {dir}\n    {}\n  headwater open \
         --cut-tail {dir}\n    {}",
        lost(broken, GiveUp::Hole),
        lost(broken, GiveUp::Tail),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_each_way_would_lose() {
        let hole = Loss {
            lsns: 3,
            tables: [("plant".to_owned(), 2)].into(),
            times: Some((0, 1_000_000_000)),
        };
        let tail = Loss {
            lsns: 9,
            tables: [("plant".to_owned(), 8)].into(),
            times: None,
        };
        let broken = BrokenLog {
            file: PathBuf::from("d/1.log"),
            offset: 4_096,
            reason: "no block magic".to_owned(),
            from: wal::LogId::random().genesis(),
            to: wal::Lsn(9),
            acknowledged: wal::Lsn(7),
            tail,
            hole,
        };
        let text = format!("{}\n{}", words(&broken), ways(&broken, Path::new("data")));
        for part in [
            "d/1.log cannot be read from offset 4096 on: no block magic",
            "below LSN 0 is sound",
            "to LSN 9",
            "7 rows and control blocks were acknowledged",
            "headwater open --cut-tail data",
            "headwater open --accept-hole data",
            "repair data --from",
            "2 rows of table \"plant\", 1 row or control block of which",
            "1970-01-01",
            "8 rows of table",
            "--accept-hole loses less",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
