//! Filling a log over real connections, with a staged log in memory. The tests own that stand-in;
//! it must never take what a real one would refuse.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use tokio::time::timeout;

use super::*;
use crate::error::CloseCode;
use crate::files::fetch::Giving;
use crate::files::leases::Leases;
use crate::files::limit::Limits;
use crate::status::Hop;
use crate::tests::loopback::{LOG, Pair, Shelf};

/// A file that is to come: its name, its bytes, and how many are here.
#[derive(Clone)]
struct Part {
    name: String,
    bytes: Bytes,
    held: usize,
}

/// A manifest: where it begins, and its files.
type Plan = (u64, Vec<Part>);

/// A staged log in memory.
struct Tray {
    files: Vec<Part>,
    /// What manifests say; a manifest's bytes are its number here.
    plans: Vec<Plan>,
    writes: Vec<(String, u64)>,
    refreshed: usize,
    /// Errors of the next writes.
    faults: VecDeque<io::ErrorKind>,
    /// Told of every write that succeeded, by their number.
    on_write: Box<dyn FnMut(usize) + Send>,
}

impl Tray {
    fn missing(files: Vec<Part>) -> Self {
        Self {
            files,
            plans: Vec::new(),
            writes: Vec::new(),
            refreshed: 0,
            faults: VecDeque::new(),
            on_write: Box::new(|_| {}),
        }
    }

    fn is_whole(&self) -> bool {
        self.files.iter().all(|part| part.held == part.bytes.len())
    }
}

impl Stage for Tray {
    fn log(&self) -> LogId {
        LOG
    }

    fn wanted(&self) -> Vec<Missing> {
        let missing = self
            .files
            .iter()
            .filter(|part| part.held < part.bytes.len());
        missing
            .map(|part| Missing {
                name: part.name.clone(),
                bytes: as_u64(part.bytes.len()),
                held: as_u64(part.held),
            })
            .collect()
    }

    fn progress(&self) -> BootstrapProgress {
        let whole = self
            .files
            .iter()
            .filter(|part| part.held == part.bytes.len());
        BootstrapProgress {
            files: as_u64(self.files.len()),
            files_held: as_u64(whole.count()),
            bytes: self.files.iter().map(|part| as_u64(part.bytes.len())).sum(),
            bytes_held: self.files.iter().map(|part| as_u64(part.held)).sum(),
        }
    }

    fn write(&mut self, name: &str, at: u64, bytes: &[u8]) -> Result<(), WalError> {
        if let Some(kind) = self.faults.pop_front() {
            return Err(WalError::Io {
                operation: wal::Operation::Write,
                path: PathBuf::from(name),
                source: kind.into(),
            });
        }
        let part = self.files.iter_mut().find(|part| part.name == name);
        let part = part.ok_or_else(|| corrupt(name))?;
        let end = part.held + bytes.len();
        if at != as_u64(part.held) || part.bytes.get(part.held..end) != Some(bytes) {
            return Err(corrupt(name));
        }
        assert!(
            end == part.bytes.len() || bytes.len() == CHUNK_LEN,
            "no whole chunk"
        );
        part.held = end;
        self.writes.push((name.to_owned(), at));
        (self.on_write)(self.writes.len());
        Ok(())
    }

    fn refresh(&mut self, manifest: &[u8], tip: Position) -> Result<(), WalError> {
        let number = usize::from(manifest[0] - b'0');
        let (begins, files) = self.plans[number].clone();
        let begins = at_lsn(begins);
        if begins.lsn > tip.lsn {
            return Err(WalError::NotHeld(begins));
        }
        self.files = files;
        self.refreshed += 1;
        Ok(())
    }
}

fn corrupt(name: &str) -> WalError {
    WalError::Corrupt {
        file: name.to_owned(),
        offset: 0,
        reason: "other bytes".to_owned(),
    }
}

fn at_lsn(lsn: u64) -> Position {
    Position {
        lsn: Lsn(lsn),
        chain: wal::Chain(0),
    }
}

/// A file of which nothing is here.
fn part(name: &str, length: usize) -> Part {
    let bytes = (0..length).map(|i| (i % 249).to_le_bytes()[0]).collect();
    Part {
        name: format!("parquet/{name}.parquet"),
        bytes,
        held: 0,
    }
}

