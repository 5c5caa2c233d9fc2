//! Compares what two running nodes really hold on their disks, block by block and file by file,
//! as each of them reads it. Must never know more of the product than the answer of
//! `/api/v1/digest`.

use serde_json::Value;

use crate::http::Http;

/// Waits until both nodes say the same of the log up to one LSN and of one set of Parquet files,
/// and neither finds anything wrong with its own.
///
/// # Panics
/// When they do not in time; the last difference is in the message.
pub fn equal(primary: &Http, secondary: &Http) {
    crate::eventually("equal digests", || compare(primary, secondary));
}

fn compare(primary: &Http, secondary: &Http) -> Result<(), String> {
    let mine = ask(primary, "")?;
    let query = format!(
        "?upto={}&compacted={}&next={}",
        mine["upto"]["lsn"], mine["mark"]["compacted"], mine["mark"]["next"]
    );
    let theirs = ask(secondary, &query)?;
    for part in ["log", "epoch", "upto", "mark", "partitions"] {
        if mine[part] != theirs[part] {
            return Err(format!("{part}: {} and {}", mine[part], theirs[part]));
        }
    }
    let (mine, theirs) = (list(&mine, "ranges"), list(&theirs, "ranges"));
    // One of them may hold more of the beginning.
    let oldest = |ranges: &[Value]| ranges.first().and_then(|range| range["first"].as_u64());
    let from = oldest(&mine).max(oldest(&theirs));
    let held = |ranges: Vec<Value>| -> Vec<Value> {
        let held = |range: &Value| range["first"].as_u64() >= from;
        ranges.into_iter().filter(held).collect()
    };
    let (mine, theirs) = (held(mine), held(theirs));
    if mine == theirs {
        Ok(())
    } else {
        Err(format!("ranges: {mine:?} and {theirs:?}"))
    }
}

fn ask(node: &Http, query: &str) -> Result<Value, String> {
    let answer = node.get(&format!("/api/v1/digest{query}"));
    if answer.status != 200 {
        return Err(answer.body);
    }
    let digest = answer.json();
    for part in ["ranges", "partitions"] {
        let fault = list(&digest, part)
            .into_iter()
            .find(|one| !one["fault"].is_null());
        if let Some(fault) = fault {
            return Err(format!("{}: {fault}", node.url()));
        }
    }
    Ok(digest)
}

fn list(digest: &Value, part: &str) -> Vec<Value> {
    digest[part].as_array().cloned().unwrap_or_default()
}
