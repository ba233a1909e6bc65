//! [`Pipeline`]: the requests in flight on a connection. It assigns responses to callers and
//! detects timeouts. A plain type that takes bytes and the time; does no I/O.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::queue::{Pending, Queue};
use crate::config::Timeouts;
use crate::later::later;
use crate::protocol::{Decoder, Expected, Reply, Response, Violation};

/// Empty buffers larger than this are freed.
const KEPT: usize = 256 * 1024;

/// How much is read at once.
const READ: usize = 32 * 1024;

/// A server that sends this many bytes within `socket_timeout` is not slow.
const BYTES: u32 = 64 * 1024;

/// The verdict on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It received nothing for half of `socket_timeout`: time to check the server over another
    /// connection, to know at the end whether the server is silent or only this connection.
    Suspect,
    /// A response is pending, and nothing arrived for `socket_timeout`.
    Silent,
    /// The response at the head was not complete within twice `socket_timeout`.
    Slow,
    /// It was idle for `pool_unused_timeout`.
    Unused,
}

/// Counts since they were last taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) weight: usize,
    pub(crate) calls: usize,
    pub(crate) hits: usize,
    pub(crate) misses: usize,
}

#[derive(Debug)]
pub(crate) struct Pipeline<C> {
    timeouts: Timeouts,
    in_flight: VecDeque<Pending<C>>,
    decoder: Decoder,
    buffer: Vec<u8>,
    patience: Patience,
    /// The last sign of life of the server, or the time of the first request after idling.
    sign: Instant,
    /// The current silence was reported as suspect.
    is_suspect: bool,
    /// When the connection was begun, while the first requests may have waited for it.
    waited_since: Option<Instant>,
    /// Bytes wait for room in the socket.
    is_blocked: bool,
    /// Since when the current request is at the head, on the clock of `patience`.
    head_since: Instant,
    /// No request expires earlier.
    earliest: Option<Instant>,
    /// The last time at which anything was in flight.
    used: Instant,
    /// Responses so far.
    answered: u64,
    tally: Tally,
}

