//! Logs to standard error, as text or JSON lines: what lines there are, and the one layer that makes
//! them of all events. Must never write to standard output, and nothing here may be given a secret;
//! neither what a library repeats nor what a client sends may fill a log, hold up who logs, or end
//! it.

mod clip;
mod lines;
mod rates;
mod sink;

use std::cell::Cell;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt, ParseError};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};
use wal::{Due, Quiet};

pub(crate) use lines::LogFormat;
use lines::{Lines, Said, notice};
use rates::Place;
use sink::Sink;

/// A log filter that cannot be parsed.
#[derive(Debug, thiserror::Error)]
#[error("HEADWATER_LOG = {text:?} is no log filter: {source}")]
pub(crate) struct TelemetryError {
    text: String,
    source: ParseError,
}

/// Sends the process's log to standard error. The first call in a process wins.
///
/// # Errors
/// When `HEADWATER_LOG` is set to something that is no filter.
pub(crate) fn init(format: LogFormat, default_filter: &str) -> Result<(), TelemetryError> {
    let text = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_| default_filter.to_owned());
    let filter = EnvFilter::builder()
        .parse(format!("{ALWAYS},{text}"))
        .map_err(|source| TelemetryError { text, source })?;
    let lines = Lines {
        format,
        colours: format == LogFormat::Text && std::io::stderr().is_terminal(),
        said: &SAID,
        put: |line| SINK.put(line),
    };
    let filter = filter.and(Libraries::default());
    // An error means that the process logs already, which is what was asked for.
    let started = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init();
    if started.is_ok() {
        let notice: fn(&str) -> String = match format {
            LogFormat::Text => |text| notice(LogFormat::Text, text),
            LogFormat::Json => |text| notice(LogFormat::Json, text),
        };
        let due = move |now| SAID.overdue(format, now);
        SINK.start(std::io::stderr(), notice, Box::new(due));
    }
    Ok(())
}

/// What became of the lines of this process's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogStats {
    /// By level.
    pub(crate) lines: [(&'static str, u64); 5],
    /// Left out because there were many of their kind.
    pub(crate) left_out: u64,
    /// Nobody took them.
    pub(crate) lost: u64,
}

/// What became of the lines of this process's log: there is one, whatever runs in it.
pub(crate) fn stats() -> LogStats {
    LogStats {
        lines: SAID.lines(),
        left_out: SAID.left_out(),
        lost: SINK.counts.lost.load(Ordering::Relaxed),
    }
}

/// Waits until what was logged is written, but not for long: nobody may read it.
pub(crate) fn flush() {
    SINK.flush(FLUSH);
}

/// Says something on standard error that is no line of the log, if it can be said.
pub(crate) fn tell(text: &str) {
    flush();
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Makes what a task says that fails by a bug a line of the log, like any other.
pub(crate) fn tell_of_panics() {
    thread_local! {
        static TELLING: Cell<bool> = const { Cell::new(false) };
    }
    std::panic::set_hook(Box::new(|panic| {
        // One that comes of telling of another is not told of.
        if TELLING.replace(true) {
            return;
        }
        let payload = panic.payload();
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let what = text.or_else(|| payload.downcast_ref::<&str>().copied());
        let at = panic.location().map(ToString::to_string);
        let thread = std::thread::current();
        tracing::error!(
            what = what.unwrap_or("it did not say why"),
            at = at.unwrap_or_default(),
            thread = thread.name().unwrap_or_default(),
            "a task has failed by a bug of this program"
        );
        TELLING.set(false);
    }));
}

/// Lets a line of a library through the less often the more often it comes: by its place in the
/// source, as its text may differ each time. The node's own lines are the node's business.
#[derive(Debug, Default)]
struct Libraries {
    said: Mutex<Quiet<Place>>,
}

impl Libraries {
    fn is_due(&self, place: Place, now: Instant) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.note(place, now) != Due::Not
    }
}

impl<S: Subscriber> Filter<S> for Libraries {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        // Whoever asks for more than that asks for all of it.
        if *metadata.level() > Level::INFO || is_ours(metadata.target()) {
            return true;
        }
        let mut place = Place {
            target: metadata.target().to_owned(),
            line: metadata.line().map(u64::from),
        };
        // Lines that came in by the older logging interface have their place in fields.
        event.record(&mut place);
        is_ours(&place.target) || self.is_due(place, Instant::now())
    }
}

impl Visit for Place {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "log.target" {
            value.clone_into(&mut self.target);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "log.line" {
            self.line = Some(value);
        }
    }

    fn record_debug(&mut self, _field: &Field, _value: &dyn fmt::Debug) {}
}

fn is_ours(target: &str) -> bool {
    let package = target.split("::").next().unwrap_or_default();
    OURS.contains(&package)
}

/// The log is the process's.
static SAID: LazyLock<Said> = LazyLock::new(Said::default);
static SINK: LazyLock<Sink> = LazyLock::new(Sink::default);

/// How long the last lines are waited for.
const FLUSH: Duration = Duration::from_secs(2);

/// What a running node logs unless told otherwise.
pub(crate) const NODE_FILTER: &str = "info,ntex=warn";

/// Of lines that tell of a log that was begun. The nodes of a demonstration always begin one.
pub(crate) const NEW_LOG: &str = "headwater::new_log";

/// What a short-lived command logs unless told otherwise.
pub(crate) const COMMAND_FILTER: &str = "warn,headwater::new_log=off";

/// The UDP library complains of packets that cannot be sent; what follows from that is said by
/// those who send. A filter that names it wins.
const ALWAYS: &str = "quinn_udp=error";

/// The packages of this program.
const OURS: [&str; 8] = [
    "headwater",
    "server",
    "replica",
    "mqtt",
    "intake",
    "query",
    "wal",
    "benches",
];

const FILTER_VARIABLE: &str = "HEADWATER_LOG";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_library_repeats_is_said_by_its_place_and_what_is_ours_always() {
        assert!(is_ours("replica::follow::task") && is_ours("server"));
        assert!(!is_ours("ntex_server::net::accept") && !is_ours("log"));
        let (libraries, now) = (Libraries::default(), Instant::now());
        let place = |line| Place {
            target: "ntex_server::net::accept".to_owned(),
            line: Some(line),
        };
        assert!(libraries.is_due(place(1), now));
        assert!(!libraries.is_due(place(1), now));
        assert!(libraries.is_due(place(2), now));
    }
}
