//! The most memory and open files a process had while it was watched. Looks at `/proc` ten
//! times a second on a thread of its own; must never signal it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::BenchError;
use crate::machine;

/// The highest numbers seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peak {
    /// Memory of its own in bytes, mapped files not included.
    pub own: u64,
    /// Resident memory in bytes, mapped files included.
    pub resident: u64,
    /// Open files, sockets included.
    pub files: u64,
}

impl Peak {
    fn look(&mut self, pid: u32) -> Result<(), BenchError> {
        self.own = self.own.max(machine::memory(pid, "RssAnon")?);
        self.resident = self.resident.max(machine::memory(pid, "VmRSS")?);
        self.files = self.files.max(machine::open_files(pid)?);
        Ok(())
    }
}

/// A process that is being watched.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Peak, BenchError>>>,
}

impl Watch {
    /// Looks at a process from now on.
    pub fn start(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut peak = Peak::default();
            loop {
                peak.look(pid)?;
                if stopped.load(Ordering::Relaxed) {
                    return Ok(peak);
                }
                thread::park_timeout(LOOK_EVERY);
            }
        });
        Self {
            stop,
            thread: Some(thread),
        }
    }

    /// Looks once more: the highest numbers of all looks.
    ///
    /// # Errors
    /// When the process has ended.
    pub fn finish(mut self) -> Result<Peak, BenchError> {
        let panicked = || BenchError::Invalid("the watching thread panicked".to_owned());
        let thread = self.thread.take().ok_or_else(panicked)?;
        self.stop.store(true, Ordering::Relaxed);
        thread.thread().unpark();
        thread.join().map_err(|_| panicked())?
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_lives_has_memory_and_files() {
        let peak = Watch::start(std::process::id()).finish().unwrap();
        assert!(peak.own > 0 && peak.resident > 0 && peak.files > 2);
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(Watch::start(u32::MAX).finish().is_err());
    }
}