impl<C> Pipeline<C> {
    /// The pipeline of a connection that was begun at `now`.
    pub(crate) fn new(now: Instant, timeouts: Timeouts, decoder: Decoder) -> Self {
        Self {
            timeouts,
            in_flight: VecDeque::new(),
            decoder,
            buffer: Vec::new(),
            patience: Patience::new(now, timeouts.socket),
            sign: now,
            is_suspect: false,
            waited_since: Some(now),
            is_blocked: false,
            head_since: now,
            earliest: None,
            used: now,
            answered: 0,
            tally: Tally::default(),
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn has_answered(&self) -> bool {
        self.answered > 0
    }

    pub(crate) fn excused(&self) -> Duration {
        self.patience.excused()
    }

    pub(crate) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// The server is asked for its version, which is the first response then.
    pub(crate) fn ask_version(&mut self, now: Instant) {
        self.send(
            now,
            Pending {
                expected: Expected::Version,
                has_mark: false,
                caller: None,
                weight: 0,
                due: now,
            },
        );
    }

    /// Whether the requests of `queue` have to wait for the version of the server, which might
    /// execute a value as commands.
    pub(crate) fn must_wait(&self, queue: &Queue<C>) -> bool {
        queue.has_had_value() && !self.has_answered()
    }

    /// Something of each of these requests has been written.
    pub(crate) fn on_sent(&mut self, now: Instant, requests: impl Iterator<Item = Pending<C>>) {
        for request in requests {
            self.note_due(request.due);
            self.send(now, request);
        }
    }

    #[inline]
    fn send(&mut self, now: Instant, request: Pending<C>) {
        if self.in_flight.is_empty() {
            self.head_since = self.patience.read(now);
            // Those who waited for the connection have waited since it was begun.
            let sign = match self.waited_since {
                None => now,
                Some(begun) => begun.max(now - (self.timeouts.socket / 2).min(now - begun)),
            };
            if !self.is_blocked {
                self.sign = self.sign.max(sign);
                self.is_suspect = false;
            }
        }
        self.in_flight.push_back(request);
    }

    /// All requests that waited for the connection have been sent.
    pub(crate) fn settle(&mut self) {
        self.waited_since = None;
    }

    /// Records the deadline of a request that is queued or in flight.
    pub(crate) fn note_due(&mut self, due: Instant) {
        self.earliest = Some(self.earliest.map_or(due, |earliest| earliest.min(due)));
    }

    /// The socket has no room for more.
    pub(crate) fn on_blocked(&mut self, now: Instant) {
        if !self.is_blocked && self.in_flight.is_empty() {
            self.sign = self.sign.max(now);
        }
        self.is_blocked = true;
    }

    /// Nothing waits for room: all that did was written or withdrawn.
    pub(crate) fn on_unblocked(&mut self) {
        self.is_blocked = false;
    }

    /// Records written bytes. If there was no room for them before, that is a sign of life: the
    /// server has read.
    pub(crate) fn on_written(&mut self, now: Instant, bytes: usize) {
        if std::mem::take(&mut self.is_blocked) {
            self.sign = now;
            self.is_suspect = false;
            self.patience.on_bytes(now, bytes);
        }
    }

    /// The buffer for the next bytes, and how many to read at most.
    pub(crate) fn read_buffer(&mut self) -> (&mut Vec<u8>, usize) {
        if let Some((body, missing)) = self.decoder.large() {
            return (body, missing);
        }
        self.buffer.reserve(READ);
        (&mut self.buffer, READ)
    }

    /// Whether a large value is being read.
    pub(crate) fn is_reading_large(&mut self) -> bool {
        self.decoder.large().is_some()
    }

    /// The memory held for received bytes.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.buffer.capacity() + self.decoder.held()
    }

    /// Handles bytes that were read into [`read_buffer`](Self::read_buffer). Complete responses
    /// are added to `done`, in order.
    pub(crate) fn on_bytes(
        &mut self,
        now: Instant,
        bytes: usize,
        done: &mut Vec<(C, Response)>,
    ) -> Result<(), Violation> {
        self.sign = now;
        self.is_suspect = false;
        self.patience.on_bytes(now, bytes);
        let mut rest = self.buffer.as_slice();
        let before = self.answered;
        let outcome = loop {
            let Some(head) = self.in_flight.front_mut() else {
                if rest.is_empty() {
                    break Ok(());
                }
                break Err(Violation::Other(
                    "unsolicited response from the server".into(),
                ));
            };
            match self.decoder.decode(&mut rest, &mut head.expected) {
                Ok(None) => break Ok(()),
                Ok(Some(response)) => {
                    self.answered += 1;
                    let mark = usize::from(head.has_mark);
                    self.tally.calls += response.commands().saturating_sub(mark);
                    for reply in response.replies().iter().skip(mark) {
                        self.tally.hits +=
                            usize::from(matches!(reply, Reply::Found(_) | Reply::TooLarge(_)));
                        self.tally.misses += usize::from(matches!(reply, Reply::Missing));
                    }
                    if let Some(head) = self.in_flight.pop_front() {
                        self.tally.weight += head.weight;
                        done.extend(head.caller.map(|caller| (caller, response)));
                    }
                }
                Err(violation) => break Err(violation),
            }
        };
        let consumed = self.buffer.len() - rest.len();
        if consumed == self.buffer.len() {
            self.buffer.clear();
            if self.buffer.capacity() > KEPT {
                self.buffer = Vec::new();
            }
        } else {
            self.buffer.drain(..consumed);
        }
        if self.answered > before {
            self.head_since = self.patience.read(now);
            self.used = now;
        }
        outcome
    }

    fn is_awaiting(&self) -> bool {
        !self.in_flight.is_empty() || self.is_blocked
    }

    /// When to call [`on_timeout`](Self::on_timeout) next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let mut at = None;
        let mut earlier = |other: Option<Instant>| {
            at = match (at, other) {
                (Some(at), Some(other)) => Some(std::cmp::min::<Instant>(at, other)),
                (at, other) => at.or(other),
            };
        };
        if self.is_awaiting() {
            let until = self.timeouts.socket / if self.is_suspect { 1 } else { 2 };
            earlier(self.sign.checked_add(until));
            if !self.in_flight.is_empty() {
                earlier(self.patience.time_of(self.head_due()));
            }
        } else {
            earlier(self.used.checked_add(self.timeouts.unused));
        }
        if let Some(earliest) = self.earliest {
            earlier(self.patience.time_of(earliest));
        }
        at
    }

