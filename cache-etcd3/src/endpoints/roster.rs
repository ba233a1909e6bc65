//! [`Roster`]: which endpoint a request goes to, which ones are probed, and when a call fails
//! because none is available. A plain type that takes the time as an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::breaker::{Breaker, Connection, Open};
use super::clusters::{ClusterId, Clusters, Verdict};
use super::pace::{Pace, Purpose};
use crate::events::Change;
use crate::failure::{Failure, Fault, Next};

/// The first attempt may take a quarter of the call's timeout, within these limits.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(500);
const LONGEST_ATTEMPT: Duration = Duration::from_secs(2);

/// A probe that has not reported its outcome this long after its timeout is considered lost.
const LOST: Duration = Duration::from_secs(1);

/// Every so many requests, the next endpoint in turn is used, so that response times remain known.
const EXPLORED: usize = 31;

/// The endpoints, of which the fastest is used; failed ones are out of use until a probe succeeds.
#[derive(Debug)]
pub(crate) struct Roster {
    members: Vec<Member>,
    clusters: Clusters,
    turn: usize,
    chosen: usize,
    /// Calls fail immediately once all endpoints have failed for this long.
    call_timeout: Duration,
    /// How long the first attempt may take.
    attempt: Duration,
}

#[derive(Debug)]
struct Member {
    url: String,
    breaker: Breaker,
    reads: Pace,
    writes: Pace,
    /// It has responded before, so it is etcd and its TLS setting is right.
    has_answered: bool,
}

/// What a call does next.
#[derive(Clone, Debug)]
pub(crate) enum Choice {
    /// Send the request to this endpoint.
    Use(usize),
    /// Choose again when the state of an endpoint changes, at the latest at this time.
    Wait(Instant),
    /// Fail the call.
    Refuse(Failure),
}

impl Roster {
    pub(crate) fn new(urls: Vec<String>, call_timeout: Duration) -> Self {
        let member = |url| Member {
            url,
            breaker: Breaker::default(),
            reads: Pace::default(),
            writes: Pace::default(),
            has_answered: false,
        };
        Self {
            clusters: Clusters::new(urls.len()),
            members: urls.into_iter().map(member).collect(),
            turn: 0,
            chosen: 0,
            call_timeout,
            attempt: (call_timeout / 4).clamp(SHORTEST_ATTEMPT, LONGEST_ATTEMPT),
        }
    }

    pub(crate) fn url(&self, at: usize) -> &str {
        self.members.get(at).map_or("", |member| &member.url)
    }

    /// The addresses of all endpoints, for messages, with the faults of those out of use.
    pub(crate) fn urls(&self) -> String {
        let shown = |member: &Member| match member.breaker.open() {
            Some(open) => format!("{} (out of use: {})", member.url, open.message),
            None => member.url.clone(),
        };
        let urls: Vec<String> = self.members.iter().map(shown).collect();
        urls.join(", ")
    }

    /// The state of an endpoint that is out of use.
    pub(crate) fn open(&self, at: usize) -> Option<&Open> {
        self.members.get(at)?.breaker.open()
    }

    /// How long the next attempt of a call may take after `attempts`: each may take longer than
    /// the one before, since all endpoints may be slow.
    pub(crate) fn limit(&self, attempts: u32) -> Duration {
        self.attempt * 2_u32.saturating_pow(attempts.min(16))
    }

    /// How long a probe may take. Calls wait for it only if no other endpoint is available.
    #[expect(clippy::unused_self)]
    pub(crate) fn probe_limit(&self) -> Duration {
        LONGEST_ATTEMPT
    }

    fn are_all_down(&self) -> bool {
        let mut members = self.members.iter();
        members.all(|member| member.breaker.open().is_some())
    }

    /// The time until the next probe of an endpoint that is out of use.
    pub(crate) fn probe_in(&self, now: Instant, at: usize) -> Option<Duration> {
        let breaker = &self.members.get(at)?.breaker;
        let probe_at = breaker.probe_at(self.are_all_down())?;
        Some(probe_at.saturating_duration_since(now))
    }

