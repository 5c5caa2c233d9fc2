//! Answers on their way in fewer bytes. Owns the decision that an answer is large enough for that;
//! must never hold more than one piece of it.

use std::fmt;
use std::io::Write;

use flate2::write::GzEncoder;
use zstd::stream::write::Encoder as ZstdEncoder;

use crate::coding::Coding;
use crate::error::QueryError;

/// Codes one answer, if it is large enough.
pub(crate) struct Compressor {
    wanted: Option<Coding>,
    /// The beginning, until it is clear whether there is enough of it.
    held: Vec<u8>,
    writer: Option<Writer>,
}

enum Writer {
    Gzip(Box<GzEncoder<Vec<u8>>>),
    Zstd(Box<ZstdEncoder<'static, Vec<u8>>>),
}

impl Compressor {
    pub(crate) fn new(wanted: Option<Coding>) -> Self {
        Self {
            wanted,
            held: Vec::new(),
            writer: None,
        }
    }

    /// What the answer is coded with, once its first bytes have been given.
    pub(crate) fn coding(&self) -> Option<Coding> {
        self.writer.as_ref().map(|writer| match writer {
            Writer::Gzip(_) => Coding::Gzip,
            Writer::Zstd(_) => Coding::Zstd,
        })
    }

    /// Takes the next bytes; gives what can be sent.
    pub(crate) fn push(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, QueryError> {
        let Some(coding) = self.wanted else {
            return Ok(bytes);
        };
        if bytes.is_empty() {
            return Ok(bytes);
        }
        if let Some(writer) = &mut self.writer {
            return writer.write(&bytes).map_err(failed);
        }
        self.held.extend(bytes);
        if self.held.len() < WORTH_IT {
            return Ok(Vec::new());
        }
        let mut writer = Writer::new(coding).map_err(failed)?;
        let sent = writer.write(&std::mem::take(&mut self.held));
        self.writer = Some(writer);
        sent.map_err(failed)
    }

    /// Takes the last bytes, which may be none.
    pub(crate) fn finish(&mut self, bytes: Vec<u8>) -> Result<Vec<u8>, QueryError> {
        let mut sent = self.push(bytes)?;
        // The coding stays known for whoever asks after the end.
        match &mut self.writer {
            Some(writer) => sent.extend(writer.finish().map_err(failed)?),
            None => sent.append(&mut self.held),
        }
        Ok(sent)
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor")
            .field("wanted", &self.wanted)
            .finish_non_exhaustive()
    }
}

impl Writer {
    fn new(coding: Coding) -> std::io::Result<Self> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(Box::new(GzEncoder::new(
                Vec::new(),
                flate2::Compression::fast(),
            ))),
            Coding::Zstd => Self::Zstd(Box::new(ZstdEncoder::new(Vec::new(), ZSTD_LEVEL)?)),
        })
    }

    /// Flushed, so that readers see rows while there are more to come.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(writer) => {
                writer.write_all(bytes)?;
                writer.flush()?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Zstd(writer) => {
                writer.write_all(bytes)?;
                writer.flush()?;
                Ok(std::mem::take(writer.get_mut()))
            }
        }
    }

    fn finish(&mut self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Gzip(writer) => {
                writer.try_finish()?;
                Ok(std::mem::take(writer.get_mut()))
            }
            Self::Zstd(writer) => {
                writer.do_finish()?;
                Ok(std::mem::take(writer.get_mut()))
            }
        }
    }
}

fn failed(error: std::io::Error) -> QueryError {
    QueryError::Internal(format!("cannot compress the answer: {error}"))
}

/// Answers below this are sent as they are.
const WORTH_IT: usize = 1_024;
/// The fastest: an answer is compressed while somebody waits for it.
const ZSTD_LEVEL: i32 = 1;

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn coded(coding: Coding, pieces: &[&str]) -> (Option<Coding>, Vec<u8>) {
        let mut compressor = Compressor::new(Some(coding));
        let mut all = Vec::new();
        for piece in pieces {
            all.extend(compressor.push(piece.as_bytes().to_vec()).expect("bytes"));
        }
        all.extend(compressor.finish(Vec::new()).expect("an end"));
        (compressor.coding(), all)
    }

    #[test]
    fn large_answers_come_back_and_small_ones_are_left_alone() {
        let large = "a piece of the answer\n".repeat(100);
        let pieces = [large.as_str(), "short", large.as_str()];
        let expected = pieces.concat();
        let (coding, bytes) = coded(Coding::Gzip, &pieces);
        assert_eq!(coding, Some(Coding::Gzip));
        let mut text = String::new();
        let mut reader = flate2::read::GzDecoder::new(bytes.as_slice());
        reader.read_to_string(&mut text).expect("gzip");
        assert_eq!(text, expected);
        assert!(bytes.len() < expected.len() / 4);
        let (coding, bytes) = coded(Coding::Zstd, &pieces);
        assert_eq!(coding, Some(Coding::Zstd));
        let back = zstd::stream::decode_all(bytes.as_slice()).expect("zstd");
        assert_eq!(back, expected.as_bytes());
        let small = coded(Coding::Zstd, &["[]", "\n"]);
        assert_eq!(small, (None, b"[]\n".to_vec()));
    }
}
