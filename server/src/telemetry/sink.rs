//! The way of lines to standard error: a bounded queue, and a thread that writes. Must never hold up
//! whoever logs, nor fail because nobody reads: a line that cannot be written is counted.

use std::io::{self, ErrorKind, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// Says what is due, when nothing else has been said for a while or much has.
pub(super) type Due = Box<dyn FnMut(Instant) -> Vec<String> + Send>;

/// What became of lines, in this process.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// They could not be written, or there was no room.
    pub(super) lost: AtomicU64,
}

/// Where lines go.
#[derive(Debug, Default)]
pub(super) struct Sink {
    queue: OnceLock<SyncSender<Item>>,
    pub(super) counts: Counts,
}

enum Item {
    Line(String),
    /// All lines before it have been written, or given up.
    Mark(SyncSender<()>),
}

impl Sink {
    /// Starts the thread that writes; `notice` makes a line of this process's own.
    pub(super) fn start(
        &'static self,
        out: impl Write + Send + 'static,
        notice: fn(&str) -> String,
        due: Due,
    ) {
        let (sender, receiver) = sync_channel(QUEUE);
        if self.queue.set(sender).is_err() {
            return;
        }
        let writer = Writer {
            out,
            counts: &self.counts,
            notice,
            told: 0,
            is_torn: false,
        };
        // Without the thread the queue fills up, and what does not fit is counted.
        let _ = thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run(&receiver, due));
    }

    /// Hands a line over, which ends with a newline.
    pub(super) fn put(&self, line: String) {
        let sent = self
            .queue
            .get()
            .map(|queue| queue.try_send(Item::Line(line)));
        if !matches!(sent, Some(Ok(()))) {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until what was handed over has been written, but not for long.
    pub(super) fn flush(&self, limit: Duration) {
        let Some(queue) = self.queue.get() else {
            return;
        };
        let until = Instant::now() + limit;
        let (done, is_done) = sync_channel(1);
        let mut mark = Item::Mark(done);
        while Instant::now() < until {
            match queue.try_send(mark) {
                Ok(()) => {
                    let _ = is_done.recv_timeout(until.saturating_duration_since(Instant::now()));
                    return;
                }
                Err(TrySendError::Full(back)) => mark = back,
                Err(TrySendError::Disconnected(_)) => return,
            }
            thread::sleep(PAUSE);
        }
    }
}

struct Writer<W> {
    out: W,
    counts: &'static Counts,
    notice: fn(&str) -> String,
    /// Lost lines that have been told of.
    told: u64,
    /// A line was begun and not finished.
    is_torn: bool,
}

impl<W: Write> Writer<W> {
    fn run(mut self, lines: &Receiver<Item>, mut due: Due) {
        let mut looked = Instant::now();
        loop {
            match lines.recv_timeout(LOOK) {
                Ok(Item::Line(line)) => self.line(&line),
                Ok(Item::Mark(done)) => {
                    let _ = done.try_send(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            if now.saturating_duration_since(looked) >= LOOK {
                looked = now;
                for line in due(now) {
                    self.line(&line);
                }
            }
        }
    }

    /// Writes it, or counts it; tells of those that could not be written once one can.
    fn line(&mut self, line: &str) {
        if self.write(line).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let lost = self.counts.lost.load(Ordering::Relaxed);
        if lost > self.told {
            let more = lost - self.told;
            let text = (self.notice)(&format!("{more} lines of the log could not be written"));
            if self.write(&text).is_ok() {
                self.told = lost;
            }
        }
    }

    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.is_torn {
            self.all(b"\n")?;
            self.is_torn = false;
        }
        self.all(line.as_bytes())
    }

    /// A pipe that is full and does not wait is given a moment.
    fn all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let until = Instant::now() + PATIENCE;
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = bytes.get(written..).unwrap_or_default();
                    self.is_torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < until => {
                    thread::sleep(PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Lines that wait to be written.
const QUEUE: usize = 1_024;
/// How often is looked for lines that are due.
const LOOK: Duration = Duration::from_secs(1);
/// How long a full pipe is waited for, line by line, and how often is tried.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// Fails, or takes a few bytes, as it is told; what it took goes out.
    struct Odd {
        taken: Sender<Vec<u8>>,
        script: Vec<Result<usize, ErrorKind>>,
    }

    impl Write for Odd {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let next = self.script.pop().unwrap_or(Ok(usize::MAX));
            let taken = next.map_err(io::Error::from)?.min(bytes.len());
            let _ = self.taken.send(bytes[..taken].to_vec());
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn notice(text: &str) -> String {
        format!("NOTICE {text}\n")
    }

    fn sink() -> &'static Sink {
        Box::leak(Box::default())
    }

    fn written(script: &[Result<usize, ErrorKind>], lines: &[&str]) -> (String, u64) {
        let (taken, wrote) = channel();
        let script = script.iter().rev().copied().collect();
        let sink = sink();
        sink.start(Odd { taken, script }, notice, Box::new(|_| Vec::new()));
        for line in lines {
            sink.put((*line).to_owned());
        }
        sink.flush(Duration::from_secs(60));
        let bytes: Vec<u8> = wrote.try_iter().flatten().collect();
        let lost = sink.counts.lost.load(Ordering::Relaxed);
        (String::from_utf8(bytes).unwrap(), lost)
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_told_of_once_one_can() {
        let gone = Err(ErrorKind::BrokenPipe);
        assert_eq!(
            written(
                &[gone, Err(ErrorKind::StorageFull)],
                &["a\n", "b\n", "c\n", "d\n"]
            ),
            (
                "c\nNOTICE 2 lines of the log could not be written\nd\n".to_owned(),
                2
            )
        );
        let busy = Err(ErrorKind::WouldBlock);
        let odd = [Ok(1), busy, busy, Err(ErrorKind::Interrupted), Ok(2)];
        assert_eq!(written(&odd, &["abcdef\n"]), ("abcdef\n".to_owned(), 0));
        // What was begun does not run into the next line.
        let (text, lost) = written(&[Ok(2), gone], &["abcdef\n", "next\n"]);
        let expected = "ab\nnext\nNOTICE 1 lines of the log could not be written\n";
        assert_eq!((text.as_str(), lost), (expected, 1));
    }

    #[test]
    fn nobody_waits_for_a_reader_who_does_not_read() {
        /// Never comes back.
        struct Stuck(Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(0)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (_keep, never) = channel();
        let sink = sink();
        sink.start(Stuck(never), notice, Box::new(|_| Vec::new()));
        let begun = Instant::now();
        for _ in 0..QUEUE * 2 {
            sink.put("line\n".to_owned());
        }
        sink.flush(Duration::from_millis(50));
        assert!(begun.elapsed() < Duration::from_secs(10));
        let lost = sink.counts.lost.load(Ordering::Relaxed) as usize;
        assert!((QUEUE - 1..=QUEUE).contains(&lost), "{lost}");
    }

    #[test]
    fn what_is_due_is_said_though_nobody_logs() {
        let (taken, wrote) = channel();
        let odd = Odd {
            taken,
            script: Vec::new(),
        };
        sink().start(odd, notice, Box::new(|_| vec!["due\n".to_owned()]));
        let said = wrote.recv_timeout(LOOK * 4).unwrap();
        assert_eq!(said, b"due\n");
    }
}
