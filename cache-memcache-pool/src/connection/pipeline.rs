//! What is in flight on a connection: which response belongs to whom, and who has waited for
//! too long. Given bytes and the time; does no I/O.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::patience::Patience;
use super::queue::{Pending, Queue};
use crate::config::Timeouts;
use crate::protocol::{Decoder, Reply, Response, Violation};

/// Buffers that grew beyond this are given back when they are empty.
const KEPT: usize = 256 * 1024;

/// How much is read at once.
const READ: usize = 32 * 1024;

/// What to make of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing came for half of `socket_timeout`: it is time to ask the server another way, so
    /// that it is known at the end of it whether the server is silent or this connection.
    Suspect,
    /// Something is awaited, and nothing at all came for `socket_timeout`.
    Silent,
    /// The response at the head came so slowly that it was not there in twice that.
    Slow,
    /// Nobody has used it for `pool_unused_timeout`.
    Unused,
}

/// What was counted since the last time.
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
    /// Without a caller: nobody wants the response any more.
    in_flight: VecDeque<Pending<Option<C>>>,
    decoder: Decoder,
    buffer: Vec<u8>,
    patience: Patience,
    /// When the server last showed that it is there, or when it was first asked to.
    sign: Instant,
    /// This was said of the present silence.
    is_suspect: bool,
    /// When the connection was begun, while the first requests may have waited for it.
    waited_since: Option<Instant>,
    /// Bytes wait for room in the socket.
    is_blocked: bool,
    /// Since when the request at the head is there, on the clock of `patience`.
    head_since: Duration,
    /// When a request may expire; none does before.
    earliest: Option<Duration>,
    /// The last time at which anything was in flight.
    used: Instant,
    /// Responses so far.
    answered: u64,
    tally: Tally,
}

impl<C> Pipeline<C> {
    /// The pipeline of a connection that was begun at `now`, with a decoder for the
    /// bytes.
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
            head_since: Duration::ZERO,
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

    /// Something of `request` has been written.
    pub(crate) fn on_sent(&mut self, now: Instant, request: Pending<C>) {
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
        self.note_due(request.due);
        let Pending {
            expected,
            caller,
            weight,
            due,
        } = request;
        self.in_flight.push_back(Pending {
            expected,
            caller: Some(caller),
            weight,
            due,
        });
    }

    /// Whatever waited for the connection has been sent.
    pub(crate) fn settle(&mut self) {
        self.waited_since = None;
    }

    /// A request that has to be answered by `due` is queued or in flight.
    pub(crate) fn note_due(&mut self, due: Duration) {
        self.earliest = Some(self.earliest.map_or(due, |earliest| earliest.min(due)));
    }

    /// The socket has no room for more.
    pub(crate) fn on_blocked(&mut self, now: Instant) {
        if !self.is_blocked && self.in_flight.is_empty() {
            self.sign = self.sign.max(now);
        }
        self.is_blocked = true;
    }

    /// So many bytes were written. If there was no room for them before, that is a sign of life:
    /// the other side has read.
    pub(crate) fn on_written(&mut self, now: Instant, bytes: usize) {
        if std::mem::take(&mut self.is_blocked) {
            self.sign = now;
            self.is_suspect = false;
            self.patience.on_bytes(now, bytes);
        }
    }

    /// Where the next bytes go, and how many at most.
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

