//! What a call may still do: within which time, and how often again. Given the time; does
//! nothing by itself.

use std::time::Duration;

use tokio::time::Instant;

use super::breaker::later;

/// How often a call is repeated because its connection ended.
const REPEATS: u32 = 2;

/// What happened to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setback {
    /// Its connection ended, and the server is still in use.
    Lost,
    /// The server was found to be down.
    Down,
}

/// A call that meets with no failure asks it for nothing but its patience.
#[derive(Debug)]
pub(crate) struct Attempts {
    socket_timeout: Duration,
    begun: Option<Instant>,
    /// By when the call has ended, once it has met with a failure.
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

    /// How long the next attempt may take; `None`: there is no time left for one.
    pub(crate) fn patience(&mut self, now: Instant) -> Option<Duration> {
        self.begun.get_or_insert(now);
        match self.deadline {
            None => Some(self.socket_timeout.saturating_mul(2)),
            Some(deadline) => {
                Some(deadline.saturating_duration_since(now)).filter(|patience| !patience.is_zero())
            }
        }
    }

    /// Begins a round of attempts that happen side by side. `false`: there have been enough.
    pub(crate) fn begin_round(&mut self) -> bool {
        self.lost += u32::from(std::mem::take(&mut self.has_lost));
        self.lost <= REPEATS
    }

    /// An attempt failed. All that follow have one more `socket_timeout` together, and the call
    /// as a whole twice that.
    pub(crate) fn on_setback(&mut self, now: Instant, setback: Setback) {
        if self.deadline.is_none() {
            let begun = self.begun.unwrap_or(now);
            let all = later(begun, self.socket_timeout.saturating_mul(2));
            let rest = later(now, self.socket_timeout);
            self.deadline = Some(all.min(rest));
        }
        self.has_lost |= setback == Setback::Lost;
    }

    /// The call waits for something other than an attempt of its own, from `now` on. That counts.
    pub(crate) fn on_wait(&mut self, now: Instant) {
        let all = later(now, self.socket_timeout.saturating_mul(2));
        self.deadline = Some(self.deadline.map_or(all, |deadline| deadline.min(all)));
    }

    /// By when the call has ended, once it has met with a failure.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How often connections ended under the call.
    pub(crate) fn lost(&self) -> u32 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    #[test]
    fn all_attempts_together_take_no_longer_than_twice_the_time_out() {
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
    fn after_an_early_failure_there_is_one_more_time_out() {
        let begun = Instant::now();
        let mut attempts = Attempts::new(TIMEOUT);
        attempts.patience(begun);
        attempts.on_setback(begun + TIMEOUT / 10, Setback::Lost);
        assert_eq!(attempts.patience(begun + TIMEOUT / 10), Some(TIMEOUT));
    }

    #[test]
    fn to_wait_for_a_server_that_is_tried_counts() {
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
    fn servers_that_are_down_are_passed_over_without_a_limit() {
        let now = Instant::now();
        let mut attempts = Attempts::new(TIMEOUT);
        for _ in 0..50 {
            assert!(attempts.begin_round());
            attempts.on_setback(now, Setback::Down);
        }
        assert_eq!(attempts.lost(), 0);
    }
}
