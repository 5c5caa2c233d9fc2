//! How much of a table is kept that may take so many bytes: where it takes more, its oldest rows go.
//! Pure: what is stored comes in. It must never let go of the newest piece.

/// A file, or a block that is in none yet: the time of its newest row, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) newest: i64,
    pub(crate) bytes: u64,
}

/// The time before which rows go, so that what stays takes about three quarters of `limit`; none
/// while there is room.
pub(crate) fn cut(mut pieces: Vec<Piece>, limit: u64) -> Option<i64> {
    let all = pieces.iter().map(|piece| piece.bytes);
    if all.fold(0, u64::saturating_add) <= limit {
        return None;
    }
    pieces.sort_by_key(|piece| std::cmp::Reverse(piece.newest));
    let newest = pieces.first()?.newest;
    // Not at once again with the next row.
    let most = limit - limit / 4;
    let mut kept = 0_u64;
    let gone = pieces.iter().find(|piece| {
        kept = kept.saturating_add(piece.bytes);
        kept > most && piece.newest < newest
    })?;
    Some(gone.newest.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(of: &[(i64, u64)]) -> Vec<Piece> {
        let piece = |&(newest, bytes)| Piece { newest, bytes };
        of.iter().map(piece).collect()
    }

    #[test]
    fn the_oldest_go_until_three_quarters_are_left() {
        let held = [(5, 30), (1, 30), (4, 30), (2, 30), (3, 30)];
        assert_eq!(cut(pieces(&held), 150), None);
        // 5, 4 and 3 stay.
        assert_eq!(cut(pieces(&held), 149), Some(3));
        assert_eq!(cut(pieces(&held), 100), Some(4));
        assert_eq!(cut(pieces(&held), 1), Some(5));
        assert_eq!(cut(Vec::new(), 0), None);
    }

    #[test]
    fn the_newest_stays_however_large() {
        assert_eq!(cut(pieces(&[(9, 1_000)]), 10), None);
        assert_eq!(cut(pieces(&[(9, 1_000), (9, 1_000)]), 10), None);
        assert_eq!(cut(pieces(&[(9, 1_000), (8, 1)]), 10), Some(9));
        assert_eq!(cut(pieces(&[(i64::MAX, 1), (3, u64::MAX)]), 10), Some(4));
    }
}
