//! Cuts the byte stream from the primary into runs of whole blocks. It owns the bytes of the block
//! that is still arriving and must never judge a block beyond the length its header tells: checks
//! belong to the log that takes them.
//!
//! Bytes are copied only when a run spans received pieces; its memory is bounded by one block and
//! what was pushed since runs were last taken.

use bytes::Bytes;
use wal::{BLOCK_HEADER_LEN, MAX_BLOCK_LEN, WalError};

use crate::wire::pieces::Pieces;

/// Why the stream cannot be cut into blocks.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AssembleError {
    /// The bytes where a block should begin are no block header.
    #[error("the stream holds no block where one should begin: {0}")]
    Header(#[source] WalError),
    /// The header announces a length that no block may have.
    #[error(
        "a block of {length} bytes is announced, but none is shorter than its header or longer than {limit}"
    )]
    Length {
        /// What the header says.
        length: usize,
        /// The format's limit.
        limit: usize,
    },
}

/// Assembles pieces of any size into runs of whole blocks.
#[derive(Debug, Default)]
pub struct Assembler {
    pieces: Pieces,
    /// Bytes at the front that are whole blocks.
    whole: usize,
    /// Length of the block that begins after them, once its header is here.
    arriving: Option<usize>,
}

impl Assembler {
    /// An assembler at a block boundary.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream.
    pub fn push(&mut self, piece: Bytes) {
        self.pieces.push(piece);
    }

    /// Bytes held.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.pieces.len()
    }

    /// The whole blocks in hand, at most `max_bytes` of them but at least one block; `None` until a
    /// whole one is there. After an error the stream is of no more use.
    ///
    /// # Errors
    /// When no block begins where one should, or it has a length that none may have.
    pub fn next_run(&mut self, max_bytes: usize) -> Result<Option<Bytes>, AssembleError> {
        self.cut(max_bytes, wal::block_len)
    }

    fn cut<F>(&mut self, max_bytes: usize, block_len: F) -> Result<Option<Bytes>, AssembleError>
    where
        F: Fn(&[u8]) -> Result<usize, WalError>,
    {
        match self.scan(max_bytes, block_len) {
            // What came before the bad place is good: it goes out first.
            Err(error) if self.whole == 0 => return Err(error),
            _ if self.whole == 0 => return Ok(None),
            _ => {}
        }
        let run = self.pieces.take(self.whole);
        self.whole = 0;
        Ok(Some(run))
    }

    fn scan<F>(&mut self, max_bytes: usize, block_len: F) -> Result<(), AssembleError>
    where
        F: Fn(&[u8]) -> Result<usize, WalError>,
    {
        let mut place = Place::default();
        place.skip(&self.pieces, self.whole);
        loop {
            let left = self.pieces.len() - self.whole;
            let length = match self.arriving {
                Some(length) => length,
                None if left < BLOCK_HEADER_LEN => return Ok(()),
                None => {
                    let mut header = [0; BLOCK_HEADER_LEN];
                    place.peek(&self.pieces, &mut header);
                    checked(block_len(&header))?
                }
            };
            self.arriving = Some(length);
            if left < length || (self.whole > 0 && self.whole + length > max_bytes) {
                return Ok(());
            }
            self.whole += length;
            self.arriving = None;
            place.skip(&self.pieces, length);
        }
    }
}

fn checked(length: Result<usize, WalError>) -> Result<usize, AssembleError> {
    let length = length.map_err(AssembleError::Header)?;
    if (BLOCK_HEADER_LEN..=MAX_BLOCK_LEN).contains(&length) {
        Ok(length)
    } else {
        Err(AssembleError::Length {
            length,
            limit: MAX_BLOCK_LEN,
        })
    }
}

/// A place in a sequence of pieces.
#[derive(Clone, Copy, Default)]
struct Place {
    piece: usize,
    offset: usize,
}

impl Place {
    /// Moves `bytes` on; there are that many.
    fn skip(&mut self, pieces: &Pieces, mut bytes: usize) {
        while let Some(piece) = pieces.get(self.piece) {
            let left = piece.len() - self.offset;
            if bytes < left {
                self.offset += bytes;
                return;
            }
            bytes -= left;
            self.piece += 1;
            self.offset = 0;
        }
    }

