//! What a node vouches for itself with its certificate's key: how much of a log is on its disk. It
//! owns the bytes that are signed, and must never sign or believe any.

use bincode::{Decode, Encode};
use wal::{LogId, Lsn, Position};

/// A node's certificate, for the statements that come after it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct NodeCertificate {
    /// X.509, DER; at most [`MAX_CERTIFICATE`] bytes.
    pub der: Vec<u8>,
}

/// One node's word, signed by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Statement {
    /// FNV-1a, 64 bits, of the node's certificate.
    pub node: u64,
    /// Everything below is on its disk.
    pub flushed: u64,
    /// Chain value there.
    pub chain: u64,
    /// The primary's clock, as the node last heard of it.
    pub heard_ns: i64,
    /// How it is signed: TLS's number of the signature scheme.
    pub scheme: u16,
    /// At most [`MAX_SIGNATURE`] bytes.
    pub signature: Vec<u8>,
}

/// What nodes vouch for: the sender, and those behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Statements {
    /// At most [`MAX_STATEMENTS`] of them.
    pub nodes: Vec<Statement>,
}

impl Statement {
    /// Whether it is as short as any may be.
    pub(crate) fn is_short(&self) -> bool {
        self.signature.len() <= MAX_SIGNATURE
    }

    /// Where the log ends on that node's disk.
    pub(crate) fn lsn(&self) -> Lsn {
        Lsn(self.flushed)
    }

    /// The bytes that its signature is of.
    pub(crate) fn signed(&self, log: LogId) -> Vec<u8> {
        let position = Position {
            lsn: self.lsn(),
            chain: wal::Chain(self.chain),
        };
        to_sign(log, position, self.heard_ns)
    }
}

/// The bytes that say that a log is on the signer's disk up to there.
pub(crate) fn to_sign(log: LogId, flushed: Position, heard_ns: i64) -> Vec<u8> {
    let mut bytes = WHAT.to_vec();
    bytes.extend_from_slice(&log.0);
    bytes.extend_from_slice(&flushed.lsn.0.to_le_bytes());
    bytes.extend_from_slice(&flushed.chain.0.to_le_bytes());
    bytes.extend_from_slice(&heard_ns.to_le_bytes());
    bytes
}

/// FNV-1a, 64 bits: tells nodes apart by eight bytes, alike on every node.
pub(crate) fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Tells this signature from every other that is made with the same key.
const WHAT: &[u8] = b"headwater: this much of the log is on my disk\0";

/// Longest certificate and signature that are taken, in bytes.
pub const MAX_CERTIFICATE: usize = 2_048;

/// See [`MAX_CERTIFICATE`].
pub const MAX_SIGNATURE: usize = 512;

/// Most statements in one message: nobody waits for more copies.
pub const MAX_STATEMENTS: usize = 8;

/// Most certificates on one connection.
pub const MAX_CERTIFICATES: usize = 64;
