//! [`Breaker`]: whether one endpoint is fit for use. A plain type that is told the time.
//!
//! It is closed while the endpoint is in use, and opened by evidence against it. While it is
//! open, probes ask the endpoint now and then; any answer closes it.

use std::time::Duration;

use tokio::time::Instant;

use crate::failure::Fault;

/// How long an endpoint that broke or was silent is left alone, while there are others.
const RETRY: Duration = Duration::from_secs(5);

/// The same for one that no connection can be made to: it costs next to nothing to ask.
const RETRY_UNREACHABLE: Duration = Duration::from_millis(250);

/// The same for one without a leader: elections take about as long.
const RETRY_NO_LEADER: Duration = Duration::from_secs(1);

/// The same for a learner: somebody has to promote it.
const RETRY_LEARNER: Duration = Duration::from_secs(15);

/// The time after which any endpoint is asked again when there is no better one.
pub(crate) const RETRY_SOON: Duration = Duration::from_millis(250);

/// The same for one that no connection could be made to. Members that are restarted one after the
/// other may each be back by the time that the last of them goes.
const RETRY_UNREACHABLE_SOON: Duration = Duration::from_millis(10);

/// Only what an endpoint did not do within a time that is fair is evidence against it.
pub(crate) const FAIR: Duration = Duration::from_millis(500);

/// So long callers have to have waited in vain, each for less than what is fair.
const FAIR_IN_SUM: Duration = Duration::from_secs(2);

/// Evidence that is older, and that nobody has followed up, is no reason to refuse a call.
const FRESH: Duration = Duration::from_secs(1);

/// For how long a call waits for the probe of an endpoint that was found to be down just now.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    open: Option<Open>,
    probe: Option<Probe>,
    last_answer: Option<Instant>,
    /// For how long callers have waited since the last answer who gave up before long.
    in_vain: Duration,
    /// Up to when that is counted.
    counted: Option<Instant>,
}

/// The evidence against an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// When the first of the requests that failed was sent.
    pub(crate) since: Instant,
    /// When the last of the evidence came.
    pub(crate) last: Instant,
    pub(crate) retry_at: Instant,
    pub(crate) fault: Fault,
    /// What happened, in words.
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    began: Instant,
    /// The evidence was old when it began, so it decides whether calls are refused.
    decides: bool,
}

/// What an endpoint's connection has shown so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// It has not carried an answer yet.
    Fresh,
    /// It has, so a fault may be the connection's alone.
    Proven,
}

impl Breaker {
    pub(crate) fn open(&self) -> Option<&Open> {
        self.open.as_ref()
    }

    /// The endpoint answered. If it was left alone: for how long.
    pub(crate) fn answered(&mut self, now: Instant) -> Option<Duration> {
        self.last_answer = Some(now);
        self.in_vain = Duration::ZERO;
        self.counted = None;
        self.probe = None;
        let open = self.open.take()?;
        Some(now.saturating_duration_since(open.since))
    }

    /// A request that was sent at `sent` met with a fault. Whether the endpoint is left alone
    /// from now on.
    pub(crate) fn failed(
        &mut self,
        now: Instant,
        sent: Instant,
        connection: Connection,
        fault: Fault,
        message: &str,
    ) -> bool {
        let is_proven = connection == Connection::Proven;
        let retry_in = match fault {
            // A connection ends now and then. A new one will tell.
            Fault::Broken if is_proven && self.open.is_none() => return false,
            Fault::Silent if self.has_answered_since(sent) => return false,
            // A firewall may have forgotten the connection: a new one is tried at once.
            Fault::Silent if is_proven && self.open.is_none() => Duration::ZERO,
            Fault::Broken | Fault::Silent => RETRY,
            Fault::Unreachable => RETRY_UNREACHABLE,
            Fault::NoLeader => RETRY_NO_LEADER,
            Fault::Learner => RETRY_LEARNER,
        };
        let since = self.open.as_ref().map_or(sent, |open| open.since.min(sent));
        let is_new = self.open.is_none();
        self.open = Some(Open {
            since,
            last: now,
            retry_at: now + retry_in,
            fault,
            message: message.to_owned(),
        });
        is_new
    }

    /// A caller went away without an answer. Whether the endpoint is left alone from now on.
    pub(crate) fn given_up(&mut self, now: Instant, sent: Instant, connection: Connection) -> bool {
        if self.open.is_some() || self.has_answered_since(sent) {
            return false;
        }
        let from = self.counted.map_or(sent, |counted| counted.max(sent));
        self.in_vain += now.saturating_duration_since(from);
        self.counted = Some(now);
        let waited = now.saturating_duration_since(sent);
        if waited < FAIR && self.in_vain < FAIR_IN_SUM {
            return false;
        }
        let message = format!("no answer within {:.1?}", waited.max(self.in_vain));
        self.failed(now, sent, connection, Fault::Silent, &message)
    }

    fn has_answered_since(&self, sent: Instant) -> bool {
        self.last_answer.is_some_and(|answer| answer >= sent)
    }