    /// The endpoints to probe now. The caller must report the outcome of each probe.
    pub(crate) fn begin_probes(&mut self, now: Instant) -> Vec<usize> {
        let needed = self.are_all_down();
        let lost_after = self.probe_limit() + LOST;
        let members = self.members.iter_mut().enumerate();
        members
            .filter_map(|(at, member)| {
                let begins = member.breaker.begin_probe(now, needed, lost_after);
                begins.then_some(at)
            })
            .collect()
    }

    /// The endpoint in use that is expected to respond first, or from time to time the next one in
    /// turn; another than `asked` if possible.
    ///
    /// If there is none, the call waits while the fault may be short, and fails once it lasts.
    pub(crate) fn choose(
        &mut self,
        now: Instant,
        purpose: Purpose,
        asked: Option<usize>,
    ) -> Choice {
        let count = self.members.len().max(1);
        self.chosen += 1;
        let explores = self.chosen >= EXPLORED;
        if explores {
            self.chosen = 0;
            self.turn = (self.turn + 1) % count;
        }
        let in_turn = (self.turn..self.turn + count).map(|at| at % count);
        let fit = in_turn.filter(|at| self.open(*at).is_none());
        let best = fit.min_by_key(|at| {
            let expected = self
                .members
                .get(*at)
                .map(|it| it.pace(purpose).expected(now));
            let expected = expected.filter(|_| !explores);
            (Some(*at) == asked, expected)
        });
        if let Some(at) = best {
            return Choice::Use(at);
        }
        if !self.is_hopeless(now) {
            return Choice::Wait(now + super::breaker::RETRY_SOON);
        }
        let breakers = self.members.iter().map(|member| &member.breaker);
        match breakers.filter_map(|it| it.worth_waiting(now)).max() {
            Some(until) => Choice::Wait(until),
            None => Choice::Refuse(self.all_down(now)),
        }
    }

    /// A request is sent. Its end must be recorded with [`ended`](Self::ended). Returns how long it
    /// may take.
    pub(crate) fn begins(
        &mut self,
        now: Instant,
        at: usize,
        purpose: Purpose,
        attempts: u32,
    ) -> Duration {
        if let Some(member) = self.members.get_mut(at) {
            member.pace_mut(purpose).sent(now);
        }
        self.limit(attempts)
    }

    /// A request has ended, after `took` if with a response.
    pub(crate) fn ended(
        &mut self,
        now: Instant,
        at: usize,
        purpose: Purpose,
        took: Option<Duration>,
    ) {
        if let Some(member) = self.members.get_mut(at) {
            member.pace_mut(purpose).ended(now, took);
        }
    }

    /// Records a response of an endpoint, which may be an error; `cluster` is the one that it
    /// names, if any. Fails if it is not from the cluster that is used.
    pub(crate) fn answered(
        &mut self,
        now: Instant,
        at: usize,
        cluster: Option<ClusterId>,
    ) -> (Result<(), Failure>, Option<Change>) {
        match cluster.map(|id| (id, self.clusters.responded(at, id))) {
            Some((id, Verdict::Foreign { used })) => {
                let (failure, change) = self.is_foreign(now, at, id, used);
                return (Err(failure), change);
            }
            Some((_, Verdict::Moved)) => self.probe_members(now),
            // An error names no cluster. The endpoint may be used if it is the only one left: its
            // next response shows whether it has moved.
            None if self.is_out_as_foreign(at) && !self.are_all_down() => {
                return (Ok(()), None);
            }
            Some((_, Verdict::Member)) | None => {}
        }
        let Some(member) = self.members.get_mut(at) else {
            return (Ok(()), None);
        };
        member.has_answered = true;
        let after = member.breaker.answered(now);
        (Ok(()), after.map(|after| Change::Up { after }))
    }

