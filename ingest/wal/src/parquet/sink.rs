//! Where the bytes of a Parquet file go: hashed chunk by chunk, written at a bounded rate, durable
//! at the end. Knows no Parquet. It must never know what Parquet is.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::bytes::checksum;
use crate::disk::{Disk, DiskFile};
use crate::error::WalError;
use crate::parquet::meta::CHUNK;

/// Bounds how fast compaction reads and writes, over all its files.
#[derive(Debug)]
pub(crate) struct Throttle {
    /// Bytes per second; 0: no limit.
    rate: u64,
    free_at: Mutex<Option<Instant>>,
}

impl Throttle {
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            rate,
            free_at: Mutex::new(None),
        }
    }

    /// Returns when `bytes` more may be read or written.
    pub(crate) fn spend(&self, bytes: usize) {
        if self.rate == 0 {
            return;
        }
        let now = Instant::now();
        let share = Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        let wait = {
            let mut free_at = self
                .free_at
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            let from = free_at.unwrap_or(now).max(now);
            *free_at = Some(from + share);
            from - now
        };
        std::thread::sleep(wait.min(LONGEST_WAIT));
    }
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
}

impl<'a> Sink<'a> {
    /// Begins the file, over whatever a step that was cut short left under its name.
    pub(crate) fn create(
        disk: &dyn Disk,
        path: &Path,
        throttle: &'a Throttle,
    ) -> Result<Self, WalError> {
        Ok(Self {
            file: disk.create_anew(path)?,
            buffer: Vec::with_capacity(CHUNK),
            written: Written {
                bytes: 0,
                chunks: Vec::new(),
            },
            throttle,
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
        self.throttle.spend(self.buffer.len());
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

/// A stop must not wait for a rate that is next to nothing.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