    /// Begins a probe if one is due; `needed`: no other endpoint is fit for use. A probe that
    /// takes longer than `lost_after` is none any more.
    pub(crate) fn begin_probe(&mut self, now: Instant, needed: bool, lost_after: Duration) -> bool {
        let Some(open) = &self.open else {
            return false;
        };
        if self
            .probe
            .is_some_and(|probe| now < probe.began + lost_after)
        {
            return false;
        }
        let soon = match open.fault {
            Fault::Unreachable => RETRY_UNREACHABLE_SOON,
            _ => RETRY_SOON,
        };
        if now < open.retry_at && !(needed && now >= open.last + soon) {
            return false;
        }
        let decides = now > open.last + FRESH;
        self.probe = Some(Probe {
            began: now,
            decides,
        });
        true
    }

    /// The probe has ended, whatever came of it.
    pub(crate) fn end_probe(&mut self) {
        self.probe = None;
    }

    /// Until when a call that has no other endpoint waits for the probe, at least: the evidence
    /// is old, or the probe has begun just now.
    pub(crate) fn worth_waiting(&self, now: Instant) -> Option<Instant> {
        let probe = self.probe?;
        if probe.decides {
            return Some(now + RETRY_SOON);
        }
        let until = probe.began + PATIENCE;
        (now < until).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const LOST: Duration = Duration::from_secs(5);

    fn silent(breaker: &mut Breaker, now: Instant, sent: Instant, connection: Connection) -> bool {
        breaker.failed(now, sent, connection, Fault::Silent, "silent")
    }

    #[test]
    fn any_answer_closes_it() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let fresh = Connection::Fresh;
        assert!(silent(&mut breaker, start + SECOND, start, fresh));
        assert!(!silent(&mut breaker, start + 2 * SECOND, start, fresh));
        assert_eq!(breaker.open().unwrap().since, start);
        assert_eq!(breaker.answered(start + 3 * SECOND), Some(3 * SECOND));
        assert!(breaker.open().is_none());
        assert_eq!(breaker.answered(start + 4 * SECOND), None);
    }

    #[test]
    fn silence_is_no_fault_while_others_are_answered() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        breaker.answered(start + SECOND);
        assert!(!silent(
            &mut breaker,
            start + 2 * SECOND,
            start,
            Connection::Fresh
        ));
        assert!(!breaker.given_up(start + 2 * SECOND, start, Connection::Proven));
        assert!(breaker.open().is_none());
    }

    #[test]
    fn callers_that_give_up_leave_evidence_if_they_waited_for_long() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        assert!(!breaker.given_up(start + FAIR / 2, start, Connection::Proven));
        assert!(breaker.given_up(start + 2 * FAIR, start + FAIR, Connection::Proven));

        // Many for little each, at the same time: that is as long as one.
        let mut breaker = Breaker::default();
        for _ in 0..1000 {
            assert!(!breaker.given_up(start + FAIR / 2, start, Connection::Proven));
        }
        // One after another, with pauses between them.
        let mut opened = 0;
        for i in 1..=20 {
            let sent = start + i * 100 * SECOND;
            opened += u32::from(breaker.given_up(sent + FAIR / 2, sent, Connection::Proven));
        }
        assert_eq!(opened, 1);
    }

    #[test]
    fn a_fault_of_an_old_connection_is_followed_up_at_once() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        let broken = |breaker: &mut Breaker, connection| {
            breaker.failed(start, start, connection, Fault::Broken, "broken")
        };
        assert!(!broken(&mut breaker, Connection::Proven));
        assert!(broken(&mut breaker, Connection::Fresh));

        let mut breaker = Breaker::default();
        assert!(silent(&mut breaker, start, start, Connection::Proven));
        assert!(breaker.begin_probe(start, false, LOST));
        assert!(!breaker.begin_probe(start, false, LOST), "one at a time");
        // The new connection is silent, too.
        assert!(!silent(
            &mut breaker,
            start + SECOND,
            start,
            Connection::Fresh
        ));
        breaker.end_probe();
        assert!(!breaker.begin_probe(start + SECOND, false, LOST));
        assert!(breaker.begin_probe(start + SECOND + RETRY_SOON, true, LOST));
        breaker.end_probe();
        assert!(breaker.begin_probe(start + SECOND + RETRY, false, LOST));
    }

    #[test]
    fn a_probe_that_is_lost_is_made_again() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        silent(&mut breaker, start, start, Connection::Fresh);
        assert!(breaker.begin_probe(start + RETRY, false, LOST));
        assert!(!breaker.begin_probe(start + RETRY + LOST / 2, false, LOST));
        assert!(breaker.begin_probe(start + RETRY + LOST, false, LOST));
    }

    #[test]
    fn a_probe_is_waited_for_if_the_evidence_is_old() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        silent(&mut breaker, start, start, Connection::Fresh);
        let soon = start + RETRY_SOON;
        assert!(breaker.begin_probe(soon, true, LOST));
        assert_eq!(breaker.worth_waiting(soon), Some(soon + PATIENCE));
        assert_eq!(breaker.worth_waiting(soon + PATIENCE), None);
        breaker.end_probe();
        assert_eq!(breaker.worth_waiting(soon), None);
        let late = start + FRESH + SECOND;
        assert!(breaker.begin_probe(late, true, LOST));
        assert!(breaker.worth_waiting(late + PATIENCE).is_some());
    }
}
