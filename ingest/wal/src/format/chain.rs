//! Walks the blocks in a run of bytes and checks each against the chain. Pure; used by recovery and
//! by the follower, so that both accept exactly the same bytes. It must never step over a block
//! that does not continue the one before.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::error::WalError;
use crate::format::block::{BlockHeader, BlockKind, seed_of};
use crate::format::control::Control;
use crate::format::segment::BlockEntry;
use crate::ids::Position;
use crate::stored::Straight;

/// A block's header, its offset in the run and its body.
pub(crate) type Found<'a> = (BlockHeader, usize, &'a [u8]);

/// Iterates over whole, valid blocks that continue `tip`.
#[derive(Debug)]
pub(crate) struct BlockScan<'a> {
    bytes: &'a [u8],
    offset: usize,
    tip: Position,
    /// What its blocks are marked with, once the block that says so has been walked.
    seed: Option<u64>,
}

impl<'a> BlockScan<'a> {
    pub(crate) fn new(bytes: &'a [u8], tip: Position) -> Self {
        Self {
            bytes,
            offset: 0,
            tip,
            seed: None,
        }
    }

    /// Where the next block would start.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// The log's end after the blocks walked so far.
    pub(crate) fn tip(&self) -> Position {
        self.tip
    }

    /// The next block; `None` at the end of the bytes.
    pub(crate) fn next(&mut self) -> Result<Option<Found<'a>>, WalError> {
        let rest = self.bytes.get(self.offset..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(None);
        }
        let (header, body) = BlockHeader::decode_block(rest)?;
        if header.start() != self.tip {
            return Err(WalError::Diverged {
                at: self.tip.lsn,
                tip: self.tip,
                got_lsn: header.first_lsn,
                got_chain: header.prev,
            });
        }
        Control::of(&header, body)?;
        if header.kind == BlockKind::Secret {
            self.seed = Some(seed_of(body));
        }
        let offset = self.offset;
        self.offset += header.total_len();
        self.tip = header.end();
        Ok(Some((header, offset, body)))
    }

    /// What the segment's blocks are marked with; none: it does not say, or not yet.
    pub(crate) fn seed(&self) -> Option<u64> {
        self.seed
    }

    /// Whether what cannot be read here had been durable: something follows that was only written
    /// once it was. An unfinished write has nothing like that behind it. Where blocks lie is known
    /// from the lengths of those before; where that is lost, only a block that nobody could have
    /// made up is believed, for rows may hold any bytes.
    pub(crate) fn was_durable(&self) -> bool {
        let begun_behind = |header: &BlockHeader| header.group_lsn > self.tip.lsn;
        let (mut at, mut tip) = (self.offset, self.tip);
        loop {
            let rest = self.bytes.get(at..).unwrap_or_default();
            let header = match BlockHeader::decode(rest) {
                Ok(header) if header.start() == tip => header,
                _ => break,
            };
            if begun_behind(&header) {
                return true;
            }
            at += header.total_len();
            tip = header.end();
            if header.kind == BlockKind::Seal {
                // Behind it only a footer is ever written, once the seal is durable.
                let behind = self.bytes.get(at..).unwrap_or_default();
                return behind.iter().any(|byte| *byte != 0);
            }
        }
        let mut offsets = (at.next_multiple_of(8)..self.bytes.len()).step_by(8);
        offsets.any(|at| {
            let rest = self.bytes.get(at..).unwrap_or_default();
            BlockHeader::genuine(rest, self.seed).is_some_and(|header| begun_behind(&header))
        })
    }

    /// Steps over a block of which only the body is damaged, and which changes nothing of what
    /// later ones mean.
    pub(crate) fn skip_rows(&mut self) -> bool {
        let Ok(header) = BlockHeader::decode(self.bytes.get(self.offset..).unwrap_or_default())
        else {
            return false;
        };
        let end = self.offset + header.total_len();
        let may_go = matches!(header.kind, BlockKind::Data | BlockKind::Secret);
        if header.start() != self.tip || !may_go || end > self.bytes.len() {
            return false;
        }
        self.offset = end;
        self.tip = header.end();
        true
    }
}

/// What walking blocks by their index has found.
#[derive(Debug)]
pub(crate) struct Walked {
    /// The log's end after the blocks that are right, its chain computed from their bytes.
    pub(crate) tip: Position,
    /// Offset and reason of the first that is not.
    pub(crate) fault: Option<(u64, String)>,
    /// Why it could not go on, where that says nothing of the bytes.
    pub(crate) unread: Option<WalError>,
    /// It was told to stop before it was done.
    pub(crate) stopped: bool,
}

impl Walked {
    /// Nothing but this end.
    pub(crate) fn upto(tip: Position) -> Self {
        Self {
            tip,
            fault: None,
            unread: None,
            stopped: false,
        }
    }
}

/// Checks the blocks of an index in their file. `go_on` hears of the bytes of each before they are
/// read, and says whether to read them.
pub(crate) fn walk_index<'a>(
    file: &mut Straight<'_>,
    entries: impl Iterator<Item = &'a BlockEntry>,
    start: Position,
    go_on: &mut dyn FnMut(usize) -> bool,
) -> Walked {
    let mut walked = Walked::upto(start);
    for entry in entries {
        if !go_on(entry.len as usize) {
            walked.stopped = true;
            return walked;
        }
        let checked = match file.get(entry.offset, entry.len as usize) {
            Ok(block) => check_entry(block, entry, walked.tip),
            Err(WalError::Corrupt { reason, .. }) => Err(reason),
            Err(error) => {
                walked.unread = Some(error);
                return walked;
            }
        };
        match checked {
            Ok(end) => walked.tip = end,
            Err(reason) => {
                walked.fault = Some((entry.offset, reason));
                return walked;
            }
        }
    }
    walked
}

/// Where the log ends after the block of this entry, when it is right and continues `tip`.
fn check_entry(block: &[u8], entry: &BlockEntry, tip: Position) -> Result<Position, String> {
    let header = entry.check(block)?;
    if header.start() != tip {
        return Err(format!("continues {}, not {tip}", header.start()));
    }
    Ok(header.end())
}