    fn head_due(&self) -> Instant {
        let patience = self.timeouts.socket.saturating_mul(2);
        later(self.head_since, patience)
    }

    /// Handles timeouts. `asked` is the time that was requested: if `now` is much later, this
    /// process was paused, which does not count. Callers whose deadline has passed are added to
    /// `expired`. All verdicts except `Suspect` mean that the connection has to be closed.
    pub(crate) fn on_timeout(
        &mut self,
        asked: Instant,
        now: Instant,
        queue: &mut Queue<C>,
        expired: &mut Vec<C>,
    ) -> Option<Verdict> {
        let late = now.saturating_duration_since(asked);
        let grace = self.timeouts.socket / 4;
        if late > grace {
            // Leave enough time to read what has arrived meanwhile.
            let since = now.checked_sub(grace.saturating_mul(3));
            self.sign = (self.sign + late).min(now).max(since.unwrap_or(now));
            self.patience.excuse(late + grace);
        }
        let clock = self.patience.read(now);
        if self.is_awaiting() {
            let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
            if is_past(self.sign.checked_add(self.timeouts.socket)) {
                return Some(Verdict::Silent);
            }
            if self.head_due() <= clock && !self.in_flight.is_empty() {
                return Some(Verdict::Slow);
            }
        } else if queue.len() == 0
            && self
                .used
                .checked_add(self.timeouts.unused)
                .is_some_and(|at| at <= now)
        {
            return Some(Verdict::Unused);
        }
        if self.earliest.is_some_and(|earliest| earliest <= clock) {
            self.expire(clock, queue, expired);
        }
        let is_suspect = self.is_awaiting()
            && !self.is_suspect
            && self
                .sign
                .checked_add(self.timeouts.socket / 2)
                .is_some_and(|at| at <= now);
        self.is_suspect |= is_suspect;
        is_suspect.then_some(Verdict::Suspect)
    }

    fn expire(&mut self, clock: Instant, queue: &mut Queue<C>, expired: &mut Vec<C>) {
        let mut earliest = None;
        for request in &mut self.in_flight {
            if request.caller.is_none() {
                continue;
            }
            if request.due <= clock {
                // The response will be discarded.
                expired.extend(request.caller.take());
            } else {
                earliest = Some(earliest.map_or(request.due, |e: Instant| e.min(request.due)));
            }
        }
        let mut withdrawn = Vec::new();
        queue.expire(clock, &mut withdrawn);
        for request in withdrawn {
            self.tally.weight += request.weight;
            expired.extend(request.caller);
        }
        self.earliest = earliest.into_iter().chain(queue.earliest()).min();
    }

    /// Removes all requests. Returns the waiting callers, and the weight of the requests.
    pub(crate) fn drain(&mut self) -> (Vec<C>, usize) {
        let weight = self.in_flight.iter().map(|request| request.weight).sum();
        let callers = self.in_flight.drain(..);
        (
            callers.filter_map(|request| request.caller).collect(),
            weight,
        )
    }
}

/// The clock for the timeouts of calls on a connection, which stops while data flows.
///
/// It shows the time, less the time in which data arrived at a sufficient rate: a large value over a
/// slow link does not count, a trickle of bytes does.
#[derive(Debug)]
struct Patience {
    /// The time that does not count, so far.
    excused: Duration,
    /// The time up to which `excused` is computed.
    last: Instant,
    /// The most time that a byte excuses.
    per_byte: Duration,
}

impl Patience {
    fn new(now: Instant, socket_timeout: Duration) -> Self {
        Self {
            excused: Duration::ZERO,
            last: now,
            per_byte: socket_timeout / BYTES,
        }
    }

    fn excused(&self) -> Duration {
        self.excused
    }

