//! A sealed segment whose header or index cannot be read: both follow from the blocks, and are written
//! again where all of these are sound; else as much of it is served as can be told apart. It must
//! never write what the blocks and their neighbours do not prove.

use std::path::Path;

use bytes::Bytes;

use crate::bytes::FORMAT_VERSION;
use crate::error::WalError;
use crate::format::block::BlockHeader;
use crate::format::catalog::Catalog;
use crate::format::segment::{SegmentFooter, SegmentHeader};
use crate::ids::{Boundary, Lsn};
use crate::open::loading::Loading;
use crate::open::recovery::{OnDamage, scan_active};
use crate::paths::FETCHED_NEW;
use crate::read::sealed::Sealed;

impl Loading {
    /// The segment that cannot be opened for this reason, as far as there is one; `next` is where the
    /// one after begins.
    pub(super) fn unsound(
        &mut self,
        path: &Path,
        first: Lsn,
        next: Boundary,
        error: &WalError,
    ) -> Result<Sealed, WalError> {
        let end = self.end_before(next);
        if let Some(bytes) = self.reframed(path, first, end)? {
            let new = self.dir.join(FETCHED_NEW);
            self.disk.replace(&new, path, &bytes)?;
            self.mended += 1;
            return Sealed::open(&self.home, first, self.id, &self.damage, &self.catalog);
        }
        let reason = error.to_string();
        let known = (&self.catalog, reason.as_str());
        let found = Sealed::without_index(&self.home, first, (self.id, end), &self.damage, known);
        match found {
            Err(error) if error.may_pass() => Err(error),
            Ok(segment) if self.continues(&segment) => Ok(segment),
            Ok(_) | Err(_) => {
                let hole = self.hole(path, first, next, reason);
                Ok(hole.with_index(self.disk.as_ref()))
            }
        }
    }

    fn continues(&self, segment: &Sealed) -> bool {
        let header = segment.header.as_ref();
        header.is_some_and(|header| self.check_start(&segment.path, header).is_ok())
    }

    /// What the whole file must be, if its blocks are all there and meet their neighbours.
    fn reframed(
        &self,
        path: &Path,
        first: Lsn,
        end: Boundary,
    ) -> Result<Option<Vec<u8>>, WalError> {
        let bytes = match self.disk.read_file(path) {
            Ok(bytes) => bytes,
            Err(error) if error.may_pass() => return Err(error),
            Err(_) => return Ok(None),
        };
        Ok(self.framed(&path.display().to_string(), &bytes, first, end))
    }

    fn framed(&self, file: &str, bytes: &Bytes, first: Lsn, end: Boundary) -> Option<Vec<u8>> {
        let (header, head) = match SegmentHeader::decode(file, bytes) {
            Ok((header, len)) => (header, bytes.get(..len)?.to_vec()),
            Err(WalError::Corrupt { .. }) => {
                let (header, head) = self.known_header(first)?;
                let block = BlockHeader::decode(bytes.get(head.len()..)?).ok()?;
                // Older versions have written other headers.
                let is_ours = block.format == FORMAT_VERSION && self.tip == block.start().into();
                is_ours.then_some((header, head))?
            }
            Err(_) => return None,
        };
        self.check_start(file, &header).ok()?;
        let mut catalog = Catalog::of_head(&header.tables, &self.catalog).ok()?;
        let start = header.start;
        let cut = OnDamage::Cut;
        let found = scan_active(file, bytes, head.len(), start, &mut catalog, cut).ok()?;
        if !found.sealed || !end.may_be(found.tip) {
            return None;
        }
        let footer = SegmentFooter {
            end: found.tip,
            committed_at: found.committed_at?,
            entries: found.blocks.iter().map(|block| block.entry).collect(),
        };
        let blocks = bytes.get(head.len()..usize::try_from(found.end).ok()?)?;
        Some([&head, blocks, &footer.encode(found.end)].concat())
    }
}
