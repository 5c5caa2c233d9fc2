//! Group commit: the one thread on a primary that turns gathered rows into durable blocks. It must
//! never acknowledge a row whose group is not on disk.
//!
//! While one fsync runs, appenders fill the next group, so batching needs no timer; `Pacer` only
//! keeps groups from becoming tiny under load. Any error poisons the log: nothing more is
//! acknowledged, every waiter fails, and the process is told through `Log::failed`.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::clock::unix_nanos;
use crate::config::Config;
use crate::error::{Operation, WalError};
use crate::format::body::BodyWriter;
use crate::format::control::Control;
use crate::format::options::TableOptions;
use crate::format::schema::TableSchema;
use crate::ids::{Position, TableId};
use crate::read::log::{Log, LogState};
use crate::tasks::Watched;
use crate::write::appender::Appender;
use crate::write::appenders::{Appenders, Shared};
use crate::write::encode::{Tables, encoded, gather, is_drop};
use crate::write::expiry::Clocks;
use crate::write::group::{Group, GroupBuilder};
use crate::write::inbox::{Durable, GroupId, Inbox};
use crate::write::old_ints;
use crate::write::pacer::Pacer;
use crate::write::registry::Registry;
use crate::write::space::Space;
use crate::write::taken_times::TakenTimes;
use crate::write::upkeep::{Expiring, options_of, retirement_due, schemas, wanted};
use crate::write::writer::Writer;

/// Handle to the committer's thread of an open primary log.
#[derive(Debug)]
pub struct Committer {
    log: Log,
    appenders: Appenders,
    thread: JoinHandle<Result<Position, WalError>>,
}