    /// Takes an endpoint of another cluster out of use.
    fn is_foreign(
        &mut self,
        now: Instant,
        at: usize,
        id: ClusterId,
        used: ClusterId,
    ) -> (Failure, Option<Change>) {
        let mut others = self.members.iter().enumerate();
        let other = others.find(|(other, _)| self.clusters.is_member(*other));
        let other = match other {
            Some((_, member)) => format!("{} is one of {used:x}", member.url),
            None => format!("the others were members of {used:x}"),
        };
        let message = format!(
            "it is a member of the cluster {id:x}, and {other}; `endpoints` must be the members of \
             one cluster"
        );
        self.failed(now, at, now, Connection::Fresh, Fault::Foreign, message)
    }

    fn is_out_as_foreign(&self, at: usize) -> bool {
        self.open(at)
            .is_some_and(|open| open.fault == Fault::Foreign)
    }

    /// The endpoints have moved to another cluster: those that were out of use because they belong
    /// to it are probed immediately.
    fn probe_members(&mut self, now: Instant) {
        for (at, member) in self.members.iter_mut().enumerate() {
            if self.clusters.is_member(at) {
                member.breaker.probe_soon(now);
            }
        }
    }

    /// Records the failure of a request that was sent at `sent`. Returns the failure to report to
    /// the caller.
    pub(crate) fn failed(
        &mut self,
        now: Instant,
        at: usize,
        sent: Instant,
        connection: Connection,
        fault: Fault,
        message: String,
    ) -> (Failure, Option<Change>) {
        let Some(member) = self.members.get_mut(at) else {
            return (Failure::new(Next::Elsewhere(fault), message), None);
        };
        let (fault, message) = member.judge(fault, message);
        let failure = Failure::new(Next::Elsewhere(fault), message);
        let is_new = member
            .breaker
            .failed(now, sent, connection, fault, &failure.message);
        (failure, self.change(now, at, is_new))
    }

    /// Records an attempt without a response in time. Returns the failure to report to the caller.
    pub(crate) fn late(
        &mut self,
        now: Instant,
        at: usize,
        sent: Instant,
        connection: Connection,
    ) -> (Failure, Option<Change>) {
        let waited = now.saturating_duration_since(sent);
        let message = format!("no response within {waited:.1?}");
        let message = match self.members.get(at) {
            Some(member) => member.doubt(message),
            None => message,
        };
        let failure = Failure::new(Next::Late, message);
        (failure, self.given_up(now, at, sent, connection))
    }

    /// Records a caller that left without a response.
    pub(crate) fn given_up(
        &mut self,
        now: Instant,
        at: usize,
        sent: Instant,
        connection: Connection,
    ) -> Option<Change> {
        let member = self.members.get_mut(at)?;
        let is_new = member.breaker.given_up(now, sent, connection);
        self.change(now, at, is_new)
    }

    /// The change to report if an endpoint has just gone out of use.
    fn change(&self, now: Instant, at: usize, is_new: bool) -> Option<Change> {
        let open = self.open(at).filter(|_| is_new)?;
        Some(Change::Down {
            reason: Failure::new(Next::Elsewhere(open.fault), open.message.clone()),
            retry_in: self.probe_in(now, at)?,
        })
    }

    /// A probe has ended, with whatever outcome.
    pub(crate) fn end_probe(&mut self, at: usize) {
        if let Some(member) = self.members.get_mut(at) {
            member.breaker.end_probe();
        }
    }

    /// Whether no endpoint has responded for `call_timeout`, or all refuse requests.
    fn is_hopeless(&self, now: Instant) -> bool {
        let open = || {
            self.members
                .iter()
                .filter_map(|member| member.breaker.open())
        };
        let since = open().map(|open| open.since).max();
        let is_long =
            since.is_some_and(|since| now.saturating_duration_since(since) >= self.call_timeout);
        is_long || open().all(|open| open.fault.is_refusal())
    }

