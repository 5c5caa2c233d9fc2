//! Many connections behind one `epoll`, driven by one thread. Must never know a rate or a
//! measuring interval.

use std::io::ErrorKind;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use crate::error::{BenchError, Context};
use crate::load::conn::{Conn, Samples};

/// The connections of one thread.
#[derive(Debug)]
pub struct Fleet {
    /// Times from send to PUBACK, over all connections.
    pub samples: Samples,
    poll: Poll,
    events: Events,
    conns: Vec<Conn>,
    buffer: Box<[u8]>,
    cursor: usize,
    issued: u64,
    acked: u64,
}

impl Fleet {
    /// Registers the connections; one message in `sample_every` per connection is timed.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn new(mut conns: Vec<Conn>, sample_every: u64) -> Result<Self, BenchError> {
        let poll = Poll::new().context("open an epoll")?;
        for (index, conn) in conns.iter_mut().enumerate() {
            // Edge-triggered, so both interests are registered once and for all.
            poll.registry()
                .register(
                    &mut conn.stream,
                    Token(index),
                    Interest::READABLE | Interest::WRITABLE,
                )
                .context("register a socket")?;
        }
        Ok(Self {
            samples: Samples {
                every: sample_every,
                ..Samples::default()
            },
            poll,
            events: Events::with_capacity(EVENTS),
            conns,
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            cursor: 0,
            issued: 0,
            acked: 0,
        })
    }

    /// Messages sent or waiting in a ring.
    pub fn issued(&self) -> u64 {
        self.issued
    }

    /// Messages acknowledged, in order on each connection.
    pub fn acked(&self) -> u64 {
        self.acked
    }

    /// Messages not acknowledged yet.
    pub fn in_flight(&self) -> u64 {
        self.issued - self.acked
    }

    /// Sends up to `count` messages, the same number on each connection as far as its window
    /// allows: how many there were.
    ///
    /// # Errors
    /// When a connection is broken.
    pub fn publish(&mut self, count: u64) -> Result<u64, BenchError> {
        let share = count.div_ceil(self.conns.len().max(1) as u64);
        let mut left = count;
        for _ in 0..self.conns.len() {
            if left == 0 {
                break;
            }
            let count = self.conns.len();
            let conn = &mut self.conns[self.cursor];
            self.cursor = (self.cursor + 1) % count;
            let now = conn.credit().min(share).min(left);
            if now > 0 {
                conn.fill(now, self.samples.every);
                conn.flush()?;
                left -= now;
            }
        }
        self.issued += count - left;
        Ok(count - left)
    }

    /// Waits for the server, takes its acknowledgements, and replaces each acknowledged message by
    /// a new one while `budget` lasts.
    ///
    /// # Errors
    /// When a connection is broken or the server acknowledges out of order.
    pub fn serve(&mut self, timeout: Duration, budget: &mut u64) -> Result<(), BenchError> {
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result.context("wait for the server")?,
        }
        for event in &self.events {
            let conn = &mut self.conns[event.token().0];
            let closing = event.is_read_closed() || event.is_error();
            if event.is_readable() || closing {
                self.acked += conn.receive(&mut self.buffer, &mut self.samples, closing)?;
            }
            let now = conn.credit().min(*budget);
            if now > 0 {
                conn.fill(now, self.samples.every);
                self.issued += now;
                *budget -= now;
            }
            conn.flush()?;
        }
        Ok(())
    }
}

/// Room for 16,000 acknowledgements: more than any window.
const READ_BUFFER: usize = 64 * 1024;

const EVENTS: usize = 1024;
