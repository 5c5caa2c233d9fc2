//! Where the bytes of a Parquet file go: hashed chunk by chunk, written at a bounded rate, durable
//! at the end. Knows no Parquet. It must never know what Parquet is.

use std::fmt;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::bytes::checksum;
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::parquet::meta::CHUNK;
use crate::room::Room;

/// Bounds how fast compaction reads and writes, over all its files.
pub(crate) struct Throttle {
    /// Bytes per second; 0: no limit.
    rate: u64,
    free_at: Mutex<Option<Instant>>,
    ends: Box<dyn Fn() -> bool + Send + Sync>,
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("rate", &self.rate)
            .finish_non_exhaustive()
    }
}

impl Throttle {
    /// `ends` says that nobody should wait any more.
    pub(crate) fn new(rate: u64, ends: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            rate,
            free_at: Mutex::new(None),
            ends: Box::new(ends),
        }
    }

    /// No limit.
    pub(crate) fn off() -> Self {
        Self::new(0, || false)
    }

    /// Returns when `bytes` more may be read or written, however long that takes.
    ///
    /// # Errors
    /// When it is to end before.
    pub(crate) fn spend(&self, bytes: usize) -> io::Result<()> {
        if self.rate == 0 {
            return Ok(());
        }
        let free_at = {
            let mut held = self
                .free_at
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let free_at = next_free(*held, Instant::now(), bytes, self.rate);
            *held = Some(free_at);
            free_at
        };
        loop {
            if (self.ends)() {
                return Err(io::Error::other("compaction ends"));
            }
            let left = free_at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::park_timeout(left.min(LOOK));
        }
    }
}

/// When so many more bytes may pass, of which none has passed before its time.
fn next_free(held: Option<Instant>, now: Instant, bytes: usize, rate: u64) -> Instant {
    let share = Duration::from_secs_f64(bytes as f64 / rate as f64);
    held.map_or(now, |held| held.max(now)) + share
}

/// A file that has been written.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    pub(crate) chunks: Vec<u64>,
}

/// A file being written.
#[derive(Debug)]
pub(crate) struct Sink<'a> {
    file: Box<dyn DiskFile>,
    buffer: Vec<u8>,
    written: Written,
    throttle: &'a Throttle,
    room: &'a Room,
}

impl<'a> Sink<'a> {
    /// Begins the file, over whatever a step that was cut short left under its name.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        throttle: &'a Throttle,
        room: &'a Room,
    ) -> Result<Self, WalError> {
        Ok(Self {
            file: disk.create_anew(path)?,
            buffer: Vec::with_capacity(CHUNK),
            written: Written {
                bytes: 0,
                chunks: Vec::new(),
            },
            throttle,
            room,
        })
    }

    /// Writes what is left; durable once this returns, but for the name.
    pub(crate) fn finish(mut self) -> io::Result<Written> {
        self.chunk()?;
        self.file.sync()?;
        Ok(self.written)
    }

    fn chunk(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.throttle.spend(self.buffer.len())?;
        self.room.refuse(self.buffer.len() as u64)?;
        self.file.write_at(self.written.bytes, &self.buffer)?;
        self.written.chunks.push(checksum(&self.buffer));
        self.written.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(CHUNK - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..len]);
        if self.buffer.len() == CHUNK {
            self.chunk()?;
        }
        Ok(len)
    }

    /// Nothing: chunks are whole but for the last.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How often whoever waits looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_rate_is_held_at_every_moment() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            let rate = 1 << random.u32(0..36);
            let begun = Instant::now();
            let (mut now, mut free_at, mut passed) = (begun, None, 0_usize);
            for _ in 0..100 {
                // Work of its own between two turns, sometimes.
                now += Duration::from_millis(random.u64(0..20)) * random.u32(0..2);
                let bytes = random.usize(1..=CHUNK);
                let next = next_free(free_at, now, bytes, rate);
                (free_at, now, passed) = (Some(next), now.max(next), passed + bytes);
                let most = (now - begun).as_secs_f64() * rate as f64;
                assert!(
                    passed as f64 <= most * 1.000_001 + rate as f64 / 1e6 + 1.0,
                    "{passed} of {most} at {rate}"
                );
            }
        }
    }

    #[test]
    fn a_rate_of_next_to_nothing_does_not_delay_an_end() {
        let throttle = Throttle::new(1, || true);
        assert!(throttle.spend(CHUNK).is_err());
        assert!(Throttle::off().spend(usize::MAX).is_ok());
    }
}