    /// Names each endpoint and its fault.
    fn all_down(&self, now: Instant) -> Failure {
        let mut words = Vec::new();
        // Being another server is reported as such only if all are.
        let mut fault = Fault::NotEtcd;
        for member in &self.members {
            if let Some(open) = member.breaker.open() {
                let ago = now.saturating_duration_since(open.last);
                words.push(format!("{}: {} ({ago:.1?} ago)", member.url, open.message));
                if open.fault != Fault::NotEtcd {
                    fault = open.fault;
                }
            }
        }
        let words = words.join("; ");
        Failure::new(
            Next::Elsewhere(fault),
            format!("no etcd endpoint is available: {words}; later calls probe them again"),
        )
    }
}

impl Member {
    fn pace(&self, purpose: Purpose) -> &Pace {
        match purpose {
            Purpose::Read => &self.reads,
            Purpose::Write => &self.writes,
        }
    }

    fn pace_mut(&mut self, purpose: Purpose) -> &mut Pace {
        match purpose {
            Purpose::Read => &mut self.reads,
            Purpose::Write => &mut self.writes,
        }
    }

    /// Reassesses the fault of an endpoint that has never responded: it may not be etcd, or the
    /// TLS setting may be wrong. If it closes connections, new ones do not help.
    fn judge(&self, fault: Fault, message: String) -> (Fault, String) {
        let is_connected = matches!(fault, Fault::Broken | Fault::Silent);
        if !is_connected || self.has_answered {
            return (fault, message);
        }
        let fault = match fault {
            Fault::Broken => Fault::Unreachable,
            other => other,
        };
        (fault, self.doubt(message))
    }

