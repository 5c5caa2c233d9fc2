//! What has come of the block stream and is not on the disk yet. It owns how much that may be: the
//! upstream sends more only as it goes on. It must never put into the log a byte that the log did
//! not check, nor leave one out.

use std::collections::VecDeque;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use wal::{Follower, Held, Lsn, Share};

use crate::follow::error::FollowError;
use crate::follow::state::FollowState;
use crate::wire::assembler::Assembler;
use crate::wire::unpack::Unpacker;

/// Blocks on their way into the log.
pub(crate) struct Inflow {
    unpacker: Unpacker,
    assembler: Assembler,
    /// Runs of blocks that the log has taken and not written, by where they end.
    written: VecDeque<(Lsn, usize)>,
    waiting: usize,
    /// Most bytes of these, unless one run is longer.
    most: usize,
    /// A block is taken however long it is: without it nothing goes on.
    held: Held,
}

impl Inflow {
    pub(crate) fn new(memory: &Share) -> Self {
        let most = usize::try_from(memory.limit() / 4).unwrap_or(usize::MAX);
        Self {
            unpacker: Unpacker::new(),
            assembler: Assembler::new(),
            written: VecDeque::new(),
            waiting: 0,
            most: most.clamp(RUN_BYTES, MOST_WAITING),
            held: memory.take_beyond(0),
        }
    }

    pub(crate) fn push(&mut self, piece: Bytes) {
        self.unpacker.push(piece);
    }

    /// Appends every whole block in hand. Little is unpacked at a time: packed bytes may become
    /// many. False: it was cut off, and what was not appended is of no more use.
    pub(crate) async fn append(
        &mut self,
        follower: &mut Follower,
        state: &FollowState,
        cut: &CancellationToken,
    ) -> Result<bool, FollowError> {
        while let Some(piece) = self.unpacker.next()? {
            self.assembler.push(piece);
            while self.assembler.buffered() < RUN_BYTES
                && let Some(more) = self.unpacker.next()?
            {
                self.assembler.push(more);
            }
            self.count(0);
            while let Some(run) = self.assembler.next_run(RUN_BYTES)? {
                let bytes = run.len();
                self.count(bytes);
                if !self.has_room(follower, bytes, cut).await? {
                    return Ok(false);
                }
                let tip = follower.append(run).await.map_err(FollowError::of_append)?;
                self.written.push_back((tip.lsn, bytes));
                self.waiting += bytes;
                state.received(tip.lsn);
            }
        }
        self.forget(follower.log().durable().borrow().lsn);
        self.count(0);
        Ok(true)
    }

    /// Waits until the log has written what it has taken, but for so much; false: it was cut off.
    async fn has_room(
        &mut self,
        follower: &Follower,
        bytes: usize,
        cut: &CancellationToken,
    ) -> Result<bool, FollowError> {
        let mut durable = follower.log().durable();
        loop {
            let end = durable.borrow_and_update().lsn;
            self.forget(end);
            if self.waiting == 0 || self.waiting + bytes <= self.most {
                return Ok(true);
            }
            tokio::select! {
                changed = durable.changed() => if changed.is_err() {
                    return Err(FollowError::LocalLog("it is closed".to_owned()));
                },
                reason = follower.log().until_failed() => return Err(FollowError::LocalLog(reason)),
                () = cut.cancelled() => return Ok(false),
            }
        }
    }

    /// What ends there, or before, is on the disk.
    fn forget(&mut self, durable: Lsn) {
        while let Some((end, bytes)) = self.written.front()
            && *end <= durable
        {
            self.waiting -= bytes;
            self.written.pop_front();
        }
    }

    /// Charges what is in hand, and so many bytes beside it.
    fn count(&mut self, beside: usize) {
        let bytes = self.unpacker.held() + self.assembler.buffered() + self.waiting + beside;
        self.held
            .resize_beyond(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

/// Most bytes appended in one step, unless one block is longer.
const RUN_BYTES: usize = 1 << 20;

/// Bytes that wait for the disk, however much memory there is.
const MOST_WAITING: usize = 16 << 20;
