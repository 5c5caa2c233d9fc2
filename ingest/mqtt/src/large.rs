//! Messages that take long to read are read on threads of their own: the worker of their connection
//! goes on with all others meanwhile. Owns these threads; must never let two messages of one
//! connection overtake each other, nor end with the message that made a reader panic.

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use futures::channel::oneshot;
use intake::Encoding;
use ntex::util::{ByteString, Bytes};
use wal::Appender;

use crate::allowance::Sender;
use crate::config::Config;
use crate::store::{Message, NotTaken, Stored, store};
use crate::told::Told;

/// A message that is read elsewhere. Each connection has one at most, so they need no other bound.
pub(crate) struct Job {
    /// The worker's: it learns when the rows are durable.
    pub(crate) appender: Arc<Mutex<Appender>>,
    pub(crate) client: Arc<str>,
    pub(crate) address: IpAddr,
    pub(crate) topic: ByteString,
    pub(crate) payload: Bytes,
    pub(crate) now: i64,
    pub(crate) answer: oneshot::Sender<Result<Stored, NotTaken>>,
}

/// Whether a message takes so long that others should not wait for it.
pub(crate) fn is_large(payload: &[u8]) -> bool {
    payload.len() >= LARGE || Encoding::of(payload) != Encoding::Plain
}

/// The way to the readers; they end once nobody has it any more.
#[derive(Clone, Debug)]
pub(crate) struct Readers {
    jobs: mpsc::Sender<Job>,
}

impl Readers {
    /// Starts them.
    pub(crate) fn start(config: &Arc<Config>, told: &Arc<Told>) -> std::io::Result<Self> {
        let (jobs, next) = mpsc::channel::<Job>();
        let next = Arc::new(Mutex::new(next));
        for _ in 0..READERS {
            let (config, told, next) = (Arc::clone(config), Arc::clone(told), Arc::clone(&next));
            let thread = std::thread::Builder::new().name("mqtt-large".to_owned());
            thread.spawn(move || {
                let watched = config.tasks.vital("mqtt-large");
                loop {
                    watched.step();
                    let next = next.lock().unwrap_or_else(PoisonError::into_inner);
                    let job = next.recv_timeout(LOOK_EVERY);
                    drop(next);
                    match job {
                        Ok(job) => run(job, &config, &told),
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => break,
                    }
                }
                watched.finish();
            })?;
        }
        Ok(Self { jobs })
    }

    /// Hands a message over; its answer comes where it says.
    pub(crate) fn hand_over(&self, job: Job) {
        // Where nobody takes it the answer is dropped with it.
        let _ = self.jobs.send(job);
    }
}

fn run(job: Job, config: &Config, told: &Told) {
    let answer = job.answer;
    let read = catch_unwind(AssertUnwindSafe(|| {
        let message = Message {
            sender: Sender {
                client: &job.client,
                address: job.address,
            },
            topic: &job.topic,
            payload: &job.payload,
            now: job.now,
        };
        let mut appender = job.appender.lock().unwrap_or_else(PoisonError::into_inner);
        store(&mut appender, &message, config.reading, &told.allowance)
    }));
    match read {
        Ok(stored) => {
            // Nobody waits for it any more: its connection is at its end.
            let _ = answer.send(stored);
        }
        Err(_) => tracing::error!("reading a message panicked: its connection ends"),
    }
}

/// Payloads from this length on are read elsewhere, and whatever is packed.
const LARGE: usize = 32 << 10;

/// Messages that are read elsewhere at once: what their rows take until they are handed over is
/// bounded by that.
const READERS: usize = 2;

/// How often a reader without work looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_or_packed_is_read_elsewhere() {
        assert!(!is_large(&[b'x'; LARGE - 1]) && is_large(&[b'x'; LARGE]));
        assert!(is_large(&[0x1f, 0x8b, 8, 0]) && is_large(&[0x28, 0xb5, 0x2f, 0xfd]));
    }
}