    fn doubt(&self, message: String) -> String {
        if self.has_answered {
            return message;
        }
        let tls = if self.url.starts_with("https:") {
            "does it use TLS? `tls_enabled` is set; does it require `tls_certfile`?"
        } else {
            "does it use TLS? `tls_enabled` is not set"
        };
        format!("{message}; is it etcd, and {tls}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::breaker::RETRY_SOON;
    use super::*;

    fn refused(roster: &mut Roster, now: Instant, at: usize) {
        let fault = Fault::Unreachable;
        roster.failed(now, at, now, Connection::Fresh, fault, "refused".into());
    }

    #[test]
    fn after_a_rolling_restart_members_are_probed_before_a_call_fails() {
        const MS: Duration = Duration::from_millis(1);
        let urls = (0..3).map(|at| format!("http://m{at}")).collect();
        let mut roster = Roster::new(urls, Duration::from_secs(5));
        let mut now = Instant::now();
        refused(&mut roster, now, 0);
        now += 20 * MS;
        refused(&mut roster, now, 1);
        now += 20 * MS;
        refused(&mut roster, now, 2);
        // The first two may be back.
        assert_eq!(roster.begin_probes(now), [0, 1]);
        let choose = |roster: &mut Roster, now| roster.choose(now, Purpose::Read, Some(2));
        assert!(matches!(choose(&mut roster, now), Choice::Wait(_)));
        let _ = roster.answered(now + MS, 1, None);
        assert!(matches!(choose(&mut roster, now + MS), Choice::Use(1)));
    }

    #[test]
    fn the_fastest_endpoint_is_used_and_the_others_are_measured() {
        const MS: Duration = Duration::from_millis(1);
        let urls = (0..3).map(|at| format!("http://m{at}")).collect();
        let mut roster = Roster::new(urls, Duration::from_secs(5));
        let mut now = Instant::now();
        let mut used = [0; 3];
        for _ in 0..1000 {
            let Choice::Use(at) = roster.choose(now, Purpose::Read, None) else {
                panic!("all are in use");
            };
            used[at] += 1;
            roster.begins(now, at, Purpose::Read, 0);
            let took = [3 * MS, MS, 2 * MS][at];
            now += took;
            roster.ended(now, at, Purpose::Read, Some(took));
        }
        assert!(used[1] > 900 && used[0] > 5 && used[2] > 5, "{used:?}");

        // While the fastest one is silent, others are used; and for a second attempt.
        let choose = |roster: &mut Roster, now, asked| {
            // Not an exploration.
            roster.chosen = 0;
            match roster.choose(now, Purpose::Read, asked) {
                Choice::Use(at) => at,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(choose(&mut roster, now, Some(1)), 2);
        roster.begins(now, 1, Purpose::Read, 0);
        assert_eq!(choose(&mut roster, now + MS, None), 1);
        assert_eq!(choose(&mut roster, now + 5 * MS, None), 2);
        roster.ended(now + 6 * MS, 1, Purpose::Read, None);
        assert_eq!(choose(&mut roster, now + 6 * MS, None), 1);
    }

    #[test]
    fn a_call_fails_immediately_if_all_endpoints_refuse_connections() {
        let mut roster = Roster::new(vec!["http://m0".into()], Duration::from_secs(5));
        let now = Instant::now();
        refused(&mut roster, now, 0);
        assert!(roster.begin_probes(now).is_empty());
        let choice = roster.choose(now, Purpose::Read, Some(0));
        assert!(matches!(choice, Choice::Refuse(_)));
    }

    #[test]
    fn messages_name_the_endpoints_and_their_faults() {
        let urls = vec!["http://m0".into(), "http://m1".into()];
        let mut roster = Roster::new(urls, Duration::from_secs(5));
        refused(&mut roster, Instant::now(), 0);
        assert_eq!(roster.urls(), "http://m0 (out of use: refused), http://m1");
    }

    #[test]
    fn the_time_until_the_next_probe_is_shorter_if_all_are_down() {
        let urls = vec!["http://m0".into(), "http://m1".into()];
        let mut roster = Roster::new(urls, Duration::from_secs(5));
        let now = Instant::now();
        let mut down = |at| {
            let fault = Fault::Silent;
            let message = "silent".into();
            let change = roster.failed(now, at, now, Connection::Fresh, fault, message);
            let reported = match change.1 {
                Some(Change::Down { retry_in, .. }) => Some(retry_in),
                _ => None,
            };
            assert_eq!(reported, roster.probe_in(now, at));
            reported.unwrap()
        };
        assert!(down(0) > RETRY_SOON);
        assert_eq!(down(1), RETRY_SOON);
        assert_eq!(roster.probe_in(now, 0), Some(RETRY_SOON));
        assert!(roster.begin_probes(now).is_empty());
        assert_eq!(roster.begin_probes(now + RETRY_SOON), [0, 1]);
    }

    /// The outcome of a call at `now` and the time when it is known, if no probe gets a response.
    fn refusal_while_silent(roster: &mut Roster, mut now: Instant) -> Instant {
        let mut probe: Option<Instant> = None;
        loop {
            if let Some(sent) = probe
                && now >= sent + roster.probe_limit()
            {
                roster.late(now, 0, sent, Connection::Fresh);
                roster.end_probe(0);
                probe = None;
            }
            if !roster.begin_probes(now).is_empty() {
                probe = Some(now);
            }
            let until = match roster.choose(now, Purpose::Read, None) {
                Choice::Refuse(_) => return now,
                Choice::Wait(until) => until,
                Choice::Use(_) => panic!("the endpoint is silent"),
            };
            let probe_ends = probe.map(|sent| sent + roster.probe_limit());
            now = probe_ends.map_or(until, |end| end.min(until));
        }
    }

    #[test]
    fn a_call_to_a_single_silent_node_fails_after_one_probe() {
        let timeout = Duration::from_secs(5);
        let mut roster = Roster::new(vec!["http://m0".into()], timeout);
        let sent = Instant::now();
        roster.late(sent + timeout, 0, sent, Connection::Proven);
        // After a quiet period the call waits for one probe, but not for a second one.
        let quiet = sent + 4 * timeout;
        let refused = refusal_while_silent(&mut roster, quiet);
        assert_eq!(refused, quiet + roster.probe_limit());
        // Further calls fail at once, or shortly after the next probe begins.
        assert_eq!(refusal_while_silent(&mut roster, refused), refused);
        let soon = refused + RETRY_SOON;
        let refused = refusal_while_silent(&mut roster, soon);
        assert_eq!(refused, soon + Duration::from_millis(200));
    }
}
