//! How fast a node may send: token buckets, one for all secondaries together and one for each. It
//! owns the rules that live blocks go before everything else and that who waits is served in turn,
//! however little others ask for. It must never delay a live block for the sake of the total, nor
//! hold anything of one secondary while it waits for the total.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// The limits of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    total: Option<Arc<Gate>>,
    each: u64,
}

/// A bucket and those who wait for it. The tokio locks are fair: first come, first served. Without
/// them those who ask for little would always be there first.
#[derive(Debug)]
struct Gate {
    bucket: Mutex<Bucket>,
    /// Whoever waits for the bucket holds it.
    turn: tokio::sync::Mutex<()>,
    /// Backfill waits here before it waits for its turn: only one of it is ever before a live
    /// block.
    line: tokio::sync::Mutex<()>,
}

impl Gate {
    fn new(rate: u64) -> Arc<Self> {
        Arc::new(Self {
            bucket: Mutex::new(Bucket::new(rate, Instant::now())),
            turn: tokio::sync::Mutex::default(),
            line: tokio::sync::Mutex::default(),
        })
    }

    /// Live blocks pass behind at most one other.
    async fn first(&self, bytes: usize) {
        let _turn = self.turn.lock().await;
        paid(&self.bucket, bytes).await;
    }

    /// Everything else passes in the order in which it came.
    async fn in_line(&self, bytes: usize) {
        let _place = self.line.lock().await;
        self.first(bytes).await;
    }

    /// Takes these bytes and waits for nothing.
    fn charge(&self, bytes: usize) {
        lock(&self.bucket).charge(bytes, Instant::now());
    }
}

impl Limits {
    /// Bytes per second for all secondaries and for each of them; 0: as fast as it goes.
    pub(crate) fn new(total: u64, each: u64) -> Self {
        let total = (total > 0).then(|| Gate::new(total));
        Self { total, each }
    }

    /// The limit of one secondary.
    pub(crate) fn peer(&self) -> Limit {
        Limit {
            total: self.total.clone(),
            each: (self.each > 0).then(|| Gate::new(self.each)),
        }
    }
}

impl Default for Limits {
    /// None.
    fn default() -> Self {
        Self::new(0, 0)
    }
}

/// What one secondary is sent goes through this. Cheap to clone; the clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    total: Option<Arc<Gate>>,
    each: Option<Arc<Gate>>,
}

impl Limit {
    /// Whether anything is limited at all.
    pub(crate) fn is_none(&self) -> bool {
        self.total.is_none() && self.each.is_none()
    }

    /// Before live blocks: waits for this secondary's own limit alone.
    pub(crate) async fn live(&self, bytes: usize) {
        if let Some(each) = &self.each {
            each.first(bytes).await;
        }
        if let Some(total) = &self.total {
            total.charge(bytes);
        }
    }

    /// Before everything else: waits for both limits, the total after what live blocks took.
    pub(crate) async fn backfill(&self, bytes: usize) {
        if let Some(each) = &self.each {
            each.in_line(bytes).await;
        }
        if let Some(total) = &self.total {
            total.in_line(bytes).await;
        }
    }
}

/// Waits until the bucket has given these bytes.
async fn paid(bucket: &Mutex<Bucket>, bytes: usize) {
    loop {
        let wait = lock(bucket).take(bytes, Instant::now());
        match wait {
            None => return,
            Some(wait) => sleep(wait.max(SHORTEST_WAIT)).await,
        }
    }
}

fn lock(bucket: &Mutex<Bucket>) -> MutexGuard<'_, Bucket> {
    // Every section leaves the bucket consistent.
    bucket.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A token bucket that may be overdrawn. Pure: the caller brings the time.
#[derive(Debug)]
struct Bucket {
    /// Bytes per second; not 0.
    rate: u64,
    /// Most bytes it holds.
    burst: i64,
    /// Bytes in it; less than 0 while it is overdrawn.
    level: i64,
    /// When it was filled to this level.
    at: Instant,
}

