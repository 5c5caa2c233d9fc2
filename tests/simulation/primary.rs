//! The primary: the real committer on a disk that crashes. Owns its rows' numbers, none of
//! which is ever used twice, and is open between steps. Must never know a secondary.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tests::crash_disk::CrashDisk;
use tests::workload::{TABLE, append};
use wal::{Appender, Committer, Config, Log, Row, Value, WalError, compact_now, open_primary};

use crate::oracle::{Check, Fault, Oracle, Was, dir, has_stopped, text};

pub(crate) struct Primary {
    disk: CrashDisk,
    config: Config,
    open: Option<Open>,
    next: i64,
    /// Bytes of text in every row.
    pad: usize,
    /// The disk will stop.
    armed: bool,
    /// A row that was not acknowledged: a crash may have left it.
    doubt: Option<i64>,
    saved: Option<(CrashDisk, Was)>,
}

struct Open {
    committer: Committer,
    appender: Appender,
}

impl Primary {
    /// A primary with one row.
    pub(crate) fn new(random: &mut Rng, wide: bool) -> Result<(Self, Oracle), Fault> {
        let kept = [0, 3_000, 12_000, u64::MAX][random.usize(..4)];
        let config = Config {
            segment_size: if wide {
                3_000_000
            } else {
                random.u64(1_500..12_000)
            },
            keep_segments: if wide { 0 } else { kept },
            // Once, when it is opened: by a clock no run could be repeated.
            upkeep_every: Duration::from_secs(86_400),
            ..Config::default()
        };
        let mut primary = Self {
            disk: CrashDisk::new(),
            config,
            open: None,
            next: 0,
            pad: if wide { 90_000 } else { 0 },
            armed: false,
            doubt: None,
            saved: None,
        };
        primary.open()?;
        let mut oracle = Oracle::new(primary.log().id());
        primary.append(&mut oracle)?;
        Ok((primary, oracle))
    }

    pub(crate) fn log(&self) -> Log {
        let open = self.open.as_ref().expect("open between steps");
        open.committer.log().clone()
    }

    pub(crate) fn is_armed(&self) -> bool {
        self.armed
    }

    /// Writes one row. Once this returns it is durable.
    pub(crate) fn append(&mut self, oracle: &mut Oracle) -> Result<(), Fault> {
        let number = self.next;
        self.next += 1;
        let open = self.open.as_mut().expect("open between steps");
        let written = if self.pad == 0 {
            append(&mut open.appender, number)
        } else {
            append_wide(&mut open.appender, number, self.pad)
        };
        if let Err(error) = written {
            self.doubt = Some(number);
            return Err(self.fault(&error));
        }
        match oracle.learn(&self.log(), Some(number))? {
            None => Ok(()),
            Some(number) => Err(format!("row {number} was acknowledged and is not there").into()),
        }
    }

    pub(crate) fn compact(&self) -> Result<(), Fault> {
        match compact_now(&self.log()) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// Closes the log in order and opens it again. When it is opened it lets go of what it need not
    /// keep.
    pub(crate) fn restart(&mut self, oracle: &mut Oracle, random: &mut Rng) -> Check {
        self.close();
        self.reopen(oracle, random)
    }

    /// The disk stops in the middle of one of the next operations.
    pub(crate) fn arm(&mut self, operations: u64) {
        self.disk.stop_at(self.disk.operations() + operations);
        self.armed = true;
    }

    /// The machine loses power and starts again, perhaps more than once.
    pub(crate) fn crash(&mut self, oracle: &mut Oracle, random: &mut Rng) -> Check {
        self.lose(random);
        if random.u8(..3) == 0 {
            self.arm(random.u64(..10));
        }
        self.reopen(oracle, random)
    }

    /// Keeps a copy of the whole disk.
    pub(crate) fn save(&mut self, oracle: &Oracle) {
        self.saved = Some((self.disk.copy(), oracle.was()));
    }

    /// Puts the kept copy back; false when there is none.
    pub(crate) fn restore(
        &mut self,
        oracle: &mut Oracle,
        random: &mut Rng,
    ) -> Result<bool, String> {
        let Some((disk, was)) = &self.saved else {
            return Ok(false);
        };
        oracle.put_back(was);
        let disk = disk.copy();
        self.close();
        self.disk = disk;
        (self.armed, self.doubt) = (false, None);
        self.reopen(oracle, random)?;
        Ok(true)
    }

    /// As [`Primary::restore`], but nobody is told: what was acknowledged is lost.
    pub(crate) fn forget(&mut self, oracle: &mut Oracle, random: &mut Rng) -> Check {
        if let Some((disk, _)) = &self.saved {
            let disk = disk.copy();
            self.close();
            self.disk = disk;
            self.armed = false;
            self.reopen(oracle, random)?;
        }
        Ok(())
    }

    pub(crate) fn close(&mut self) {
        if let Some(open) = self.open.take() {
            drop(open.appender);
            // What it could not write was not acknowledged; the next open tells.
            let _ = open.committer.stop();
        }
    }

    fn lose(&mut self, random: &mut Rng) {
        self.disk.stop_at(self.disk.operations());
        self.close();
        self.disk = self.disk.after_crash(random);
        self.armed = false;
    }

    fn reopen(&mut self, oracle: &mut Oracle, random: &mut Rng) -> Check {
        loop {
            let opened = self.open().and_then(|()| {
                let log = self.log();
                oracle.check_kept(&log)?;
                oracle.learn(&log, self.doubt.take())?;
                oracle.check_rows("the primary", &log)?;
                // Behind it the log has also done by itself what was due.
                self.append(oracle)
            });
            match opened {
                Ok(()) => return Ok(()),
                Err(Fault::Broken(what)) => return Err(what),
                Err(Fault::Disk | Fault::Closed(_)) => self.lose(random),
            }
        }
    }

    fn open(&mut self) -> Result<(), Fault> {
        let opened = open_primary(Arc::new(self.disk.clone()), dir(), &self.config);
        let (committer, recovery) = opened.map_err(|error| self.fault(&error))?;
        let appender = committer.appender(Box::new(|_| ()));
        self.open = Some(Open {
            committer,
            appender,
        });
        if recovery.damaged > 0 {
            return Err(format!("the primary finds damage: {recovery:?}").into());
        }
        Ok(())
    }

    fn fault(&self, error: &WalError) -> Fault {
        if self.armed && has_stopped(error) {
            return Fault::Disk;
        }
        let log = self.open.as_ref().map(|open| open.committer.log());
        let failed = log.map(Log::failed);
        let reason = failed.as_ref().and_then(|failed| failed.borrow().clone());
        Fault::Broken(format!("the primary: {} {reason:?}", text(error)))
    }
}

/// A row that fills a good part of a file's chunk.
fn append_wide(appender: &mut Appender, number: i64, pad: usize) -> Result<(), WalError> {
    let mut random = Rng::with_seed(u64::try_from(number).expect("positive"));
    let pad: String = (0..pad).map(|_| random.alphanumeric()).collect();
    let fields = [
        (Cow::Borrowed("n"), Value::Int(number)),
        (Cow::Borrowed("pad"), Value::Text(Cow::Owned(pad))),
    ];
    let row = Row {
        time: number,
        tags: &[("topic", "wide")],
        fields: &fields,
    };
    let group = appender
        .append(TABLE, &[row])
        .map_err(|_| WalError::Closed)?;
    appender.wait(group).map(|_| ())
}
