//! A log that is not the primary's any more is cut where it left it; what lies behind is kept. No
//! row may go that is not in a file first: these tests must never look only at what the new log
//! holds.

use std::sync::Arc;

use super::*;

/// A primary that lost what a secondary has: it was put back to a copy of its directory, and wrote
/// other rows. The secondary may have compacted what was lost.
async fn restored(
    cluster: &Cluster,
    before: i64,
    lost: i64,
    compacted: bool,
) -> (Primary, Secondary) {
    let mut primary = cluster.primary("primary", None).await;
    let address = primary.address();
    primary.write(0..before).await;
    primary.stop().await;
    copy(&cluster.path("primary"), &cluster.path("backup"));
    let mut primary = cluster.primary("primary", Some(address)).await;
    let secondary = cluster.secondary("secondary", &[address]).await;
    let end = primary.write(before..before + lost).await;
    secondary.reaches(end).await;
    primary.stop().await;
    if compacted {
        compact(&secondary.log()).await;
    }
    std::fs::remove_dir_all(cluster.path("primary")).expect("removes");
    copy(&cluster.path("backup"), &cluster.path("primary"));
    (cluster.primary("primary", Some(address)).await, secondary)
}

#[tokio::test]
async fn what_a_restored_primary_has_lost_is_put_aside_on_its_secondary() {
    let cluster = Cluster::new();
    let (mut primary, secondary) = restored(&cluster, 50, 30, false).await;
    let end = primary.write(1000..1040).await;
    eventually("the secondary follows again", || match secondary.status() {
        status if status.divergences == 1 && status.applied >= end.lsn => Ok(()),
        status => Err(status),
    })
    .await;
    secondary.reaches(end).await;
    let expected: Vec<i64> = (0..50).chain(1000..1040).collect();
    assert_eq!(numbers(&secondary.log()), expected);
    let status = secondary.status();
    let [diverged] = &status.diverged[..] else {
        panic!("{status:?}")
    };
    assert_eq!(diverged.rows, 30);
    assert_eq!(
        put_aside(&cluster.path("secondary")),
        (50..80).collect::<Vec<_>>()
    );
    secondary.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn a_log_that_left_before_what_is_compacted_is_kept_whole() {
    let cluster = Cluster::new();
    let (mut primary, secondary) = restored(&cluster, 10, 200, true).await;
    let end = primary.write(1000..1040).await;
    eventually("the secondary follows again", || match secondary.status() {
        status if status.snapshots == 1 && status.applied >= end.lsn => Ok(()),
        status => Err(status),
    })
    .await;
    let expected: Vec<i64> = (0..10).chain(1000..1040).collect();
    assert_eq!(numbers(&secondary.log()), expected);
    let aside = cluster.path("secondary").join("diverged");
    let kept: Vec<_> = std::fs::read_dir(&aside).expect("lists").collect();
    assert_eq!(kept.len(), 1, "{kept:?}");
    secondary.stop().await;
    primary.stop().await;
}

#[tokio::test]
async fn a_leaf_that_holds_nothing_from_before_the_restored_end_comes_back_through_its_relay() {
    let cluster = Cluster::new();
    let mut primary = cluster.primary("primary", None).await;
    let address = primary.address();
    primary.write(0..50).await;
    primary.stop().await;
    copy(&cluster.path("primary"), &cluster.path("backup"));
    let mut primary = cluster.primary("primary", Some(address)).await;
    let relay = cluster.relay("relay", &[address], any()).await;
    let leaf = cluster.secondary("leaf", &[relay.address()]).await;
    primary.write(50..800).await;
    primary.retire().await;
    leaf.reaches(*primary.log().durable().borrow()).await;
    compact(&leaf.log()).await;
    let oldest = leaf.log().oldest().lsn;
    assert!(oldest > Lsn(600), "the leaf's log begins at {oldest}");
    primary.stop().await;
    std::fs::remove_dir_all(cluster.path("primary")).expect("removes");
    copy(&cluster.path("backup"), &cluster.path("primary"));
    let mut primary = cluster.primary("primary", Some(address)).await;
    // Far enough to contradict the leaf, not as far as anything it holds.
    let end = primary.write(1000..1200).await;
    assert!(end.lsn < oldest);
    eventually("the leaf follows again", || match leaf.status() {
        status if status.divergences >= 1 && status.applied == end.lsn => Ok(()),
        status => Err(status),
    })
    .await;
    let expected: Vec<i64> = (0..50).chain(1000..1200).collect();
    assert_eq!(numbers(&leaf.log()), expected);
    let aside = cluster.path("leaf").join("diverged");
    assert!(aside.is_dir(), "what the leaf held is kept");
    leaf.stop().await;
    relay.stop().await;
    primary.stop().await;
}

/// The numbers in the files that were put aside.
fn put_aside(data_dir: &Path) -> Vec<i64> {
    use arrow::array::AsArray;
    use arrow::datatypes::Int64Type;
    let disk: Arc<dyn wal::Disk> = OsDisk::new();
    let mut found = Vec::new();
    for path in files_below(&data_dir.join("diverged")) {
        for (schema, block) in wal::segment_blocks(&disk, &path).expect("reads") {
            let n = schema.column("n").expect("n");
            let batch = block.read(&schema, &[n]).expect("reads");
            found.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values());
        }
    }
    found.sort_unstable();
    found
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("lists") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "log") {
            files.push(path);
        }
    }
    files
}
