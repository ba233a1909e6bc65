//! [`Attempts`]: the deadline and the retry budget of a call. A plain type that takes the time as
//! an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::breaker::later;

/// How often a call is retried because its connection ended.
const REPEATS: u32 = 2;

/// Why an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    /// Its connection ended, and the server is still in use.
    Lost,
    /// The server is down.
    Down,
}

#[derive(Debug)]
pub(crate) struct Attempts {
    socket_timeout: Duration,
    begun: Option<Instant>,
    /// The deadline of the call, set after the first failure.
    deadline: Option<Instant>,
    lost: u32,
    has_lost: bool,
}

impl Attempts {
    pub(crate) fn new(socket_timeout: Duration) -> Self {
        Self {
            socket_timeout,
            begun: None,
            deadline: None,
            lost: 0,
            has_lost: false,
        }
    }

    /// How long the next attempt may take; `None` if no time is left.
    pub(crate) fn patience(&mut self, now: Instant) -> Option<Duration> {
        self.begun.get_or_insert(now);
        match self.deadline {
            None => Some(self.socket_timeout.saturating_mul(2)),
            Some(deadline) => {
                Some(deadline.saturating_duration_since(now)).filter(|patience| !patience.is_zero())
            }
        }
    }

    /// Begins a round of concurrent attempts. `false`: the retry budget is exhausted.
    pub(crate) fn begin_round(&mut self) -> bool {
        self.lost += u32::from(std::mem::take(&mut self.has_lost));
        self.lost <= REPEATS
    }

    /// Records a failed attempt. All further ones share one `socket_timeout`, and the call as a
    /// whole may take two.
    pub(crate) fn on_setback(&mut self, now: Instant, setback: Setback) {
        if self.deadline.is_none() {
            let begun = self.begun.unwrap_or(now);
            let all = later(begun, self.socket_timeout.saturating_mul(2));
            let rest = later(now, self.socket_timeout);
            self.deadline = Some(all.min(rest));
        }
        self.has_lost |= setback == Setback::Lost;
    }

    /// The call waits for a probe from `now` on, which counts towards its deadline.
    pub(crate) fn on_wait(&mut self, now: Instant) {
        let all = later(now, self.socket_timeout.saturating_mul(2));
        self.deadline = Some(self.deadline.map_or(all, |deadline| deadline.min(all)));
    }

    /// The deadline of the call, set after the first failure.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How often a connection ended during the call.
    pub(crate) fn lost(&self) -> u32 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    #[test]
    fn all_attempts_together_take_at_most_twice_the_timeout() {
        let begun = Instant::now();
        let mut attempts = Attempts::new(TIMEOUT);
        assert_eq!(attempts.patience(begun), Some(TIMEOUT * 2));
        attempts.on_setback(begun + TIMEOUT, Setback::Down);
        assert_eq!(attempts.patience(begun + TIMEOUT), Some(TIMEOUT));
        attempts.on_setback(begun + TIMEOUT * 3 / 2, Setback::Down);
        assert_eq!(
            attempts.patience(begun + TIMEOUT * 3 / 2),
            Some(TIMEOUT / 2)
        );
        assert_eq!(attempts.patience(begun + TIMEOUT * 2), None);
        assert_eq!(attempts.deadline(), Some(begun + TIMEOUT * 2));
    }

    #[test]
    fn after_an_early_failure_one_more_timeout_is_left() {
        let begun = Instant::now();
        let mut attempts = Attempts::new(TIMEOUT);
        attempts.patience(begun);
        attempts.on_setback(begun + TIMEOUT / 10, Setback::Lost);
        assert_eq!(attempts.patience(begun + TIMEOUT / 10), Some(TIMEOUT));
    }

    #[test]
    fn waiting_for_a_probe_counts() {
        let begun = Instant::now();
        let mut attempts = Attempts::new(TIMEOUT);
        attempts.on_wait(begun);
        assert_eq!(attempts.patience(begun + TIMEOUT), Some(TIMEOUT));
        attempts.on_setback(begun + TIMEOUT, Setback::Lost);
        assert_eq!(attempts.patience(begun + TIMEOUT * 2), None);
    }

    #[test]
    fn a_round_of_lost_connections_counts_once() {
        let now = Instant::now();
        let mut attempts = Attempts::new(TIMEOUT);
        for _ in 0..=REPEATS {
            assert!(attempts.begin_round());
            for _ in 0..10 {
                attempts.on_setback(now, Setback::Lost);
            }
        }
        assert!(!attempts.begin_round());
        assert_eq!(attempts.lost(), REPEATS + 1);
    }

    #[test]
    fn any_number_of_down_servers_may_be_skipped() {
        let now = Instant::now();
        let mut attempts = Attempts::new(TIMEOUT);
        for _ in 0..50 {
            assert!(attempts.begin_round());
            attempts.on_setback(now, Setback::Down);
        }
        assert_eq!(attempts.lost(), 0);
    }
}
