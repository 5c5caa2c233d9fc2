//! Signals as one stream of requests to the process. Must never stop or reload anything itself; no
//! signal that means something else elsewhere may kill a node without a line.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for, with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Stop(&'static str),
    /// Take up what can be taken up while a node runs.
    Reload(&'static str),
    /// Nothing that this program knows.
    Nothing(&'static str),
}

/// The signals that a node hears. SIGPIPE is ignored by the runtime: a write fails instead.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
    /// Heard and never asked for: a write beyond the length that files may have fails instead.
    _file_size: Signal,
}

impl Signals {
    /// From here on none of them kills the process.
    ///
    /// # Errors
    /// When the operating system refuses a handler.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
            _file_size: signal(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    /// Waits for the next request.
    pub(crate) async fn next(&mut self) -> Request {
        tokio::select! {
            _ = self.terminate.recv() => Request::Stop("SIGTERM"),
            _ = self.interrupt.recv() => Request::Stop("SIGINT"),
            _ = self.hangup.recv() => Request::Reload("SIGHUP"),
            _ = self.user1.recv() => Request::Nothing("SIGUSR1"),
            _ = self.user2.recv() => Request::Nothing("SIGUSR2"),
        }
    }
}

/// On all that Linux runs on but MIPS.
const SIGXFSZ: i32 = 25;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn signals_that_ask_for_no_stop_are_heard_and_survived() {
        let mut signals = Signals::new().unwrap();
        let pid = std::process::id().to_string();
        for (name, request) in [
            ("HUP", Request::Reload("SIGHUP")),
            ("USR1", Request::Nothing("SIGUSR1")),
            ("USR2", Request::Nothing("SIGUSR2")),
        ] {
            let mut kill = std::process::Command::new("kill");
            let sent = kill.args(["-s", name, &pid]).status().unwrap();
            assert!(sent.success());
            assert_eq!(signals.next().await, request);
        }
    }
}
