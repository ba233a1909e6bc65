//! The circuit breaker of one server: what speaks against it, when it is left alone, and when it
//! is tried again. Given the time; does nothing by itself.

use std::time::Duration;

use tokio::time::Instant;

/// The first wait before a server that failed is tried again. Each further one is twice as long,
/// up to `dead_retry`.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// So many connections that end badly, one after the other, speak against a server.
const STRIKES: u32 = 3;

/// A connection that lived for so long, and a server that was in use for so long, are well.
pub(super) const SETTLED: Duration = Duration::from_secs(1);

/// What happened to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It could not be opened.
    NotConnected,
    /// Nothing came, or hardly anything, for too long. `others_answer`: something came over
    /// another connection meanwhile.
    Silent { others_answer: bool },
    /// It ended by itself, or what came made no sense.
    Broken,
    /// The server refuses name and password.
    Denied,
}

/// What a fault means for the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Only this connection is affected.
    Connection,
    /// The server is left alone from now on.
    Open,
    /// It was left alone already.
    StillOpen,
}

#[derive(Debug)]
pub(crate) struct Breaker {
    /// The longest wait: `dead_retry`.
    longest: Duration,
    state: State,
    /// Connections that ended badly, one after the other.
    strikes: u32,
    last_strike: Option<Instant>,
    /// How often in a row the server was left alone or tried in vain.
    level: u32,
    random: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In use, since.
    Closed(Instant),
    Open {
        since: Instant,
        /// When it is tried again.
        until: Instant,
    },
}

impl Breaker {
    /// The breaker of a server that nothing speaks against. `seed` spreads the waits of many
    /// processes.
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

    /// How long it is until the server is tried again.
    pub(crate) fn left(&self, now: Instant) -> Option<Duration> {
        match self.state {
            State::Closed(_) => None,
            State::Open { until, .. } => Some(until.saturating_duration_since(now)),
        }
    }

    /// A connection that was begun at `begun` failed; `has_answered` if it was of use before.
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
        if begun < since && self.level > 0 {
            // It is from the time before the server was left alone.
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
        // A server that is silent may have lost a single connection: ask it at once.
        let wait = match fault {
            Fault::Silent { .. } if self.level == 0 => Duration::ZERO,
            _ => self.next_wait(),
        };
        self.level = self.level.saturating_add(1);
        self.state = State::Open {
            since: now,
            until: later(now, wait),
        };
        Verdict::Open
    }

    /// Counts a connection that ended badly. Whether that is too many in a row.
    fn strike(&mut self, now: Instant, begun: Instant, has_answered: bool, since: Instant) -> bool {
        // Connections that existed side by side end together: a server that is restarted ends
        // them all.
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
        // One that has just been given another chance has no more than that.
        let is_on_probation = self.level > 0 && now.saturating_duration_since(since) < SETTLED;
        self.strikes >= STRIKES || is_on_probation
    }

    /// Whether the caller is to try the server now. Of all who ask at its time, one is told so;
    /// if nothing is heard of that one within `lease`, the next.
    pub(crate) fn claim_probe(&mut self, now: Instant, lease: Duration) -> bool {
        match &mut self.state {
            State::Open { until, .. } if *until <= now => {
                *until = later(now, lease);
                true
            }
            _ => false,
        }
    }

    /// The server was tried, in vain.
    pub(crate) fn on_probe_failed(&mut self, now: Instant) {
        let wait = self.next_wait();
        if let State::Open { until, .. } = &mut self.state {
            *until = later(now, wait);
            self.level = self.level.saturating_add(1);
        }
    }

    /// The server was tried, and is well. For how long it had been left alone.
    pub(crate) fn on_probe_answered(&mut self, now: Instant) -> Option<Duration> {
        let State::Open { since, .. } = self.state else {
            return None;
        };
        self.state = State::Closed(now);
        self.strikes = 0;
        self.last_strike = None;
        Some(now.saturating_duration_since(since))
    }

    /// Twice the wait before, give or take a quarter.
    fn next_wait(&mut self) -> Duration {
        let level = self.level.min(30);
        let wait = FIRST_WAIT.saturating_mul(1 << level).min(self.longest);
        // Xorshift: the quality of these numbers matters to nobody.
        self.random = self.random.max(1);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let quarters = u32::try_from(self.random >> 40 & 0xff).unwrap_or(0);
        // From 0.75 to 1.
        (wait * 3 / 4).saturating_add(wait / 4 * quarters / 255)
    }
}

/// The time after `wait`; beyond the clock's range, a century.
pub(super) fn later(now: Instant, wait: Duration) -> Instant {
    let century = Duration::from_secs(100 * 365 * 24 * 3600);
    now.checked_add(wait).unwrap_or_else(|| now + century)
}

#[cfg(test)]
mod tests {
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
    fn one_silent_connection_of_a_server_that_answers_is_replaced() {
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
    fn a_silent_server_is_left_alone_and_asked_at_once_by_one() {
        let (mut breaker, now) = breaker();
        assert_eq!(breaker.on_fault(now, SILENT, now, true), Verdict::Open);
        assert_eq!(breaker.on_fault(now, SILENT, now, true), Verdict::StillOpen);
        assert!(breaker.claim_probe(now, LEASE));
        assert!(!breaker.claim_probe(now, LEASE));
        assert!(!breaker.claim_probe(now + LEASE - MS, LEASE));
        assert!(
            breaker.claim_probe(now + LEASE, LEASE),
            "the first was never heard of"
        );
        assert_eq!(breaker.on_probe_answered(now + LEASE), Some(LEASE));
        assert!(!breaker.is_open());
    }

    #[test]
    fn the_waits_double_up_to_the_longest() {
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
        // After a while in use it begins anew.
        now += SECOND * 2;
        breaker.on_fault(now, Fault::NotConnected, now, false);
        assert!(breaker.left(now).unwrap() <= FIRST_WAIT);
    }

    #[test]
    fn a_pause_of_up_to_two_seconds_is_noticed_to_be_over_within_half_a_second() {
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
    fn a_restart_ends_all_connections_and_is_one_strike() {
        let (mut breaker, now) = breaker();
        for _ in 0..10 {
            let verdict = breaker.on_fault(now + SECOND, Fault::Broken, now, true);
            assert_eq!(verdict, Verdict::Connection);
        }
    }

    #[test]
    fn a_few_bad_connections_in_a_row_open_it() {
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
        // It answers the probe, and goes on as before: the waits grow.
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
    fn connections_that_lived_well_are_not_added_up() {
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
    fn what_is_left_of_the_time_before_says_nothing() {
        let (mut breaker, now) = breaker();
        breaker.on_fault(now + SECOND, Fault::NotConnected, now, false);
        breaker.on_probe_answered(now + SECOND * 2);
        let verdict = breaker.on_fault(now + SECOND * 3, SILENT, now, true);
        assert_eq!(verdict, Verdict::Connection);
    }

    #[test]
    fn the_longest_of_times_is_no_overflow() {
        let now = Instant::now();
        let mut breaker = Breaker::new(now, Duration::MAX, 0);
        breaker.on_fault(now, Fault::Denied, now, false);
        for _ in 0..100 {
            breaker.on_probe_failed(now);
        }
        assert!(breaker.left(now).unwrap() > LONGEST);
    }
}