impl Bucket {
    fn new(rate: u64, now: Instant) -> Self {
        let rate = rate.clamp(1, MAX_RATE);
        let burst = signed(rate / 10).max(MIN_BURST);
        Self {
            rate,
            burst,
            level: burst,
            at: now,
        }
    }

    /// Takes these bytes out, or tells how long to wait before asking again. What is longer than
    /// the burst goes when the bucket is full, and overdraws it.
    fn take(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        self.fill(now);
        let bytes = signed(bytes);
        let missing = bytes.min(self.burst) - self.level;
        if missing <= 0 {
            self.level = self.level.saturating_sub(bytes);
            return None;
        }
        let missing = u64::try_from(missing).unwrap_or(0);
        let nanos = u128::from(missing) * NANOS / u128::from(self.rate);
        Some(Duration::from_nanos(
            u64::try_from(nanos + 1).unwrap_or(u64::MAX),
        ))
    }

    /// Takes these bytes out whatever is in it, but not more than a second is overdrawn so: what
    /// waits goes on soon after.
    fn charge(&mut self, bytes: usize, now: Instant) {
        self.fill(now);
        let floor = self.level.min(-signed(self.rate));
        self.level = self.level.saturating_sub(signed(bytes)).max(floor);
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_nanos();
        let gained = passed * u128::from(self.rate) / NANOS;
        // On to when the last whole byte was gained: the rest counts next time.
        let nanos = u64::try_from(gained * NANOS / u128::from(self.rate)).unwrap_or(u64::MAX);
        self.at += Duration::from_nanos(nanos);
        let gained = i64::try_from(gained).unwrap_or(i64::MAX);
        self.level = self.level.saturating_add(gained).min(self.burst);
    }
}

fn signed<N: TryInto<i64>>(bytes: N) -> i64 {
    bytes.try_into().unwrap_or(i64::MAX)
}

const NANOS: u128 = 1_000_000_000;

/// Least burst: a chunk of blocks goes at once.
const MIN_BURST: i64 = 256 << 10;

/// Fastest rate that is told from none: a terabyte per second.
const MAX_RATE: u64 = 1 << 40;

