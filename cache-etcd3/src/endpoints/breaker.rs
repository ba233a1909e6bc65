//! [`Breaker`]: the circuit breaker of one endpoint. A plain type that takes the time as an
//! argument.
//!
//! It is closed while the endpoint is in use, and opened by evidence of failure. While it is open,
//! the endpoint is probed from time to time; any response closes it.

use std::time::Duration;

use tokio::time::Instant;

use crate::failure::Fault;

/// The time between probes of an endpoint that closed connections or was silent, while others are
/// available.
const RETRY: Duration = Duration::from_secs(5);

/// The same for an endpoint that refuses connections: such a probe is cheap.
const RETRY_UNREACHABLE: Duration = Duration::from_millis(250);

/// The same for an endpoint without a leader: elections take about as long.
const RETRY_NO_LEADER: Duration = Duration::from_secs(1);

/// The same for an endpoint that an operator has to correct: a learner, a member of another
/// cluster, or a server that is not etcd.
const RETRY_CORRECTED: Duration = Duration::from_secs(15);

/// The time between probes while no endpoint is available.
pub(crate) const RETRY_SOON: Duration = Duration::from_millis(250);

/// The same for an endpoint that refuses connections. In a rolling restart the first members may
/// be back by the time the last one stops.
const RETRY_UNREACHABLE_SOON: Duration = Duration::from_millis(10);

/// The time that an endpoint is given to respond: less is not evidence against it.
pub(crate) const FAIR: Duration = Duration::from_millis(500);

/// The total time that callers waited in vain, each for less than [`FAIR`], that is evidence.
const FAIR_IN_SUM: Duration = Duration::from_secs(2);

/// Older evidence has to be confirmed by a probe before a call is refused.
const FRESH: Duration = Duration::from_secs(1);

/// How long a call waits for the probe of an endpoint that has just gone down.
const PATIENCE: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    open: Option<Open>,
    probe: Option<Probe>,
    last_answer: Option<Instant>,
    /// The total time that callers waited in vain since the last response.
    in_vain: Duration,
    /// The time up to which `in_vain` is counted.
    counted: Option<Instant>,
}

/// The evidence against an endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// When the first of the requests that failed was sent.
    pub(crate) since: Instant,
    /// When the latest evidence was seen.
    pub(crate) last: Instant,
    pub(crate) retry_at: Instant,
    pub(crate) fault: Fault,
    /// What happened.
    pub(crate) message: String,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    began: Instant,
    /// The evidence was old when the probe began, so its outcome decides whether calls fail.
    decides: bool,
}

/// Whether a connection has worked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// It has not carried a response yet.
    Fresh,
    /// It has, so a fault may affect only this connection.
    Proven,
}

impl Breaker {
    pub(crate) fn open(&self) -> Option<&Open> {
        self.open.as_ref()
    }

    /// Records a response. Returns how long the endpoint was out of use, if it was.
    pub(crate) fn answered(&mut self, now: Instant) -> Option<Duration> {
        self.last_answer = Some(now);
        self.in_vain = Duration::ZERO;
        self.counted = None;
        self.probe = None;
        let open = self.open.take()?;
        Some(now.saturating_duration_since(open.since))
    }

    /// Records the failure of a request sent at `sent`. Returns whether the endpoint goes out of
    /// use.
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
            // Connections end occasionally; a new one shows whether the endpoint is well.
            Fault::Broken if is_proven && self.open.is_none() => return false,
            Fault::Silent if self.has_answered_since(sent) => return false,
            // A firewall may have dropped the connection: probe over a new one immediately.
            Fault::Silent if is_proven && self.open.is_none() => Duration::ZERO,
            Fault::Broken | Fault::Silent => RETRY,
            Fault::Unreachable => RETRY_UNREACHABLE,
            Fault::NoLeader => RETRY_NO_LEADER,
            Fault::Learner | Fault::Foreign | Fault::NotEtcd => RETRY_CORRECTED,
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

    /// Records a caller that left without a response. Returns whether the endpoint goes out of
    /// use.
    pub(crate) fn given_up(&mut self, now: Instant, sent: Instant, connection: Connection) -> bool {
        if self.has_answered_since(sent) {
            return false;
        }
        let waited = now.saturating_duration_since(sent);
        if self.open.is_some() {
            // A probe over a new connection confirms the evidence. Without this every call would
            // wait for another probe.
            if connection == Connection::Fresh && waited >= FAIR {
                let message = format!("no response within {waited:.1?}");
                self.failed(now, sent, connection, Fault::Silent, &message);
            }
            return false;
        }
        let from = self.counted.map_or(sent, |counted| counted.max(sent));
        self.in_vain += now.saturating_duration_since(from);
        self.counted = Some(now);
        if waited < FAIR && self.in_vain < FAIR_IN_SUM {
            return false;
        }
        let message = format!("no response within {:.1?}", waited.max(self.in_vain));
        self.failed(now, sent, connection, Fault::Silent, &message)
    }

    fn has_answered_since(&self, sent: Instant) -> bool {
        self.last_answer.is_some_and(|answer| answer >= sent)
    }

    /// When the next probe may begin if it is open. `needed`: no other endpoint is available.
    pub(crate) fn probe_at(&self, needed: bool) -> Option<Instant> {
        let open = self.open.as_ref()?;
        if !needed {
            return Some(open.retry_at);
        }
        let soon = match open.fault {
            Fault::Unreachable => RETRY_UNREACHABLE_SOON,
            _ => RETRY_SOON,
        };
        Some(open.retry_at.min(open.last + soon))
    }

    /// Begins a probe if it is time for one. `needed`: no other endpoint is available. A probe
    /// that takes longer than `lost_after` is considered lost.
    pub(crate) fn begin_probe(&mut self, now: Instant, needed: bool, lost_after: Duration) -> bool {
        let (Some(open), Some(probe_at)) = (&self.open, self.probe_at(needed)) else {
            return false;
        };
        if self
            .probe
            .is_some_and(|probe| now < probe.began + lost_after)
        {
            return false;
        }
        if now < probe_at {
            return false;
        }
        let decides = now > open.last + FRESH;
        self.probe = Some(Probe {
            began: now,
            decides,
        });
        true
    }

    /// Something has changed: the next probe may begin at once.
    pub(crate) fn probe_soon(&mut self, now: Instant) {
        if let Some(open) = &mut self.open {
            open.retry_at = now;
        }
    }

    /// The probe has ended, with whatever outcome.
    pub(crate) fn end_probe(&mut self) {
        self.probe = None;
    }

    /// How long a call without another endpoint waits for the probe, if at all: the evidence is
    /// old, or the probe has just begun.
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
    fn any_response_closes_it() {
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
    fn silence_is_not_a_fault_while_other_requests_get_responses() {
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
    fn callers_that_give_up_are_evidence_if_they_waited_long_enough() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        assert!(!breaker.given_up(start + FAIR / 2, start, Connection::Proven));
        assert!(breaker.given_up(start + 2 * FAIR, start + FAIR, Connection::Proven));

        // Many short waits at the same time count as one.
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
    fn a_fault_on_a_proven_connection_is_probed_at_once() {
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
    fn a_lost_probe_is_repeated() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        silent(&mut breaker, start, start, Connection::Fresh);
        assert!(breaker.begin_probe(start + RETRY, false, LOST));
        assert!(!breaker.begin_probe(start + RETRY + LOST / 2, false, LOST));
        assert!(breaker.begin_probe(start + RETRY + LOST, false, LOST));
    }

    #[test]
    fn calls_wait_for_a_probe_if_the_evidence_is_old() {
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
