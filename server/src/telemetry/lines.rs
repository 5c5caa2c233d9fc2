//! Events as lines: the one place where whatever anybody says becomes a line of the log, of this
//! program as of its libraries. Must never write a text as it came: each is clipped and escaped.

use std::fmt::{Debug, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;

use super::clip::{Clipped, quoted};
use super::rates::{Place, Rates};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// What was said, in this process.
#[derive(Debug, Default)]
pub(super) struct Said {
    lines: [AtomicU64; LEVELS.len()],
    left_out: AtomicU64,
    rates: Mutex<Rates>,
}

impl Said {
    /// Lines that were said, by level.
    pub(super) fn lines(&self) -> [(&'static str, u64); LEVELS.len()] {
        let mut counts = LEVELS.map(|(_, name)| (name, 0));
        for (count, lines) in counts.iter_mut().zip(&self.lines) {
            count.1 = lines.load(Ordering::Relaxed);
        }
        counts
    }

    /// Lines that were left out because there were many of their kind.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Says how many were left out where nothing more comes that would.
    pub(super) fn overdue(&self, format: LogFormat, now: Instant) -> Vec<String> {
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let overdue = rates.overdue(now);
        drop(rates);
        let lines = overdue.into_iter().map(|(place, left_out)| {
            let at = place.line.unwrap_or_default();
            let text = format!(
                "{left_out} more lines from line {at} of {} were left out",
                place.target
            );
            notice(format, &text)
        });
        lines.collect()
    }

    /// Whether a line is said; if so, how many of its kind before it were left out.
    fn is_due(&self, level: Level, place: Place) -> Option<u64> {
        let due = if level > Level::INFO {
            // Whoever asks for these asks for all of them.
            Some(0)
        } else {
            let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
            rates.note(place, Instant::now())
        };
        let count = match due {
            Some(_) => LEVELS.iter().position(|(known, _)| *known == level),
            None => {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                None
            }
        };
        if let Some(count) = count.and_then(|at| self.lines.get(at)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        due
    }
}

/// Makes lines of events and hands them on.
pub(super) struct Lines {
    pub(super) format: LogFormat,
    /// With colours, for a terminal.
    pub(super) colours: bool,
    pub(super) said: &'static Said,
    pub(super) put: fn(String),
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields::default();
        event.record(&mut fields);
        let place = Place {
            target: fields
                .target
                .take()
                .unwrap_or_else(|| metadata.target().to_owned()),
            line: fields.line.or(metadata.line().map(u64::from)),
        };
        let target = place.target.clone();
        let Some(left_out) = self.said.is_due(*metadata.level(), place) else {
            return;
        };
        if left_out > 0 {
            fields.add("left_out_before", left_out.into());
        }
        let line = Line {
            level: *metadata.level(),
            target: &target,
            fields,
        };
        (self.put)(match self.format {
            LogFormat::Text => line.text(self.colours),
            LogFormat::Json => line.json(),
        });
    }
}

/// A line that this module says itself.
pub(super) fn notice(format: LogFormat, text: &str) -> String {
    let mut fields = Fields::default();
    fields.record_debug_as("message", &format_args!("{text}"));
    let line = Line {
        level: Level::WARN,
        target: "headwater::log",
        fields,
    };
    match format {
        LogFormat::Text => line.text(false),
        LogFormat::Json => line.json(),
    }
}

struct Line<'a> {
    level: Level,
    target: &'a str,
    fields: Fields,
}

impl Line<'_> {
    fn text(self, colours: bool) -> String {
        let (colour, plain) = match (colours, self.level) {
            (false, _) => ("", ""),
            (true, Level::ERROR) => ("\u{1b}[31m", "\u{1b}[0m"),
            (true, Level::WARN) => ("\u{1b}[33m", "\u{1b}[0m"),
            (true, Level::INFO) => ("\u{1b}[32m", "\u{1b}[0m"),
            (true, _) => ("\u{1b}[34m", "\u{1b}[0m"),
        };
        let mut line = now();
        // Writing to a String cannot fail.
        let _ = write!(line, " {colour}{:>5}{plain} {}:", self.level, self.target);
        if let Some(message) = self.fields.message {
            let _ = write!(line, " {message}");
        }
        for (name, value) in self.fields.values {
            let value = match value {
                Value::String(text) => quoted(text),
                other => other.to_string(),
            };
            let _ = write!(line, " {name}={value}");
        }
        line.push('\n');
        line
    }

    fn json(self) -> String {
        let mut line = String::from("{");
        pair(&mut line, "timestamp", &now().into());
        pair(&mut line, "level", &self.level.to_string().into());
        if let Some(message) = self.fields.message {
            pair(&mut line, "message", &message.into());
        }
        for (name, value) in &self.fields.values {
            pair(&mut line, name, value);
        }
        pair(&mut line, "target", &self.target.into());
        line.push_str("}\n");
        line
    }
}

fn pair(object: &mut String, name: &str, value: &Value) {
    let comma = if object.len() > 1 { "," } else { "" };
    // Writing to a String cannot fail.
    let _ = write!(object, "{comma}{}:{value}", Value::from(name));
}

fn now() -> String {
    let mut text = String::new();
    if SystemTime.format_time(&mut Writer::new(&mut text)).is_err() {
        text.push_str("no time");
    }
    text
}