/// Timers are no finer than this.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::timeout;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const RATE: u64 = 1 << 20;

    #[test]
    fn the_burst_is_a_tenth_of_a_second_and_a_chunk_at_least() {
        let now = Instant::now();
        assert_eq!(Bucket::new(1_000, now).level, 256 << 10);
        assert_eq!(Bucket::new(100 << 20, now).level, 10 << 20);
    }

    #[test]
    fn over_time_no_more_than_the_rate_goes_through() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..50 {
            let rate = random.u64(1_000..50 << 20);
            let begin = Instant::now();
            let mut bucket = Bucket::new(rate, begin);
            let burst = bucket.burst;
            let (mut now, mut sent, mut last) = (begin, 0_u64, 0);
            for _ in 0..500 {
                let bytes = random.usize(1..400 << 10);
                while let Some(wait) = bucket.take(bytes, now) {
                    assert!(wait > Duration::ZERO);
                    now += wait;
                }
                last = u64::try_from(bytes).expect("small");
                sent += last;
            }
            let passed = (now - begin).as_secs_f64();
            let least = (sent - last) as f64 - burst as f64;
            let allowed = passed * rate as f64;
            assert!(
                least <= allowed + 1.0,
                "{sent} bytes in {passed} s at {rate}"
            );
            assert!(
                allowed <= sent as f64 + 500.0,
                "waits too long: {sent} in {passed} s at {rate}"
            );
        }
    }

    #[test]
    fn more_than_the_burst_goes_when_it_is_full_and_is_paid_for_after() {
        let now = Instant::now();
        let mut bucket = Bucket::new(RATE, now);
        assert_eq!(bucket.take(4 << 20, now), None);
        let wait = bucket.take(1, now).expect("overdrawn");
        assert!(wait > SECOND * 3 && wait < SECOND * 4, "{wait:?}");
        assert_eq!(bucket.take(1, now + wait), None);
    }

    #[test]
    fn live_bytes_take_what_they_need_and_leave_a_second_of_debt_at_most() {
        let now = Instant::now();
        let mut bucket = Bucket::new(RATE, now);
        for _ in 0..1_000 {
            bucket.charge(1 << 20, now);
        }
        let wait = bucket.take(1, now).expect("overdrawn");
        assert!(wait <= SECOND + Duration::from_millis(1), "{wait:?}");
        // A debt that somebody waited for stays.
        let mut bucket = Bucket::new(RATE, now);
        assert_eq!(bucket.take(4 << 20, now), None);
        bucket.charge(1, now);
        assert!(bucket.level < -3 << 20, "{}", bucket.level);
    }

    #[test]
    fn a_clock_read_often_still_fills() {
        let begin = Instant::now();
        let mut bucket = Bucket::new(1_000, begin);
        assert_eq!(bucket.take(256 << 10, begin), None);
        for micros in 0..100_000 {
            bucket.fill(begin + Duration::from_micros(micros * 10));
        }
        assert!((999..=1_000).contains(&bucket.level), "{}", bucket.level);
    }

    #[tokio::test]
    async fn without_limits_nothing_waits() {
        let limit = Limits::default().peer();
        assert!(limit.is_none());
        limit.live(usize::MAX).await;
        limit.backfill(usize::MAX).await;
    }

    #[tokio::test]
    async fn backfill_waits_for_the_total_and_live_blocks_do_not() {
        let limits = Limits::new(1, 0);
        let (bootstrapping, live) = (limits.peer(), limits.peer());
        // The burst, and nothing for a day.
        bootstrapping.backfill(300 << 10).await;
        let waits = tokio::select! {
            biased;
            () = bootstrapping.backfill(1) => false,
            () = async { for _ in 0..100 { live.live(1 << 20).await } } => true,
        };
        assert!(waits);
    }

    /// How many parts of two files go while so many blocks do, all to one secondary, under a limit
    /// that lets neither go at once.
    async fn files_beside(blocks: usize, block: impl AsyncFn(&Limit)) -> usize {
        let limit = Limits::new(0, 4 << 20).peer();
        let parts = AtomicUsize::new(0);
        let file = async || {
            loop {
                limit.backfill(64 << 10).await;
                parts.fetch_add(1, Ordering::Relaxed);
            }
        };
        let all = async {
            tokio::select! {
                biased;
                () = async { for _ in 0..blocks { block(&limit).await } } => {}
                () = file() => {}
                () = file() => {}
            }
        };
        timeout(SECOND * 30, all).await.expect("blocks starve");
        parts.load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn files_that_ask_for_little_do_not_go_before_blocks() {
        let parts = files_beside(6, async |limit| limit.backfill(256 << 10).await).await;
        assert!(
            (6..=2 * 6).contains(&parts),
            "{parts} parts beside 6 blocks"
        );
        let parts = files_beside(6, async |limit| limit.live(256 << 10).await).await;
        assert!(
            (3..=6).contains(&parts),
            "{parts} parts beside 6 live blocks"
        );
    }

    #[tokio::test]
    async fn who_waits_for_the_total_holds_up_no_live_block_of_the_same_secondary() {
        let limit = Limits::new(1, 1 << 30).peer();
        limit.backfill(300 << 10).await;
        let waits = tokio::select! {
            biased;
            () = limit.backfill(1) => false,
            () = async { for _ in 0..3 { limit.live(1 << 20).await } } => true,
        };
        assert!(waits);
    }

    #[tokio::test]
    async fn each_secondary_has_a_limit_of_its_own() {
        let limits = Limits::new(0, 1);
        let (slow, other) = (limits.peer(), limits.peer());
        slow.clone().live(300 << 10).await;
        let waits = tokio::select! {
            biased;
            () = slow.live(1) => false,
            () = other.live(300 << 10) => true,
        };
        assert!(waits);
    }
}
