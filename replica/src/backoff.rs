//! Pauses between attempts to reach the primary. It owns the arithmetic and must never sleep, read
//! a clock or draw randomness itself: the caller brings a number in `0..1`.

use std::time::Duration;

/// Exponential pauses with jitter: each lies in the upper half of a step that doubles up to a
/// limit.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    step: Duration,
}

impl Backoff {
    /// Starts at `min`; `max` is at least that.
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        let min = min.max(Duration::from_millis(1));
        Self {
            min,
            max: max.max(min),
            step: min,
        }
    }

    /// The next pause; the one after it is about twice as long.
    pub(crate) fn pause(&mut self, unit: f64) -> Duration {
        let pause = jitter(self.step, unit);
        self.step = self.step.saturating_mul(2).min(self.max);
        pause
    }

    /// The pause after a refusal: asking again soon would not help, so the longest at once.
    pub(crate) fn longest(&mut self, unit: f64) -> Duration {
        self.step = self.max;
        jitter(self.max, unit)
    }

    /// Back to the shortest pause: the last connection was good.
    pub(crate) fn reset(&mut self) {
        self.step = self.min;
    }
}

fn jitter(step: Duration, unit: f64) -> Duration {
    step.mul_f64(0.5 + unit.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(200);
    const MAX: Duration = Duration::from_secs(10);

    #[test]
    fn doubles_to_the_limit_and_starts_over() {
        let mut backoff = Backoff::new(MIN, MAX);
        let pauses: Vec<_> = (0..8).map(|_| backoff.pause(1.0).as_millis()).collect();
        assert_eq!(pauses, [200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.pause(1.0), MIN);
    }

    #[test]
    fn jitter_spreads_over_the_upper_half() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let mut backoff = Backoff::new(MIN, MAX);
        for _ in 0..1000 {
            let step = backoff.step;
            let pause = backoff.pause(random.f64());
            assert!(pause >= step / 2 && pause <= step, "{pause:?} of {step:?}");
        }
        assert_eq!(backoff.pause(0.0), MAX / 2);
    }

    #[test]
    fn a_refusal_waits_longest_at_once() {
        let mut backoff = Backoff::new(MIN, MAX);
        assert_eq!(backoff.longest(1.0), MAX);
        assert_eq!(backoff.longest(0.0), MAX / 2);
        assert_eq!(backoff.pause(1.0), MAX);
    }

    #[test]
    fn odd_settings_still_wait() {
        let mut backoff = Backoff::new(Duration::ZERO, Duration::ZERO);
        assert!(backoff.pause(0.0) > Duration::ZERO);
        let mut backoff = Backoff::new(MAX, MIN);
        assert_eq!(backoff.pause(1.0), MAX);
        assert_eq!(backoff.pause(f64::NAN.max(0.0)), MAX / 2);
    }
}