/// The fields of one event, clipped.
#[derive(Default)]
struct Fields {
    message: Option<String>,
    values: Vec<(&'static str, Value)>,
    /// Bytes of texts that are kept.
    bytes: usize,
    /// Where a line comes from that came by the older logging interface.
    target: Option<String>,
    line: Option<u64>,
}

impl Fields {
    fn record_debug_as(&mut self, name: &'static str, value: &dyn Debug) {
        let left = MOST_LINE.saturating_sub(self.bytes);
        let mut text = Clipped::new(MOST_FIELD.min(left));
        // Who cannot be shown says what it has said so far.
        let _ = write!(text, "{value:?}");
        let text = text.finish();
        self.bytes += text.len();
        if name == "message" {
            self.message = Some(text);
        } else {
            self.add(name, text.into());
        }
    }

    fn add(&mut self, name: &'static str, value: Value) {
        self.values.push((name, value));
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.add(field.name(), value.into());
        } else {
            self.add(field.name(), value.to_string().into());
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "log.line" => self.line = Some(value),
            name => self.add(name, value.into()),
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "log.target" => {
                let mut target = Clipped::new(MOST_TARGET);
                let _ = target.write_str(value);
                self.target = Some(target.finish());
            }
            "log.file" | "log.module_path" => {}
            name => self.record_debug_as(name, &format_args!("{value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_debug_as(field.name(), value);
    }
}

const LEVELS: [(Level, &str); 5] = [
    (Level::ERROR, "error"),
    (Level::WARN, "warn"),
    (Level::INFO, "info"),
    (Level::DEBUG, "debug"),
    (Level::TRACE, "trace"),
];

/// Bytes of one text in a line, of all of them together, and of a place's name.
const MOST_FIELD: usize = 1 << 10;
const MOST_LINE: usize = 4 << 10;
const MOST_TARGET: usize = 128;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    thread_local! {
        static TAKEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// The lines that `say` makes.
    fn lines(format: LogFormat, say: impl FnOnce()) -> (Vec<String>, &'static Said) {
        let said: &'static Said = Box::leak(Box::default());
        let layer = Lines {
            format,
            colours: false,
            said,
            put: |line| TAKEN.with_borrow_mut(|taken| taken.push(line)),
        };
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, say);
        (TAKEN.take(), said)
    }

    #[test]
    fn what_others_say_stays_one_field_of_one_line() {
        let topic = "a\n2030-01-01T00:00:00Z ERROR wal: the log has failed\u{1b}[2J";
        let (text, _) = lines(LogFormat::Text, || {
            tracing::warn!(topic, odd = %"x\" level=y", count = 7, ok = true, "said {topic}");
        });
        assert_eq!(text.len(), 1);
        assert_eq!(text[0].matches('\n').count(), 1, "{text:?}");
        let expected = " WARN server::telemetry::lines::tests: said a\\n2030-01-01T00:00:00Z ERROR wal: \
                        the log has failed\\u{1b}[2J topic=\"a\\n2030-01-01T00:00:00Z ERROR wal: the \
                        log has failed\\u{1b}[2J\" odd=\"x\\\" level=y\" count=7 ok=true\n";
        assert!(text[0].ends_with(expected), "{text:?}");
        let (json, _) = lines(LogFormat::Json, || {
            tracing::error!(topic, error = ?Some("b\r"), share = f64::NAN, n = -3, "said");
        });
        let value: Value = serde_json::from_str(&json[0]).unwrap();
        assert_eq!(
            value["topic"],
            topic.replace('\n', "\\n").replace('\u{1b}', "\\u{1b}")
        );
        assert_eq!(value["error"], "Some(\"b\\r\")");
        assert_eq!(
            (value["n"].as_i64(), &value["share"]),
            (Some(-3), &"NaN".into())
        );
        assert_eq!(value["level"], "ERROR");
        assert_eq!(value["target"], "server::telemetry::lines::tests");
    }

    #[test]
    fn a_line_is_short_whatever_is_put_into_it() {
        let long = "ä\u{1b}".repeat(1 << 20);
        for format in [LogFormat::Text, LogFormat::Json] {
            let (said, _) = lines(format, || {
                tracing::warn!(a = %long, b = ?long, c = long, d = %long, e = long, "say {long}");
            });
            assert!(said[0].len() < MOST_LINE * 2, "{}", said[0].len());
            assert!(said[0].contains("bytes cut"), "{}", said[0]);
        }
    }

    #[test]
    fn a_flood_is_left_out_counted_and_told_of() {
        let (text, said) = lines(LogFormat::Text, || {
            for n in 0..100_000 {
                tracing::warn!(n, "again");
            }
            for n in 0..1_000 {
                tracing::debug!(n, "in detail");
            }
            tracing::error!("something else");
        });
        let counts = said.lines();
        assert_eq!((counts[0].1, counts[3].1), (1, 1_000));
        assert!(counts[1].1 < 100, "{counts:?}");
        assert_eq!(counts[1].1 + said.left_out(), 100_000);
        assert_eq!(text.len() as u64, 1_001 + counts[1].1);
        let later = Instant::now() + std::time::Duration::from_secs(60);
        let told = said.overdue(LogFormat::Text, later);
        assert!(
            told.len() == 1 && told[0].contains("were left out"),
            "{told:?}"
        );
    }
}