fn shelf_of(parts: &[Part]) -> Shelf {
    let shelf = Shelf::lacking(&[]);
    for part in parts {
        shelf.put(&part.name, part.bytes.clone());
    }
    shelf
}

/// Both ends attend to a connection to a node with these files; its end of it.
async fn connect(ours: &Peers, shelf: &Shelf) -> Link {
    let pair = Pair::connect().await;
    let (ours, shelf, link) = (ours.clone(), shelf.clone(), pair.primary.clone());
    tokio::spawn(async move {
        // All of it: a closed connection needs its endpoint to tell the other side for long enough.
        let pair = pair;
        let (leases, none, theirs) = (Leases::new(), Shelf::lacking(&[]), Peers::new());
        let giving = Giving {
            files: &shelf,
            leases: Some((&leases, "me")),
            confirmed: None,
            limit: Limits::default().peer(),
        };
        let back = Giving::of(&none);
        tokio::join!(
            ours.attend(&pair.secondary, &back),
            theirs.attend(&pair.primary, &giving),
        );
    });
    link
}

/// Everything around a `fill`.
struct Bench {
    tray: Arc<tokio::sync::Mutex<Tray>>,
    peers: Peers,
    tip: watch::Sender<Position>,
    state: Arc<FollowState>,
    shutdown: CancellationToken,
}

impl Bench {
    fn new(tray: Tray) -> Self {
        Self {
            tray: Arc::new(tokio::sync::Mutex::new(tray)),
            peers: Peers::new(),
            tip: watch::Sender::new(at_lsn(0)),
            state: Arc::new(FollowState::new(None, Hop::default(), None)),
            shutdown: CancellationToken::new(),
        }
    }

    async fn fill(&self) -> Result<(), FillError> {
        let filling = fill(
            Arc::clone(&self.tray),
            self.peers.clone(),
            self.tip.subscribe(),
            Arc::clone(&self.state),
            self.shutdown.clone(),
        );
        timeout(Duration::from_secs(30), filling)
            .await
            .expect("ends in time")
    }
}

#[tokio::test]
async fn every_file_comes_whole_in_whole_chunks() {
    let files = [0, 1, 2, 3, 4].map(|nth| part(&nth.to_string(), nth * CHUNK_LEN + 17));
    let bench = Bench::new(Tray::missing(files.to_vec()));
    connect(&bench.peers, &shelf_of(&files)).await;
    bench.fill().await.expect("fills");
    assert_eq!(Arc::strong_count(&bench.tray), 1);
    let tray = bench.tray.lock().await;
    assert!(tray.is_whole());
    let status = bench.state.status(&[], std::time::Instant::now());
    assert_eq!(status.bootstrap, Some(tray.progress()));
    // Smallest first: the first two are asked for at once.
    assert!(
        tray.writes[..2]
            .iter()
            .any(|(name, _)| *name == files[0].name)
    );
}

#[tokio::test]
async fn nothing_missing_needs_nobody() {
    let bench = Bench::new(Tray::missing(Vec::new()));
    bench.fill().await.expect("fills");
}

#[tokio::test]
async fn what_is_held_is_not_asked_for_again() {
    let mut file = part("a", 3 * CHUNK_LEN + 5);
    let shelf = shelf_of(std::slice::from_ref(&file));
    file.held = 2 * CHUNK_LEN;
    let bench = Bench::new(Tray::missing(vec![file]));
    connect(&bench.peers, &shelf).await;
    bench.fill().await.expect("fills");
    let places: Vec<u64> = bench
        .tray
        .lock()
        .await
        .writes
        .iter()
        .map(|write| write.1)
        .collect();
    assert_eq!(places, [2, 3].map(|chunk| chunk * as_u64(CHUNK_LEN)));
}

