//! What a node's disk really holds, range by range and partition by partition: the body of
//! `/api/v1/digest` as the command line reads it. Must never judge: whoever compares two does.

use serde::Deserialize;

/// One node's answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Digest {
    /// 32 hexadecimal digits.
    pub(crate) log: String,
    pub(crate) epoch: u64,
    pub(crate) upto: End,
    /// The oldest LSN that is still in a segment.
    pub(crate) oldest: u64,
    pub(crate) mark: Mark,
    pub(crate) ranges: Vec<Range>,
    pub(crate) partitions: Vec<Partition>,
}

/// Where what was read ends; `chain` covers everything before.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct End {
    pub(crate) lsn: u64,
    /// 16 hexadecimal digits, as all that is compared.
    pub(crate) chain: String,
}

/// Which Parquet files were read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Mark {
    /// Everything below is in files.
    pub(crate) compacted: u64,
    /// Ordinal of the next file.
    pub(crate) next: u64,
    pub(crate) digest: String,
}

/// A segment, or what of the active one was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) end: u64,
    pub(crate) chain: String,
    /// What is wrong with it on its own.
    pub(crate) fault: Option<String>,
}

/// The Parquet files of one table and time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Partition {
    pub(crate) table: String,
    pub(crate) partition: String,
    pub(crate) files: u64,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    pub(crate) digest: String,
    /// What is wrong with them on their own.
    pub(crate) fault: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_answers_is_read() {
        let digest: Digest = serde_json::from_str(
            r#"{"log": "abab", "epoch": 2, "upto": {"lsn": 9, "chain": "000000000000001f"},
            "oldest": 4, "mark": {"compacted": 5, "next": 3, "digest": "ffffffffffffffff"},
            "ranges": [{"first": 4, "end": 9, "chain": "000000000000001f", "fault": null}],
            "partitions": [{"table": "plant", "partition": "2026-11-21T00:00:00Z/1d", "files": 1,
            "rows": 5, "bytes": 700, "digest": "0000000000000007", "fault": "odd"}]}"#,
        )
        .unwrap();
        assert_eq!((digest.upto.lsn, digest.mark.next), (9, 3));
        assert_eq!(digest.ranges[0].fault, None);
        assert_eq!(digest.partitions[0].fault.as_deref(), Some("odd"));
    }
}
