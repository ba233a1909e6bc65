//! What is in flight on a connection: which response belongs to whom, and who has waited for
//! too long. Given bytes and the time; does no I/O.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::patience::Patience;
use super::queue::{Pending, Queue};
use crate::protocol::{Decoder, Reply, Response, Violation};

/// Buffers that grew beyond this are given back when they are empty.
const KEPT: usize = 256 * 1024;

/// How much is read at once.
const READ: usize = 32 * 1024;

/// The time-outs of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) socket: Duration,
    pub(crate) unused: Duration,
}

/// Why a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
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

    /// So many bytes were read into [`read_buffer`](Self::read_buffer). The responses that are
    /// complete are added to `done`, in order.
    pub(crate) fn on_bytes(
        &mut self,
        now: Instant,
        bytes: usize,
        done: &mut Vec<(C, Response)>,
    ) -> Result<(), Violation> {
        self.sign = now;
        self.patience.on_bytes(now, bytes);
        let mut rest = self.buffer.as_slice();
        let before = self.answered;
        let outcome = loop {
            let Some(head) = self.in_flight.front_mut() else {
                if rest.is_empty() {
                    break Ok(());
                }
                break Err(Violation::Other(
                    "the server sent something that nobody asked for".into(),
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
            earlier(self.sign.checked_add(self.timeouts.socket));
            earlier(self.patience.time_of(self.head_due()));
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
    /// to `expired`; a verdict says that the connection is to be closed.
    pub(crate) fn on_timeout(
        &mut self,
        asked: Instant,
        now: Instant,
        queue: &mut Queue<C>,
        expired: &mut Vec<C>,
    ) -> Option<Verdict> {
        let late = now.saturating_duration_since(asked);
        if late > self.timeouts.socket / 4 {
            self.sign = (self.sign + late).min(now);
            self.patience.excuse(late);
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
        None
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