#[tokio::test]
async fn a_cut_at_every_chunk_loses_no_chunk() {
    let files = [part("a", 5 * CHUNK_LEN + 1), part("b", 3 * CHUNK_LEN)];
    let shelf = shelf_of(&files);
    let bench = Bench::new(Tray::missing(files.to_vec()));
    let (cut, mut cuts) = watch::channel(());
    let link: Arc<Mutex<Option<Link>>> = Arc::default();
    let cutting = Arc::clone(&link);
    bench.tray.lock().await.on_write = Box::new(move |_| {
        if let Some(link) = cutting.lock().expect("a link").take() {
            link.close(CloseCode::Done, "cut");
            cut.send_replace(());
        }
    });
    let reconnecting = async {
        loop {
            let next = connect(&bench.peers, &shelf).await;
            *link.lock().expect("a link") = Some(next);
            cuts.changed().await.expect("a cut");
        }
    };
    tokio::select! {
        filled = bench.fill() => filled.expect("fills"),
        () = reconnecting => {}
    }
    let tray = bench.tray.lock().await;
    assert!(tray.is_whole());
    // No chunk came twice.
    let mut writes = tray.writes.clone();
    writes.sort();
    writes.dedup();
    assert_eq!(writes.len(), 6 + 3);
    assert_eq!(tray.writes.len(), writes.len());
}

#[tokio::test]
async fn another_peer_helps_when_one_has_other_bytes() {
    let file = part("a", 2 * CHUNK_LEN);
    let spoilt = shelf_of(&[]);
    spoilt.put(&file.name, Bytes::from(vec![0; 2 * CHUNK_LEN]));
    let right = shelf_of(std::slice::from_ref(&file));
    let bench = Bench::new(Tray::missing(vec![file]));
    connect(&bench.peers, &spoilt).await;
    connect(&bench.peers, &right).await;
    bench.fill().await.expect("fills");
    assert!(bench.tray.lock().await.is_whole());
}

#[tokio::test]
async fn a_file_merged_away_brings_the_next_manifest_once_the_log_is_there() {
    let (old, new) = (part("old", 10), part("new", CHUNK_LEN + 1));
    let shelf = shelf_of(std::slice::from_ref(&new));
    shelf.put("manifest for me", Bytes::from_static(b"0"));
    let mut tray = Tray::missing(vec![old]);
    tray.plans = vec![(50, vec![new])];
    let bench = Bench::new(tray);
    connect(&bench.peers, &shelf).await;
    let early = tokio::select! {
        filled = bench.fill() => panic!("without its files: {filled:?}"),
        () = tokio::time::sleep(Duration::from_millis(300)) => bench.tray.lock().await.refreshed,
    };
    assert_eq!(early, 0);
    let (filled, ()) = tokio::join!(bench.fill(), async {
        bench.tip.send_replace(at_lsn(49));
        tokio::task::yield_now().await;
        bench.tip.send_replace(at_lsn(50));
    });
    filled.expect("fills");
    let tray = bench.tray.lock().await;
    assert_eq!(tray.refreshed, 1);
    assert!(tray.is_whole());
}

#[tokio::test]
async fn what_both_manifests_name_comes_while_the_log_catches_up() {
    let (gone, kept) = (part("gone", 10), part("kept", 20));
    let shelf = shelf_of(std::slice::from_ref(&kept));
    shelf.put("manifest for me", Bytes::from_static(b"0"));
    let mut tray = Tray::missing(vec![gone, kept.clone()]);
    let whole = Part { held: 20, ..kept };
    tray.plans = vec![(50, vec![whole])];
    let bench = Bench::new(tray);
    connect(&bench.peers, &shelf).await;
    let tip = bench.tip.clone();
    bench.tray.lock().await.on_write = Box::new(move |_| {
        tip.send_replace(at_lsn(60));
    });
    bench.fill().await.expect("fills");
    assert_eq!(bench.tray.lock().await.refreshed, 1);
}

#[tokio::test]
async fn a_full_disk_is_waited_for_and_a_broken_one_is_not() {
    let file = part("a", CHUNK_LEN + 1);
    let shelf = shelf_of(std::slice::from_ref(&file));
    let mut tray = Tray::missing(vec![file.clone()]);
    tray.faults = VecDeque::from([io::ErrorKind::StorageFull]);
    let bench = Bench::new(tray);
    connect(&bench.peers, &shelf).await;
    bench.fill().await.expect("fills");

    let mut tray = Tray::missing(vec![file]);
    tray.faults = VecDeque::from([io::ErrorKind::PermissionDenied]);
    let bench = Bench::new(tray);
    connect(&bench.peers, &shelf).await;
    let filled = bench.fill().await;
    assert!(matches!(filled, Err(FillError::Disk(_))), "{filled:?}");
}