    /// The clock at `now`.
    fn read(&self, now: Instant) -> Instant {
        now.checked_sub(self.excused).unwrap_or(now)
    }

    /// Records received bytes.
    fn on_bytes(&mut self, now: Instant, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let credit = self.per_byte.saturating_mul(bytes);
        self.excuse(credit.min(now.saturating_duration_since(self.last)));
        self.last = now;
    }

    /// Excludes time in which this process was paused.
    fn excuse(&mut self, time: Duration) {
        self.excused = self.excused.saturating_add(time);
    }

    /// When the clock reaches `due`, if nothing arrives until then.
    fn time_of(&self, due: Instant) -> Option<Instant> {
        due.checked_add(self.excused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Dialect, MetaRequest, Outgoing, StoredFormat};

    fn decoder() -> Decoder {
        Decoder::new(1000, StoredFormat::Envelope)
    }

    const SECOND: Duration = Duration::from_secs(1);
    const TIMEOUTS: Timeouts = Timeouts {
        socket: SECOND,
        unused: Duration::from_secs(60),
    };

    /// A pipeline whose first response arrived long ago, and the current time.
    fn pipeline() -> (Pipeline<usize>, Queue<usize>, Instant) {
        let begun = Instant::now();
        let mut pipeline = Pipeline::new(begun, TIMEOUTS, decoder());
        send(&mut pipeline, begun, 0);
        answer(&mut pipeline, begun, 0);
        pipeline.settle();
        // The first request is forgotten once its deadline has passed.
        let mut queue = Queue::new(Dialect::Meta);
        let (at, verdict, expired) = wait(&mut pipeline, &mut queue);
        assert_eq!((at, verdict, expired.len()), (begun + SECOND * 2, None, 0));
        (pipeline, queue, begun + SECOND * 10)
    }

    fn send(pipeline: &mut Pipeline<usize>, now: Instant, caller: usize) {
        let due = pipeline.patience.read(now) + SECOND * 2;
        let request = Pending {
            expected: Expected::One { tag: caller },
            has_mark: false,
            caller: Some(caller),
            weight: 1,
            due,
        };
        pipeline.on_sent(now, std::iter::once(request));
    }

    fn receive(pipeline: &mut Pipeline<usize>, now: Instant, bytes: &[u8]) -> Vec<usize> {
        let mut done = Vec::new();
        pipeline.read_buffer().0.extend_from_slice(bytes);
        pipeline.on_bytes(now, bytes.len(), &mut done).unwrap();
        done.into_iter().map(|(caller, _)| caller).collect()
    }

    fn answer(pipeline: &mut Pipeline<usize>, now: Instant, caller: usize) -> Vec<usize> {
        receive(pipeline, now, format!("HD O{caller}\r\n").as_bytes())
    }

    /// The outcome if nothing happens until the next timeout.
    fn wait(
        pipeline: &mut Pipeline<usize>,
        queue: &mut Queue<usize>,
    ) -> (Instant, Option<Verdict>, Vec<usize>) {
        loop {
            let at = pipeline.poll_timeout().unwrap();
            let mut expired = Vec::new();
            let verdict = pipeline.on_timeout(at, at, queue, &mut expired);
            if verdict != Some(Verdict::Suspect) {
                return (at, verdict, expired);
            }
        }
    }

    #[test]
    fn responses_go_to_their_callers_in_order() {
        let (mut pipeline, _, now) = pipeline();
        for caller in 1..4 {
            send(&mut pipeline, now, caller);
        }
        assert_eq!(receive(&mut pipeline, now, b"HD O1\r\nEN\r\nHD"), [1, 2]);
        assert_eq!(receive(&mut pipeline, now, b" O3\r\n"), [3]);
        let tally = pipeline.take_tally();
        assert_eq!((tally.calls, tally.misses, tally.weight), (4, 1, 4));
        assert_eq!(pipeline.take_tally(), Tally::default());
    }

    #[test]
    fn callers_learn_how_much_time_was_excused() {
        let (mut pipeline, _, now) = pipeline();
        let before = pipeline.excused();
        send(&mut pipeline, now, 1);
        let line = b"HD O1\r\n";
        assert_eq!(receive(&mut pipeline, now + SECOND, line), [1]);
        let credit = SECOND / BYTES * u32::try_from(line.len()).unwrap();
        assert_eq!(pipeline.excused(), before + credit);
    }

    #[test]
    fn silence_is_measured_from_the_last_sign_of_life() {
        let (mut pipeline, mut queue, now) = pipeline();
        send(&mut pipeline, now, 1);
        send(&mut pipeline, now, 2);
        let later = now + SECOND / 2;
        answer(&mut pipeline, later, 1);
        let (at, verdict, _) = wait(&mut pipeline, &mut queue);
        assert_eq!((at, verdict), (later + SECOND, Some(Verdict::Silent)));
    }

    #[test]
    fn silence_is_suspect_once_after_half_the_timeout() {
        let (mut pipeline, mut queue, now) = pipeline();
        send(&mut pipeline, now, 1);
        let half = now + SECOND / 2;
        assert_eq!(pipeline.poll_timeout(), Some(half));
        let verdict = pipeline.on_timeout(half, half, &mut queue, &mut Vec::new());
        assert_eq!(verdict, Some(Verdict::Suspect));
        assert_eq!(pipeline.poll_timeout(), Some(now + SECOND));
        answer(&mut pipeline, half, 1);
        send(&mut pipeline, half, 2);
        assert_eq!(pipeline.poll_timeout(), Some(now + SECOND));
        let verdict = pipeline.on_timeout(now + SECOND, now + SECOND, &mut queue, &mut Vec::new());
        assert_eq!(verdict, Some(Verdict::Suspect));
    }

    #[test]
    fn an_idle_connection_is_not_silent() {
        let (mut pipeline, mut queue, now) = pipeline();
        send(&mut pipeline, now, 1);
        answer(&mut pipeline, now, 1);
        let mut verdict = None;
        let mut at = now;
        while verdict.is_none() {
            (at, verdict, _) = wait(&mut pipeline, &mut queue);
        }
        assert_eq!((at, verdict), (now + SECOND * 60, Some(Verdict::Unused)));
    }

    #[test]
    fn for_callers_that_waited_to_connect_silence_counts_from_the_attempt() {
        let begun = Instant::now();
        let mut pipeline = Pipeline::new(begun, TIMEOUTS, decoder());
        let silent = |mut pipeline: Pipeline<usize>| {
            let mut queue = Queue::new(Dialect::Meta);
            let (at, verdict, _) = wait(&mut pipeline, &mut queue);
            assert_eq!(verdict, Some(Verdict::Silent));
            at - begun
        };
        send(&mut pipeline, begun + SECOND / 4, 1);
        assert_eq!(silent(pipeline), SECOND);
        // At least half of the timeout is left.
        let mut pipeline = Pipeline::new(begun, TIMEOUTS, decoder());
        send(&mut pipeline, begun + SECOND, 1);
        assert_eq!(silent(pipeline), SECOND * 3 / 2);
        // The whole timeout is left on a connection that no caller waited for.
        let mut pipeline = Pipeline::new(begun, TIMEOUTS, decoder());
        pipeline.settle();
        send(&mut pipeline, begun + SECOND, 1);
        assert_eq!(silent(pipeline), SECOND * 2);
    }

    #[test]
    fn a_trickling_response_at_the_head_is_too_slow() {
        let (mut pipeline, mut queue, begun) = pipeline();
        send(&mut pipeline, begun, 1);
        let mut now = begun;
        loop {
            now += SECOND / 10;
            let mut expired = Vec::new();
            match pipeline.on_timeout(now, now, &mut queue, &mut expired) {
                Some(Verdict::Slow) => break,
                verdict => assert_eq!(verdict, None),
            }
            let byte = b"HD                                                              "
                [((now - begun).as_millis() / 100) as usize - 1];
            receive(&mut pipeline, now, &[byte]);
        }
        assert!(now <= begun + SECOND * 21 / 10, "{:?}", now - begun);
    }

    #[test]
    fn queued_callers_do_not_wait_past_their_deadlines() {
        let (mut pipeline, mut queue, begun) = pipeline();
        for caller in 1..=10 {
            send(&mut pipeline, begun, caller);
        }
        let mut answered = Vec::new();
        let mut expired = Vec::new();
        for second in 1..=10_u32 {
            let now = begun + SECOND * second * 3 / 10;
            let verdict = pipeline.on_timeout(now, now, &mut queue, &mut expired);
            assert_eq!(verdict, None);
            answered.extend(answer(&mut pipeline, now, second as usize));
        }
        assert_eq!(answered, (1..=6).collect::<Vec<_>>());
        assert_eq!(expired, (7..=10).collect::<Vec<_>>());
        assert_eq!(pipeline.take_tally().weight, 11, "all weight is released");
    }

    #[test]
    fn a_pause_of_this_process_does_not_count() {
        let (mut pipeline, mut queue, now) = pipeline();
        send(&mut pipeline, now, 1);
        let asked = now + SECOND;
        let awake = asked + SECOND * 100;
        let mut expired = Vec::new();
        let verdict = pipeline.on_timeout(asked, awake, &mut queue, &mut expired);
        assert_ne!(verdict, Some(Verdict::Silent));
        assert!(expired.is_empty());
        assert_eq!(answer(&mut pipeline, awake, 1), [1]);
    }

    #[test]
    fn a_short_pause_extends_the_timeout_by_its_length() {
        let (mut pipeline, mut queue, now) = pipeline();
        send(&mut pipeline, now, 1);
        let (asked, late) = (now + SECOND / 2, SECOND * 3 / 10);
        let clock = pipeline.patience.read(asked);
        let verdict = pipeline.on_timeout(asked, asked + late, &mut queue, &mut Vec::new());
        assert_eq!(verdict, Some(Verdict::Suspect));
        // For the deadlines of callers it does not count either.
        assert!(pipeline.patience.read(asked + late) <= clock);
        let (at, verdict, _) = wait(&mut pipeline, &mut queue);
        assert_eq!((at, verdict), (now + SECOND + late, Some(Verdict::Silent)));
    }

    #[test]
    fn a_timer_that_is_late_by_a_quarter_of_the_timeout_is_no_pause() {
        let (mut pipeline, mut queue, now) = pipeline();
        send(&mut pipeline, now, 1);
        let (asked, excused) = (now + SECOND / 2, pipeline.excused());
        pipeline.on_timeout(asked, asked + SECOND / 4, &mut queue, &mut Vec::new());
        assert_eq!(pipeline.excused(), excused);
    }

    #[test]
    fn a_full_socket_regaining_room_is_a_sign_of_life() {
        let (mut pipeline, mut queue, now) = pipeline();
        pipeline.on_blocked(now);
        pipeline.on_written(now + SECOND / 2, 10);
        pipeline.on_blocked(now + SECOND / 2);
        let (at, verdict, _) = wait(&mut pipeline, &mut queue);
        assert_eq!(at, now + SECOND * 3 / 2);
        assert_eq!(verdict, Some(Verdict::Silent));
    }

    #[test]
    fn a_full_socket_does_not_excuse_silence() {
        let is_silent_at = |mut pipeline: Pipeline<usize>| {
            let (at, verdict, _) = wait(&mut pipeline, &mut Queue::new(Dialect::Meta));
            assert_eq!(verdict, Some(Verdict::Silent));
            at
        };
        // With a response pending, silence goes on.
        let (mut waiting, _, now) = pipeline();
        send(&mut waiting, now, 1);
        waiting.on_blocked(now + SECOND / 2);
        assert_eq!(is_silent_at(waiting), now + SECOND);
        // Otherwise it begins when the socket is full.
        let (mut full, _, now) = pipeline();
        full.on_blocked(now);
        full.on_blocked(now + SECOND / 2);
        assert_eq!(is_silent_at(full), now + SECOND);
    }

    #[test]
    fn requests_that_expire_in_the_queue_release_their_weight() {
        let (mut pipeline, mut queue, now) = pipeline();
        pipeline.take_tally();
        let due = pipeline.patience.read(now) + SECOND;
        for (caller, weight) in [(1, 2), (2, 3)] {
            let encode = |_: &mut Outgoing| Ok::<_, ()>(Expected::One { tag: caller });
            queue.push(encode, false, caller, weight, due).unwrap();
        }
        pipeline.note_due(due);
        let (at, verdict, expired) = wait(&mut pipeline, &mut queue);
        assert_eq!((at, verdict, expired), (now + SECOND, None, vec![1, 2]));
        assert_eq!(pipeline.take_tally().weight, 5);
    }

    #[test]
    fn the_memory_of_a_large_batch_is_freed() {
        let (mut pipeline, _, now) = pipeline();
        let callers = 1..=KEPT / 4;
        callers
            .clone()
            .for_each(|caller| send(&mut pipeline, now, caller));
        let responses: Vec<String> = callers.map(|caller| format!("HD O{caller}\r\n")).collect();
        receive(&mut pipeline, now, responses.concat().as_bytes());
        assert_eq!(pipeline.held(), 0);
        // A small buffer is used again.
        send(&mut pipeline, now, 1);
        answer(&mut pipeline, now, 1);
        assert!(pipeline.held() > 0);
    }

    #[test]
    fn values_wait_for_the_version_which_belongs_to_no_caller() {
        let now = Instant::now();
        let mut pipeline = Pipeline::<usize>::new(now, TIMEOUTS, decoder());
        let mut queue = Queue::new(Dialect::Meta);
        pipeline.ask_version(now);
        assert_eq!(pipeline.in_flight(), 1);
        assert!(!pipeline.must_wait(&queue), "there is no value");
        let encode = |out: &mut Outgoing| Ok::<_, ()>(MetaRequest::set("k", "v").encode(out));
        queue.push(encode, false, 1, 1, now + SECOND).unwrap();
        assert!(pipeline.must_wait(&queue));
        assert!(receive(&mut pipeline, now, b"VERSION 1.6.18\r\n").is_empty());
        assert!(!pipeline.must_wait(&queue));
        assert_eq!(pipeline.take_tally(), Tally::default());
        assert_eq!(pipeline.in_flight(), 0);
    }

    #[test]
    fn an_unsolicited_response_is_a_violation() {
        let (mut pipeline, _, now) = pipeline();
        pipeline.read_buffer().0.extend_from_slice(b"HD O1\r\n");
        assert!(pipeline.on_bytes(now, 7, &mut Vec::new()).is_err());
    }

    #[test]
    fn a_large_value_does_not_use_up_patience_but_a_trickle_does() {
        let start = Instant::now();
        let mut patience = Patience::new(start, SECOND);
        let mut now = start;
        for _ in 0..100 {
            now += SECOND / 10;
            patience.on_bytes(now, 64 * 1024);
        }
        assert!(patience.read(now) < start + SECOND / 100, "{patience:?}");
        for _ in 0..100 {
            now += SECOND / 10;
            patience.on_bytes(now, 1);
        }
        assert!(patience.read(now) > start + SECOND * 9, "{patience:?}");
        let due = patience.read(now) + SECOND;
        assert_eq!(patience.time_of(due), Some(now + SECOND));
    }

    #[test]
    fn sixty_four_kibibytes_excuse_one_timeout_and_half_of_them_half_of_it() {
        let start = Instant::now();
        for (bytes, left) in [(64 * 1024, Duration::ZERO), (32 * 1024, SECOND / 2)] {
            let mut patience = Patience::new(start, SECOND);
            patience.on_bytes(start + SECOND, bytes);
            let found = patience.read(start + SECOND) - start;
            assert!(found >= left && found < left + SECOND / 1000, "{found:?}");
        }
    }

    #[test]
    fn no_more_time_is_excused_than_has_passed() {
        let start = Instant::now();
        let mut patience = Patience::new(start, SECOND);
        patience.on_bytes(start + SECOND, usize::MAX);
        assert_eq!(patience.excused(), SECOND);
        assert_eq!(patience.read(start + SECOND), start);
        assert_eq!(patience.read(start + SECOND * 3), start + SECOND * 2);
    }
}
