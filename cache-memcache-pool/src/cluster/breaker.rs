//! [`Breaker`]: the circuit breaker of one server. A plain type that takes the time as an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::later::later;

/// The first wait before a failed server is tried again. Each further wait is twice as long, up to
/// `dead_retry`.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// How many consecutive connections have to end badly to open the breaker.
const STRIKES: u32 = 3;

/// A connection or a server that worked for this long is considered healthy.
pub(super) const SETTLED: Duration = Duration::from_secs(1);

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It could not be opened.
    NotConnected,
    /// It received too little for too long. `others_answer`: another connection received data
    /// meanwhile.
    Silent { others_answer: bool },
    /// It ended, or received an invalid response.
    Broken,
    /// The server refuses the credentials.
    Denied,
}

/// What a fault means for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Only this connection is affected.
    Connection,
    /// The breaker opens: the server is out of use.
    Open,
    /// The breaker was open already.
    StillOpen,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    /// The longest wait: `dead_retry`.
    longest: Duration,
    state: State,
    /// Consecutive connections that ended badly.
    strikes: u32,
    last_strike: Option<Instant>,
    /// How many consecutive times the breaker opened or a probe failed.
    level: u32,
    random: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In use since this time.
    Closed(Instant),
    Open {
        since: Instant,
        /// When it is tried again.
        until: Instant,
        /// It is being tried; another call tries it after `until`.
        is_claimed: bool,
    },
}

impl Breaker {
    /// A closed breaker. `seed` randomizes the waits, so that those of many processes differ.
    pub(crate) fn new(now: Instant, longest: Duration, seed: u64) -> Self {
        Self {
            longest,
            state: State::Closed(now),
            strikes: 0,
            last_strike: None,
            level: 0,
            random: seed,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// The time until the server is tried again; zero while it is being tried.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed(_) => None,
            State::Open {
                is_claimed: true, ..
            } => Some(Duration::ZERO),
            State::Open { until, .. } => Some(until.saturating_duration_since(now)),
        }
    }

    /// Records the failure of a connection that was begun at `begun`. `has_answered`: it had
    /// received a response.
    pub(crate) fn on_fault(
        &mut self,
        now: Instant,
        fault: Fault,
        begun: Instant,
        has_answered: bool,
    ) -> Verdict {
        let State::Closed(since) = self.state else {
            return Verdict::StillOpen;
        };
        if begun < since {
            // The connection is older than the last outage.
            return Verdict::Connection;
        }
        let is_over = match fault {
            Fault::Silent { others_answer } => !others_answer,
            Fault::NotConnected | Fault::Denied => true,
            Fault::Broken => self.strike(now, begun, has_answered, since),
        };
        if !is_over {
            return Verdict::Connection;
        }
        if now.saturating_duration_since(since) >= SETTLED {
            self.level = 0;
        }
        self.strikes = 0;
        // A silent server may have lost a single connection: probe it immediately.
        let wait = match fault {
            Fault::Silent { .. } if self.level == 0 => Duration::ZERO,
            _ => self.next_wait(),
        };
        self.level = self.level.saturating_add(1);
        self.state = State::Open {
            since: now,
            until: later(now, wait),
            is_claimed: false,
        };
        Verdict::Open
    }

    /// Counts a connection that ended badly. Returns whether the limit is reached.
    fn strike(&mut self, now: Instant, begun: Instant, has_answered: bool, since: Instant) -> bool {
        // Concurrent connections end together when a server restarts: that is one strike.
        if self.last_strike.is_some_and(|last| begun < last) {
            return false;
        }
        self.last_strike = Some(now);
        let lived = now.saturating_duration_since(begun);
        self.strikes = if has_answered && lived >= SETTLED {
            1
        } else {
            self.strikes + 1
        };
        // A server that has just returned gets a single chance.
        let is_on_probation = self.level > 0 && now.saturating_duration_since(since) < SETTLED;
        self.strikes >= STRIKES || is_on_probation
    }

    /// Whether the caller should probe the server now. One caller gets the claim; if it does not
    /// report within `lease`, the next one does.
    pub(crate) fn claim_probe(&mut self, now: Instant, lease: Duration) -> bool {
        match &mut self.state {
            State::Open {
                until, is_claimed, ..
            } if *until <= now => {
                *until = later(now, lease);
                *is_claimed = true;
                true
            }
            _ => false,
        }
    }