    /// Copies the bytes from here on into `into`; there are enough.
    fn peek(self, pieces: &Pieces, mut into: &mut [u8]) {
        let mut offset = self.offset;
        for piece in pieces.from(self.piece) {
            let rest = piece.get(offset..).unwrap_or_default();
            let part = rest.len().min(into.len());
            let (now, later) = into.split_at_mut(part);
            now.copy_from_slice(rest.split_at(part).0);
            into = later;
            offset = 0;
            if into.is_empty() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A toy header: the length in its first four bytes; 0 is what no log accepts.
    fn toy_len(header: &[u8]) -> Result<usize, WalError> {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        match usize::try_from(length) {
            Ok(0) | Err(_) => wal::block_len(&[0; BLOCK_HEADER_LEN]),
            Ok(length) => Ok(length),
        }
    }

    fn toy_block(length: usize, fill: u8) -> Vec<u8> {
        let mut block = vec![fill; length];
        block[..4].copy_from_slice(&u32::try_from(length).expect("small").to_le_bytes());
        block
    }

    fn drain(assembler: &mut Assembler, max_bytes: usize) -> Vec<Bytes> {
        let mut runs = Vec::new();
        while let Some(run) = assembler.cut(max_bytes, toy_len).expect("good blocks") {
            runs.push(run);
        }
        runs
    }

    /// Every run must be whole blocks, and within the limit unless it is one block.
    fn check_run(run: &[u8], max_bytes: usize) {
        let (mut at, mut blocks) = (0, 0);
        while at < run.len() {
            at += toy_len(&run[at..]).expect("a header");
            blocks += 1;
        }
        assert_eq!(at, run.len());
        assert!(run.len() <= max_bytes || blocks == 1, "{} bytes", run.len());
    }

    #[test]
    fn any_chunking_gives_the_same_bytes_in_whole_blocks() {
        for _ in 0..200 {
            let seed = fastrand::u64(..);
            println!("seed {seed}");
            let mut random = fastrand::Rng::with_seed(seed);
            let mut stream = Vec::new();
            for i in 0..random.usize(1..60) {
                let long = if random.u8(..) < 16 { 9_000 } else { 400 };
                let length = random.usize(BLOCK_HEADER_LEN..BLOCK_HEADER_LEN + long);
                stream.extend(toy_block(length, u8::try_from(i).expect("small")));
            }
            let max_bytes = random.usize(1..5_000);
            let (mut assembler, mut out) = (Assembler::new(), Vec::new());
            let mut rest = Bytes::from(stream.clone());
            while !rest.is_empty() {
                let most = if random.bool() { 7 } else { 2_000 };
                let piece = rest.split_to(random.usize(0..=most.min(rest.len())));
                assembler.push(piece);
                if random.bool() {
                    for run in drain(&mut assembler, max_bytes) {
                        check_run(&run, max_bytes);
                        out.extend_from_slice(&run);
                    }
                }
            }
            for run in drain(&mut assembler, max_bytes) {
                check_run(&run, max_bytes);
                out.extend_from_slice(&run);
            }
            assert_eq!(out, stream);
            assert_eq!(assembler.buffered(), 0);
        }
    }

    #[test]
    fn byte_by_byte() {
        let stream: Vec<u8> = [toy_block(88, 1), toy_block(100, 2), toy_block(89, 3)].concat();
        let mut assembler = Assembler::new();
        let mut runs = Vec::new();
        for byte in &stream {
            assembler.push(Bytes::copy_from_slice(&[*byte]));
            runs.extend(drain(&mut assembler, 1 << 20));
        }
        assert_eq!(
            runs.iter().map(Bytes::len).collect::<Vec<_>>(),
            [88, 100, 89]
        );
        assert_eq!(runs.concat(), stream);
    }

    #[test]
    fn whole_blocks_in_one_piece_are_not_copied() {
        let mut piece = [toy_block(90, 1), toy_block(91, 2)].concat();
        piece.extend(&toy_block(200, 3)[..150]);
        let piece = Bytes::from(piece);
        let mut assembler = Assembler::new();
        assembler.push(piece.clone());
        let runs = drain(&mut assembler, 1 << 20);
        assert_eq!(runs.len(), 1);
        assert_eq!(runs[0].as_ptr(), piece.as_ptr());
        assert_eq!(runs[0].len(), 181);
        assert_eq!(assembler.buffered(), 150);
    }

    #[test]
    fn what_stands_before_a_bad_header_comes_out_first() {
        let mut assembler = Assembler::new();
        assembler.push(Bytes::from(toy_block(120, 1)));
        assembler.push(Bytes::from(vec![0; BLOCK_HEADER_LEN]));
        let run = assembler.cut(1 << 20, toy_len).expect("the good block");
        assert_eq!(run.map(|run| run.len()), Some(120));
        assert!(matches!(
            assembler.cut(1 << 20, toy_len),
            Err(AssembleError::Header(_))
        ));
    }

    #[test]
    fn impossible_lengths_are_errors_before_a_byte_is_awaited() {
        for length in [1, BLOCK_HEADER_LEN - 1, MAX_BLOCK_LEN + 1] {
            let mut assembler = Assembler::new();
            let mut header = vec![0; BLOCK_HEADER_LEN];
            header[..4].copy_from_slice(&u32::try_from(length).expect("small").to_le_bytes());
            assembler.push(Bytes::from(header));
            let error = assembler
                .cut(1 << 20, toy_len)
                .expect_err("must be refused");
            assert!(matches!(error, AssembleError::Length { .. }), "{error}");
        }
    }

    #[test]
    fn random_bytes_never_panic() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..500 {
            let mut assembler = Assembler::new();
            for _ in 0..random.usize(0..6) {
                let mut piece = vec![0; random.usize(0..300)];
                random.fill(&mut piece);
                assembler.push(Bytes::from(piece));
                while let Ok(Some(_)) = assembler.next_run(random.usize(0..1000)) {}
            }
        }
    }
}