    /// The memory held for what was read.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.buffer.capacity() + self.decoder.held()
    }

    /// So many bytes were read into [`read_buffer`](Self::read_buffer). The responses that are
    /// complete are added to `done`, in order.
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
                    let replies = response.replies();
                    self.tally.calls += replies.len();
                    for reply in replies {
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

    /// When [`on_timeout`](Self::on_timeout) wants to be called next.
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

    fn head_due(&self) -> Duration {
        let patience = self.timeouts.socket.saturating_mul(2);
        self.head_since.saturating_add(patience)
    }

    /// The time that was asked for has come. `asked` is which it was: if `now` is much later,
    /// this process was paused, and that is nobody's fault. Callers whose time is over are added
    /// to `expired`. All verdicts but `Suspect` say that the connection is to be closed.
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
            // Time enough to read what has arrived meanwhile.
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

    fn expire(&mut self, clock: Duration, queue: &mut Queue<C>, expired: &mut Vec<C>) {
        let mut earliest = None;
        for request in &mut self.in_flight {
            if request.caller.is_none() {
                continue;
            }
            if request.due <= clock {
                // The response will be read and dropped.
                expired.extend(request.caller.take());
            } else {
                earliest = Some(earliest.map_or(request.due, |e: Duration| e.min(request.due)));
            }
        }
        let mut withdrawn = Vec::new();
        queue.expire(clock, &mut withdrawn);
        for request in withdrawn {
            self.tally.weight += request.weight;
            expired.push(request.caller);
        }
        self.earliest = earliest.into_iter().chain(queue.earliest()).min();
    }

    /// All callers that wait for a response, and the weight of what they asked for.
    pub(crate) fn drain(&mut self) -> (Vec<C>, usize) {
        let weight = self.in_flight.iter().map(|request| request.weight).sum();
        let callers = self.in_flight.drain(..);
        (
            callers.filter_map(|request| request.caller).collect(),
            weight,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Dialect, Expected, StoredFormat};

    fn decoder() -> Decoder {
        Decoder::new(1000, StoredFormat::Envelope)
    }

    const SECOND: Duration = Duration::from_secs(1);
    const TIMEOUTS: Timeouts = Timeouts {
        socket: SECOND,
        unused: Duration::from_secs(60),
    };

    /// A pipeline whose first request was answered long ago, and the time.
    fn pipeline() -> (Pipeline<u32>, Queue<u32>, Instant) {
        let begun = Instant::now();
        let mut pipeline = Pipeline::new(begun, TIMEOUTS, decoder());
        send(&mut pipeline, begun, 0);
        answer(&mut pipeline, begun, 0);
        pipeline.settle();
        // The first request is forgotten once its time is over.
        let mut queue = Queue::new(Dialect::Meta);
        let (at, verdict, expired) = wait(&mut pipeline, &mut queue);
        assert_eq!((at, verdict, expired.len()), (begun + SECOND * 2, None, 0));
        (pipeline, queue, begun + SECOND * 10)
    }

    fn send(pipeline: &mut Pipeline<u32>, now: Instant, caller: u32) {
        let due = pipeline.patience.read(now) + SECOND * 2;
        let request = Pending {
            expected: Expected::One { tag: caller },
            caller,
            weight: 1,
            due,
        };
        pipeline.on_sent(now, request);
    }

    fn receive(pipeline: &mut Pipeline<u32>, now: Instant, bytes: &[u8]) -> Vec<u32> {
        let mut done = Vec::new();
        pipeline.read_buffer().0.extend_from_slice(bytes);
        pipeline.on_bytes(now, bytes.len(), &mut done).unwrap();
        done.into_iter().map(|(caller, _)| caller).collect()
    }

    fn answer(pipeline: &mut Pipeline<u32>, now: Instant, caller: u32) -> Vec<u32> {
        receive(pipeline, now, format!("HD O{caller}\r\n").as_bytes())
    }

    /// What comes of it when nothing happens until the next time-out.
    fn wait(
        pipeline: &mut Pipeline<u32>,
        queue: &mut Queue<u32>,
    ) -> (Instant, Option<Verdict>, Vec<u32>) {
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
    fn responses_go_to_those_who_asked_in_order() {
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
    fn silence_is_counted_from_the_last_sign_of_life() {
        let (mut pipeline, mut queue, now) = pipeline();
        send(&mut pipeline, now, 1);
        send(&mut pipeline, now, 2);
        let later = now + SECOND / 2;
        answer(&mut pipeline, later, 1);
        let (at, verdict, _) = wait(&mut pipeline, &mut queue);
        assert_eq!((at, verdict), (later + SECOND, Some(Verdict::Silent)));
    }

    #[test]
    fn after_half_of_the_time_a_silence_is_suspect_once() {
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
    fn idleness_is_no_silence() {
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
    fn those_who_waited_for_the_connection_have_waited_since_it_was_begun() {
        let begun = Instant::now();
        let mut pipeline = Pipeline::new(begun, TIMEOUTS, decoder());
        let silent = |mut pipeline: Pipeline<u32>| {
            let mut queue = Queue::new(Dialect::Meta);
            let (at, verdict, _) = wait(&mut pipeline, &mut queue);
            assert_eq!(verdict, Some(Verdict::Silent));
            at - begun
        };
        send(&mut pipeline, begun + SECOND / 4, 1);
        assert_eq!(silent(pipeline), SECOND);
        // But there is half of the time left at least.
        let mut pipeline = Pipeline::new(begun, TIMEOUTS, decoder());
        send(&mut pipeline, begun + SECOND, 1);
        assert_eq!(silent(pipeline), SECOND * 3 / 2);
        // And all of it on a connection that nobody waited for.
        let mut pipeline = Pipeline::new(begun, TIMEOUTS, decoder());
        pipeline.settle();
        send(&mut pipeline, begun + SECOND, 1);
        assert_eq!(silent(pipeline), SECOND * 2);
    }

    #[test]
    fn a_drip_at_the_head_is_too_slow() {
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
    fn who_waits_behind_others_waits_no_longer_than_told() {
        let (mut pipeline, mut queue, begun) = pipeline();
        for caller in 1..=10 {
            send(&mut pipeline, begun, caller);
        }
        let mut answered = Vec::new();
        let mut expired = Vec::new();
        for second in 1..=10 {
            let now = begun + SECOND * second * 3 / 10;
            let verdict = pipeline.on_timeout(now, now, &mut queue, &mut expired);
            assert_eq!(verdict, None);
            answered.extend(answer(&mut pipeline, now, second));
        }
        assert_eq!(answered, (1..=6).collect::<Vec<_>>());
        assert_eq!(expired, (7..=10).collect::<Vec<_>>());
        assert_eq!(pipeline.take_tally().weight, 11, "all is given back");
    }

    #[test]
    fn a_pause_of_this_process_is_nobodys_fault() {
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
    fn a_full_socket_that_has_room_again_is_a_sign_of_life() {
        let (mut pipeline, mut queue, now) = pipeline();
        pipeline.on_blocked(now);
        pipeline.on_written(now + SECOND / 2, 10);
        pipeline.on_blocked(now + SECOND / 2);
        let (at, verdict, _) = wait(&mut pipeline, &mut queue);
        assert_eq!(at, now + SECOND * 3 / 2);
        assert_eq!(verdict, Some(Verdict::Silent));
    }

    #[test]
    fn what_nobody_asked_for_is_a_violation() {
        let (mut pipeline, _, now) = pipeline();
        pipeline.read_buffer().0.extend_from_slice(b"HD O1\r\n");
        assert!(pipeline.on_bytes(now, 7, &mut Vec::new()).is_err());
    }
}