    /// The probe failed.
    pub(crate) fn on_probe_failed(&mut self, now: Instant) {
        let wait = self.next_wait();
        if let State::Open {
            until, is_claimed, ..
        } = &mut self.state
        {
            *is_claimed = false;
            *until = later(now, wait);
            self.level = self.level.saturating_add(1);
        }
    }

    /// The probe succeeded. Returns how long the server was out of use.
    pub(crate) fn on_probe_answered(&mut self, now: Instant) -> Option<Duration> {
        let State::Open { since, .. } = self.state else {
            return None;
        };
        self.state = State::Closed(now);
        self.strikes = 0;
        self.last_strike = None;
        Some(now.saturating_duration_since(since))
    }

    /// Twice the previous wait, shortened by up to a quarter at random.
    fn next_wait(&mut self) -> Duration {
        let level = self.level.min(30);
        let wait = FIRST_WAIT.saturating_mul(1 << level).min(self.longest);
        // A linear congruential generator, whose upper bits are random enough.
        let next = self.random.wrapping_mul(6_364_136_223_846_793_005);
        self.random = next.wrapping_add(1);
        let quarters = u32::try_from(self.random >> 56).unwrap_or_default();
        // From 0.75 to 1.
        (wait * 3 / 4).saturating_add(wait / 4 * quarters / 255)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(300);
    const LEASE: Duration = Duration::from_secs(10);
    const SECOND: Duration = Duration::from_secs(1);
    const MS: Duration = Duration::from_millis(1);
    const SILENT: Fault = Fault::Silent {
        others_answer: false,
    };

    fn breaker() -> (Breaker, Instant) {
        let now = Instant::now();
        (Breaker::new(now, LONGEST, 7), now)
    }

    #[test]
    fn one_silent_connection_to_a_responsive_server_is_replaced() {
        let (mut breaker, now) = breaker();
        let fault = Fault::Silent {
            others_answer: true,
        };
        for _ in 0..10 {
            assert_eq!(
                breaker.on_fault(now + SECOND, fault, now, true),
                Verdict::Connection
            );
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_silent_server_is_marked_down_and_probed_at_once_by_one_call() {
        let (mut breaker, now) = breaker();
        assert_eq!(breaker.on_fault(now, SILENT, now, true), Verdict::Open);
        assert_eq!(breaker.on_fault(now, SILENT, now, true), Verdict::StillOpen);
        assert!(breaker.claim_probe(now, LEASE));
        assert_eq!(breaker.left(now), Some(Duration::ZERO), "it is being tried");
        assert!(!breaker.claim_probe(now, LEASE));
        assert!(!breaker.claim_probe(now + LEASE - MS, LEASE));
        assert!(
            breaker.claim_probe(now + LEASE, LEASE),
            "the first claim expired"
        );
        assert_eq!(breaker.on_probe_answered(now + LEASE), Some(LEASE));
        assert!(!breaker.is_open());
    }

    #[test]
    fn equal_waits_get_different_jitter() {
        let (mut breaker, _) = breaker();
        breaker.level = 30;
        let waits: BTreeSet<Duration> = (0..40).map(|_| breaker.next_wait()).collect();
        assert!(waits.len() > 20, "{waits:?}");
        assert!(waits.first() >= Some(&(LONGEST * 3 / 4)) && waits.last() <= Some(&LONGEST));
    }

    #[test]
    fn waits_double_up_to_the_maximum() {
        let (mut breaker, mut now) = breaker();
        breaker.on_fault(now, Fault::NotConnected, now, false);
        let mut nominal = FIRST_WAIT;
        for _ in 0..20 {
            let left = breaker.left(now).unwrap();
            assert!(
                left >= nominal * 3 / 4 && left <= nominal,
                "{left:?} of {nominal:?}"
            );
            now += left;
            assert!(breaker.claim_probe(now, LEASE));
            breaker.on_probe_failed(now);
            nominal = (nominal * 2).min(LONGEST);
        }
        assert_eq!(nominal, LONGEST);
        assert!(breaker.on_probe_answered(now).is_some());
        // After a while in use the waits start over.
        now += SECOND * 2;
        breaker.on_fault(now, Fault::NotConnected, now, false);
        assert!(breaker.left(now).unwrap() <= FIRST_WAIT);
    }

    #[test]
    fn the_end_of_a_pause_of_up_to_two_seconds_is_detected_within_half_a_second() {
        let timeout = SECOND / 2;
        for seed in 0..1000_u64 {
            let (_, paused) = breaker();
            let mut breaker = Breaker::new(paused, LONGEST, seed * 7919);
            let back = paused + timeout + Duration::from_millis(seed * 3 / 2);
            let mut now = paused + timeout;
            breaker.on_fault(now, SILENT, paused, true);
            loop {
                now += breaker.left(now).unwrap();
                assert!(breaker.claim_probe(now, LEASE));
                if now + timeout >= back {
                    break;
                }
                now += timeout;
                breaker.on_probe_failed(now);
            }
            assert!(now <= back + SECOND / 2, "seed {seed}: {:?}", now - back);
        }
    }

    #[test]
    fn connections_lost_in_one_restart_count_as_one_strike() {
        let (mut breaker, now) = breaker();
        for _ in 0..10 {
            let verdict = breaker.on_fault(now + SECOND, Fault::Broken, now, true);
            assert_eq!(verdict, Verdict::Connection);
        }
    }

    #[test]
    fn a_few_consecutive_bad_connections_open_the_breaker() {
        let (mut breaker, mut now) = breaker();
        for _ in 0..2 {
            let verdict = breaker.on_fault(now + MS, Fault::Broken, now, true);
            assert_eq!(verdict, Verdict::Connection);
            now += MS * 2;
        }
        assert_eq!(
            breaker.on_fault(now + MS, Fault::Broken, now, true),
            Verdict::Open
        );
        // It responds to the probe, then fails again: the waits grow.
        let mut last = Duration::ZERO;
        for _ in 0..5 {
            let wait = breaker.left(now + MS).unwrap();
            assert!(wait > last, "{wait:?} after {last:?}");
            last = wait;
            now += wait + MS;
            assert!(breaker.claim_probe(now, LEASE));
            breaker.on_probe_answered(now);
            assert_eq!(
                breaker.on_fault(now + MS, Fault::Broken, now, true),
                Verdict::Open
            );
        }
    }

    #[test]
    fn a_server_that_has_returned_is_on_probation_for_a_while() {
        for (used, verdict) in [
            (SETTLED * 99 / 100, Verdict::Open),
            (SETTLED, Verdict::Connection),
        ] {
            let (mut breaker, now) = breaker();
            breaker.on_fault(now, Fault::NotConnected, now, false);
            breaker.on_probe_answered(now + SECOND);
            let end = now + SECOND + used;
            let found = breaker.on_fault(end, Fault::Broken, end - MS, false);
            assert_eq!(found, verdict, "after {used:?}");
        }
    }

    #[test]
    fn a_connection_opened_at_the_end_of_the_previous_one_counts() {
        let (mut breaker, mut now) = breaker();
        for verdict in [Verdict::Connection, Verdict::Connection, Verdict::Open] {
            let begun = now;
            now += MS;
            assert_eq!(breaker.on_fault(now, Fault::Broken, begun, true), verdict);
        }
    }

    #[test]
    fn a_server_that_is_silent_again_soon_after_its_return_is_not_probed_at_once() {
        let (mut breaker, now) = breaker();
        breaker.on_fault(now, SILENT, now, true);
        assert_eq!(breaker.left(now), Some(Duration::ZERO));
        let returned = now + MS;
        breaker.on_probe_answered(returned);
        breaker.on_fault(returned + MS, SILENT, returned, true);
        assert!(breaker.left(returned + MS).unwrap() >= FIRST_WAIT);
    }

    #[test]
    fn losses_of_long_lived_connections_do_not_add_up() {
        let (mut breaker, mut now) = breaker();
        for _ in 0..20 {
            let begun = now;
            now += SECOND * 2;
            let verdict = breaker.on_fault(now, Fault::Broken, begun, true);
            assert_eq!(verdict, Verdict::Connection);
            now += MS;
        }
    }

    #[test]
    fn connections_from_before_an_outage_are_ignored() {
        let (mut breaker, now) = breaker();
        breaker.on_fault(now + SECOND, Fault::NotConnected, now, false);
        breaker.on_probe_answered(now + SECOND * 2);
        let verdict = breaker.on_fault(now + SECOND * 3, SILENT, now, true);
        assert_eq!(verdict, Verdict::Connection);
    }

    #[test]
    fn the_longest_duration_does_not_overflow() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now, Duration::MAX, 0);
        breaker.on_fault(now, Fault::Denied, now, false);
        for _ in 0..100 {
            breaker.on_probe_failed(now);
        }
        assert!(breaker.left(now).unwrap() > LONGEST);
        let year = SECOND * 365 * 24 * 3600;
        assert!(later(now, Duration::MAX) > now + year * 50);
    }
}