impl Committer {
    pub(crate) fn start(
        writer: Writer,
        state: Arc<LogState>,
        config: &Config,
    ) -> Result<Self, WalError> {
        let log = Log::new(Arc::clone(&state));
        let registry = Registry::new(&writer.catalog, &config.schemas, config.limits);
        let mut declared = old_ints::settled(&state.snapshot());
        registry.adopt(&declared);
        declared.extend(registry.declare(&config.tables)?);
        let registry = Arc::new(registry);
        let shared = Arc::new(Shared {
            inboxes: Mutex::default(),
            bell: Arc::default(),
            stop: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let mut space = Space::new(&state, config.reserve_disk);
        // Before anybody asks whether the log takes rows.
        space.has_room();
        let options = options_of(config);
        let times = Arc::new(TakenTimes::new(
            config.times,
            options.keys().cloned(),
            Arc::clone(&state.counters.expired),
        ));
        let mut run = CommitLoop {
            expiring: Expiring::default(),
            times: Arc::clone(&times),
            writer,
            space,
            state,
            declared,
            options,
            keep_segments: config.keep_segments,
            upkeep_every: config.upkeep_every.max(UPKEEP_LEAST),
            last_upkeep: None,
            shared: Arc::clone(&shared),
            registry: Arc::clone(&registry),
            body: BodyWriter::default(),
            pacer: Pacer::new(config.max_group_delay),
            segment_size: config.segment_size,
            watched: config.tasks.vital("committer"),
        };
        // Before any appender takes a row. What is due is found again.
        run.expire(&[]);
        run.expiring = Expiring::new(config.dead_letter_bytes);
        let dir = run.writer.dir.clone();
        let thread = thread::Builder::new()
            .name("committer".to_owned())
            .spawn(move || run.run())
            .map_err(WalError::io(Operation::StartThread("committer"), &dir))?;
        // Set before any appender exists, so no ring is lost.
        shared.bell.belongs_to(thread.thread().clone());
        let appenders = Appenders {
            shared,
            registry,
            times,
            pending_bytes: config.pending_bytes,
        };
        Ok(Self {
            log,
            appenders,
            thread,
        })
    }

    /// The log's read side.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Makes appenders for producers on other threads.
    pub fn appenders(&self) -> Appenders {
        self.appenders.clone()
    }

    /// A handle for one more producer; see `Appenders::appender`.
    pub fn appender(&self, on_durable: Box<dyn Fn(Durable) + Send + Sync>) -> Appender {
        self.appenders.appender(on_durable)
    }

    /// Commits what has been gathered, ends the thread and returns the log's end. Blocks.
    ///
    /// # Errors
    /// The error that poisoned the log, if one did.
    pub fn stop(self) -> Result<Position, WalError> {
        self.appenders.shared.stop.store(true, Ordering::Release);
        self.appenders.shared.bell.ring();
        self.thread.join().unwrap_or_else(|_| {
            Err(WalError::Poisoned(
                "the committer thread panicked".to_owned(),
            ))
        })
    }
}

/// The committer's thread.
struct CommitLoop {
    writer: Writer,
    state: Arc<LogState>,
    shared: Arc<Shared>,
    registry: Arc<Registry>,
    body: BodyWriter,
    pacer: Pacer,
    space: Space,
    segment_size: u64,
    keep_segments: u64,
    /// Schemas that the log does not have yet, to be written into it before any row.
    declared: Vec<Arc<TableSchema>>,
    /// Options by the conf; all other tables have none.
    options: HashMap<String, TableOptions>,
    upkeep_every: Duration,
    expiring: Expiring,
    times: Arc<TakenTimes>,
    /// When the log was last looked after.
    last_upkeep: Option<Instant>,
    watched: Watched,
}

/// Rows taken from one appender.
struct Taken {
    inbox: Arc<Inbox>,
    group: GroupId,
}

impl CommitLoop {
    fn run(mut self) -> Result<Position, WalError> {
        let guard = CloseOnExit {
            shared: Arc::clone(&self.shared),
            state: Arc::clone(&self.state),
        };
        let result = self.serve();
        if let Err(error) = &result {
            self.state.published.fail(&error.to_string());
        }
        drop(guard);
        // An error is told by the log.
        self.watched.finish();
        result.map(|()| self.writer.tip)
    }

    fn serve(&mut self) -> Result<(), WalError> {
        loop {
            self.watched.step();
            if !self.upkeep()? {
                return Ok(());
            }
            self.shared.bell.wait(self.upkeep_every);
            let stopping = self.stopping();
            if !stopping {
                let delay = self.pacer.delay(Instant::now());
                if !delay.is_zero() {
                    thread::sleep(delay);
                }
            }
            if !self.space.has_room() {
                if stopping {
                    // What waits was never acknowledged.
                    return Ok(());
                }
                self.space.pause();
                self.shared.bell.ring();
                continue;
            }
            if !self.commit_rows()? {
                return Ok(());
            }
            if stopping {
                // Rows that slipped in while the last group was written.
                return self.commit_rows().map(|_| ());
            }
        }
    }

    fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// Writes what the log must say by itself. Allowed where rows are not: it is little, and it
    /// makes room.
    fn upkeep(&mut self) -> Result<bool, WalError> {
        if self
            .last_upkeep
            .is_some_and(|at| at.elapsed() < self.upkeep_every)
        {
            return Ok(true);
        }
        self.last_upkeep = Some(Instant::now());
        self.space.check_place()?;
        let mut controls: Vec<Control> = std::mem::take(&mut self.declared)
            .into_iter()
            .map(Control::Schema)
            .collect();
        let expired = self.expire(&controls);
        controls.extend(self.changed_options(&controls));
        controls.extend(expired);
        controls.extend(retirement_due(&self.state.snapshot(), self.keep_segments));
        if controls.is_empty() && !self.is_overdue() {
            return Ok(true);
        }
        for control in &controls {
            if let Control::Expiry(..) = control {
                self.state.counters.count_cut();
            }
        }
        if !self.begin_segment()? {
            return Ok(false);
        }
        let group = self.encode(controls, Tables::new())?;
        self.commit(group)
    }

    /// How far the rows of all tables expire from now on, where that is news; `new` tables are about
    /// to be written.
    fn expire(&mut self, new: &[Control]) -> Vec<Control> {
        let snapshot = self.state.snapshot();
        for table in self.state.waiting_cuts.take_approved() {
            if let Some(schema) = snapshot.catalog.table(&table) {
                self.expiring.approve(schema.id);
            }
        }
        let catalog = &self.writer.catalog;
        let declared = self.declared.iter().chain(schemas(new));
        let declared = declared.filter(|schema| catalog.newest(schema.id).is_none());
        let tables = catalog.tables().chain(declared);
        let options = &self.options;
        let tables = tables.map(|schema| (schema.as_ref(), wanted(options, schema)));
        let clocks = Clocks {
            wall: unix_nanos(),
            now: Instant::now(),
        };
        let looked = self.expiring.look(&snapshot, tables, clocks, &self.times);
        let (controls, waiting) = looked;
        self.state.counters.set_given_up(self.expiring.given_up());
        self.state.waiting_cuts.set(waiting);
        controls
    }

    /// Options that the conf wants otherwise than the log has them.
    fn changed_options(&self, new: &[Control]) -> Vec<Control> {
        let new = schemas(new);
        let catalog = &self.writer.catalog;
        let mut changed: BTreeMap<TableId, TableOptions> = BTreeMap::new();
        for schema in catalog.tables().chain(new) {
            let wanted = wanted(&self.options, schema);
            if wanted != catalog.options(schema.id) {
                changed.insert(schema.id, wanted);
            }
        }
        let controls = changed.into_iter();
        controls
            .map(|(table, options)| Control::Options(table, options))
            .collect()
    }

    /// Whether the active segment has waited long enough for more.
    fn is_overdue(&self) -> bool {
        let active = &self.writer.active;
        let age = unix_nanos().saturating_sub(active.begun_at.unwrap_or(i64::MAX));
        let waited = u128::try_from(age).is_ok_and(|age| age >= MAX_AGE.as_nanos());
        active.blocks() > 0 && waited
    }

    /// Commits what has been gathered. False: given up while waiting for room; nothing may be
    /// committed after it, or it would seem to be acknowledged too.
    fn commit_rows(&mut self) -> Result<bool, WalError> {
        let started = Instant::now();
        let (taken, tables, controls) = self.take_all()?;
        if taken.is_empty() && controls.is_empty() {
            return Ok(true);
        }
        if !self.begin_segment()? {
            return Ok(false);
        }
        let rows: u64 = tables
            .values()
            .flatten()
            .map(|piece| piece.times.len() as u64)
            .sum();
        self.pacer.took(started, rows);
        let group = self.encode(controls, tables)?;
        let encoded: u64 = group
            .entries
            .iter()
            .map(|entry| u64::from(entry.rows))
            .sum();
        assert_eq!(rows, encoded, "every row that was taken is in a block");
        if !self.commit(group)? {
            return Ok(false);
        }
        let lsn = self.writer.tip.lsn;
        for Taken { inbox, group } in taken {
            inbox.complete(Durable { group, lsn });
        }
        Ok(true)
    }

    /// Gives a segment without blocks the secret of its marks. False: as [`Self::commit`].
    fn begin_segment(&mut self) -> Result<bool, WalError> {
        let secret = GroupBuilder::secret(self.writer.tip, unix_nanos());
        Ok(self.writer.active.blocks() > 0 || self.commit(secret)?)
    }

    /// Makes a group durable, once there is room. False: given up while waiting for room.
    fn commit(&mut self, group: Group) -> Result<bool, WalError> {
        let groups = std::slice::from_ref(&group);
        let stop = || self.shared.stop.load(Ordering::Acquire);
        let (writer, state) = (&mut self.writer, &self.state);
        let written = self.space.write(|| writer.commit(state, groups), stop)?;
        if written.is_none() {
            return Ok(false);
        }
        if group.seals {
            let Some(sealed) = self.space.write(|| writer.rotate(), stop)? else {
                return Ok(false);
            };
            self.state
                .published
                .publish(self.writer.committed(Some(sealed)));
        }
        Ok(true)
    }

    /// Takes what has been gathered, and what operators have changed. Of a table that is dropped it
    /// has all rows: they were handed over before that, and nobody can hand over more.
    fn take_all(&self) -> Result<(Vec<Taken>, Tables, Vec<Control>), WalError> {
        let (mut taken, mut tables) = self.take()?;
        let mut controls = self.registry.unwritten(&self.writer.catalog);
        let mut looked = 0;
        while controls.iter().skip(looked).any(is_drop) {
            looked = controls.len();
            let (more, rows) = self.take()?;
            taken.extend(more);
            for (table, pieces) in rows {
                tables.entry(table).or_default().extend(pieces);
            }
            controls.extend(self.registry.unwritten(&self.writer.catalog));
        }
        Ok((taken, tables, controls))
    }

    fn take(&self) -> Result<(Vec<Taken>, Tables), WalError> {
        let inboxes = self
            .shared
            .inboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::with_capacity(inboxes.len());
        let mut tables = Tables::new();
        for inbox in inboxes.iter() {
            if let Some((group, batch)) = inbox.take()? {
                gather(&mut tables, batch);
                taken.push(Taken {
                    inbox: Arc::clone(inbox),
                    group,
                });
            }
        }
        Ok((taken, tables))
    }

    fn encode(&mut self, controls: Vec<Control>, tables: Tables) -> Result<Group, WalError> {
        let (offset, blocks) = (self.writer.active.offset, self.writer.active.blocks());
        let overdue = self.is_overdue();
        let (tip, seed) = (self.writer.tip, self.writer.active.seed);
        let group = GroupBuilder::new(&mut self.body, tip, unix_nanos(), seed);
        let drops = controls.iter().any(is_drop);
        let mut group = encoded(group, &self.writer.catalog, controls, tables)?;
        let (len, blocks) = (offset + group.len() as u64, blocks + group.blocks());
        let full = len >= self.segment_size || blocks >= MAX_BLOCKS;
        // Where tables are wide, segments are long: no more goes into headers than into blocks.
        let entries = &self.writer.active.entries;
        let header = entries.first().map_or(offset, |first| first.offset);
        let worth = len >= 2 * header || blocks >= MOST_BLOCKS;
        // What was dropped is given up when its segment is compacted.
        if (full && worth) || overdue || drops {
            group.seal();
        }
        Ok(group.finish())
    }
}

/// However the thread ends, nobody waits for it for ever.
struct CloseOnExit {
    shared: Arc<Shared>,
    state: Arc<LogState>,
}

impl Drop for CloseOnExit {
    fn drop(&mut self) {
        if thread::panicking() {
            self.state.published.fail("the committer thread panicked");
        }
        let inboxes = self
            .shared
            .inboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.shared.ended.store(true, Ordering::Release);
        inboxes.iter().for_each(|inbox| inbox.close());
    }
}

/// A segment is sealed once it has this many blocks: a query must not meet many more.
const MAX_BLOCKS: usize = 16_384;
/// The same where its header is longer than all of them.
const MOST_BLOCKS: usize = 8 * MAX_BLOCKS;
/// Shortest time between two looks, so that an idle committer sleeps.
const UPKEEP_LEAST: Duration = Duration::from_millis(1);
/// A segment with rows is sealed once its first block is this old.
const MAX_AGE: Duration = Duration::from_secs(3600);
