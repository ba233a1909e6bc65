//! [`Pace`]: how fast an endpoint responds. A plain type that takes the time as an argument.
//!
//! A follower asks the leader before it answers a linearizable read, and forwards writes to it. So
//! the leader responds faster, and the cluster has less to do. Members differ in distance and load,
//! too.

use std::time::Duration;

use tokio::time::Instant;

/// What a request asks for. The two kinds take different times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Read,
    Write,
}

/// The weight of the previous response times, relative to the latest one.
const WEIGHT: u32 = 7;

/// The response times of one endpoint for one purpose.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pace {
    /// The average, in which recent response times have more weight.
    average: Option<Duration>,
    in_flight: usize,
    /// When the latest response came, or the first of the requests in flight was sent.
    heard: Option<Instant>,
}

impl Pace {
    /// A request was sent. [`ended`](Self::ended) must follow.
    pub(super) fn sent(&mut self, now: Instant) {
        if self.in_flight == 0 {
            self.heard = Some(now);
        }
        self.in_flight += 1;
    }

    /// A request has ended, after `took` if with a response.
    pub(super) fn ended(&mut self, now: Instant, took: Option<Duration>) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(took) = took else { return };
        self.heard = Some(now);
        let before = self.average.unwrap_or(took);
        // A single slow response says little.
        let took = took.min(before * 2);
        self.average = Some((before * WEIGHT + took) / (WEIGHT + 1));
    }

    /// How long a request is expected to take; zero if nothing is known. An endpoint that is silent
    /// for longer than usual is expected to remain so.
    pub(super) fn expected(&self, now: Instant) -> Duration {
        let silent_since = self.heard.filter(|_| self.in_flight > 0);
        let silent = silent_since.map(|since| now.saturating_duration_since(since));
        self.average.max(silent).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn responds(pace: &mut Pace, now: Instant, took: Duration) {
        pace.sent(now);
        pace.ended(now + took, Some(took));
    }

    #[test]
    fn response_times_are_averaged() {
        let now = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.expected(now), Duration::ZERO);
        responds(&mut pace, now, 8 * MS);
        assert_eq!(pace.expected(now), 8 * MS);
        responds(&mut pace, now, 16 * MS);
        assert_eq!(pace.expected(now), 9 * MS);
        // An outlier counts as no more than twice the average.
        responds(&mut pace, now, 9000 * MS);
        assert!(pace.expected(now) < 11 * MS);
        for _ in 0..100 {
            responds(&mut pace, now, 100 * MS);
        }
        assert!(pace.expected(now) > 90 * MS);
    }

    #[test]
    fn silence_counts_while_a_request_is_in_flight() {
        let now = Instant::now();
        let mut pace = Pace::default();
        responds(&mut pace, now, MS);
        let later = now + 1000 * MS;
        assert_eq!(pace.expected(later), MS, "nothing is in flight");
        pace.sent(later);
        pace.sent(later + 3 * MS);
        assert_eq!(pace.expected(later + 5 * MS), 5 * MS);
        pace.ended(later + 6 * MS, Some(MS));
        assert_eq!(pace.expected(later + 10 * MS), 4 * MS);
        pace.ended(later + 10 * MS, None);
        assert_eq!(pace.expected(later + 20 * MS), MS);
    }
}
