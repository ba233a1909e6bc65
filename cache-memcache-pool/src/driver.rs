//! The task behind a connection: writes what is queued, reads answers, hands them out in order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;
use std::time::{Duration, Instant};

use cache_core::ErrorKind;
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};
use tokio::time::{Sleep, sleep_until, timeout};

use crate::answer::{Answer, Reply, Violation};
use crate::command::Outgoing;
use crate::connection::{Connection, Failure, Slot, State};
use crate::health::Death;
use crate::parser::{Parser, Progress};
use crate::server::{Server, no_answer};
use crate::stats::add;
use crate::stream::{ConnectError, Stream, cannot_connect};

/// How much is read at once.
const READ: usize = 32 * 1024;

/// Buffers that grew beyond this are given back when they are empty.
const KEPT: usize = 256 * 1024;

/// Why a connection ends.
enum End {
    /// Nobody needed it.
    Unused,
    /// There is no connection.
    NotConnected(String),
    /// The peer ended it.
    Lost(String),
    /// It takes no name and password, or the wrong ones.
    Denied(String),
    /// What came is no answer.
    Violated(Violation),
    /// Nothing came for too long.
    Silent,
    /// It was told to.
    Closed(Failure),
}

pub(crate) struct Driver {
    server: Arc<Server>,
    connection: Arc<Connection>,
    /// What was written and is not answered, or is being written.
    waiting: VecDeque<Slot>,
    /// What is being written.
    out: Outgoing,
    written: usize,
    /// Up to where to write at once.
    write_to: usize,
    /// Slots on their way from the queue to `waiting`.
    taken: Vec<Slot>,
    buffer: Vec<u8>,
    parser: Parser,
    /// Slots of `waiting` whose answer takes long by itself.
    bulky: u32,
    has_answered: bool,
    /// Others had the chance to queue something before it is written.
    has_yielded: bool,
    /// Since when the first of `waiting` is the first, or nothing waits.
    since: Instant,
    created: Instant,
    /// Nothing was written yet.
    is_fresh: bool,
    end: Option<End>,
}

/// From this weight on an exchange takes long by itself.
const BULKY: usize = 8;

impl Driver {
    pub(crate) fn new(server: Arc<Server>, connection: Arc<Connection>) -> Self {
        let limit = server.settings.max_value;
        Self {
            server,
            connection,
            waiting: VecDeque::new(),
            out: Outgoing::default(),
            written: 0,
            write_to: 0,
            taken: Vec::new(),
            buffer: Vec::new(),
            parser: Parser::new(limit),
            bulky: 0,
            has_answered: false,
            has_yielded: false,
            since: Instant::now(),
            created: Instant::now(),
            is_fresh: true,
            end: None,
        }
    }

    /// Drives the connection to its end, opening it first unless that is `stream`.
    pub(crate) async fn run(mut self, stream: Option<Stream>) {
        let end = match stream {
            Some(stream) => self.drive(stream).await,
            None => match self.connect().await {
                Ok(stream) => self.drive(stream).await,
                Err(end) => end,
            },
        };
        self.end = Some(end);
    }

    async fn connect(&mut self) -> Result<Stream, End> {
        let patience = self.server.settings.socket_timeout;
        let server = Arc::clone(&self.server);
        let mut open = pin!(timeout(patience, server.open()));
        let opened = poll_fn(|cx| {
            if let Some(failure) = self.connection.poll_closed(cx) {
                return Poll::Ready(Err(End::Closed(failure)));
            }
            open.as_mut().poll(cx).map(Ok)
        });
        match opened.await? {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(ConnectError::Denied(reason))) => Err(End::Denied(reason)),
            Ok(Err(ConnectError::Io(error))) => Err(End::NotConnected(cannot_connect(&error))),
            Err(_) => Err(End::Silent),
        }
    }

    async fn drive(&mut self, mut stream: Stream) -> End {
        self.connection.is_now_ready();
        let settings = &self.server.settings;
        let tick = settings.socket_timeout.min(settings.pool_unused_timeout);
        let mut timer = pin!(sleep_until((self.created + tick).into()));
        poll_fn(|cx| self.poll(&mut stream, timer.as_mut(), cx)).await
    }

    fn poll(
        &mut self,
        stream: &mut Stream,
        mut timer: Pin<&mut Sleep>,
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        loop {
            if let Err(end) = self.read(stream, cx) {
                return Poll::Ready(end);
            }
            if let Err(end) = self.write(stream, cx) {
                return Poll::Ready(end);
            }
            self.is_fresh = false;
            ready!(timer.as_mut().poll(cx));
            match self.on_tick(Instant::now()) {
                Ok(next) => timer.as_mut().reset(next.into()),
                Err(end) => return Poll::Ready(end),
            }
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    fn write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            if self.out.bytes.is_empty() && !self.gather(cx)? {
                return Ok(());
            }
            while self.written < self.out.bytes.len() {
                if self.written >= self.write_to {
                    self.write_to = stream.write_to(&self.out, self.written);
                }
                let rest = self.out.bytes.get(self.written..self.write_to);
                match Pin::new(&mut *stream).poll_write(cx, rest.unwrap_or_default()) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(0)) => return Err(lost(&io::ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(n)) => self.written += n,
                    Poll::Ready(Err(error)) => return Err(lost(&error)),
                }
            }
            // TLS keeps back what does not fit into the socket.
            match Pin::new(&mut *stream).poll_flush(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(lost(&error)),
            }
            self.out.clear(KEPT);
            self.written = 0;
            self.write_to = 0;
        }
    }

    /// Takes over what is queued, if it is time to write.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        // While much is in flight its answers will soon call for more, and a write for each
        // would cost a system call for each. Half of what is in flight is worth one.
        let at_least = (self.waiting.len() / 2).max(1);
        if !self.has_yielded && self.connection.queued() >= at_least && !self.waiting.is_empty() {
            // Callers that were just answered may have something to add.
            self.has_yielded = true;
            cx.waker().wake_by_ref();
            return Ok(false);
        }
        let taken = self
            .connection
            .take(at_least, cx, &mut self.out, &mut self.taken)
            .map_err(End::Closed)?;
        if !taken {
            return Ok(false);
        }
        self.has_yielded = false;
        // Those who had to wait for the connection have waited since it was begun.
        let now = if self.is_fresh {
            self.created
        } else {
            Instant::now()
        };
        self.is_fresh = false;
        if self.waiting.is_empty() {
            self.since = now;
        }
        let patience = self.server.settings.socket_timeout;
        for mut slot in self.taken.drain(..) {
            if slot.weight >= BULKY {
                self.bulky += 1;
            }
            // A bulky answer has as much time as any, and holds up those behind it.
            slot.deadline = now.checked_add(patience.saturating_mul(1 + self.bulky));
            self.waiting.push_back(slot);
        }
        Ok(true)
    }

    /// Reads and hands out what has arrived.
    fn read(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            let read = if let Some((body, missing)) = self.parser.large() {
                self.server.has_large();
                let mut rest = (&mut *stream).take(missing as u64);
                pin!(rest.read_buf(body)).poll(cx)
            } else {
                self.buffer.reserve(READ);
                pin!(stream.read_buf(&mut self.buffer)).poll(cx)
            };
            match read {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => {
                    return Err(End::Lost("the server ended the connection".into()));
                }
                Poll::Ready(Ok(_)) => self.hand_out().map_err(End::Violated)?,
                Poll::Ready(Err(error)) => return Err(lost(&error)),
            }
        }
    }

    /// Hands out the answers that are complete.
    fn hand_out(&mut self) -> Result<(), Violation> {
        let mut rest = self.buffer.as_slice();
        let (mut weight, mut calls, mut hits, mut misses) = (0, 0, 0, 0);
        let outcome = loop {
            let Some(slot) = self.waiting.front_mut() else {
                if rest.is_empty() {
                    break Ok(());
                }
                let shown = String::from_utf8_lossy(rest.get(..80).unwrap_or(rest)).into_owned();
                break Err(Violation::Other(format!(
                    "the server said {shown:?} unasked"
                )));
            };
            match self.parser.parse(&mut rest, &mut slot.expect) {
                Ok(Progress::Incomplete) => break Ok(()),
                Ok(Progress::Answer(answer)) => {
                    let replies = match &answer {
                        Answer::One(reply) => std::slice::from_ref(reply),
                        Answer::Many(replies) => replies,
                        Answer::SomeFailed => &[],
                    };
                    calls += replies.len();
                    for reply in replies {
                        hits += usize::from(matches!(reply, Reply::Found(_)));
                        misses += usize::from(matches!(reply, Reply::Missing));
                    }
                    if let Some(slot) = self.waiting.pop_front() {
                        weight += slot.weight;
                        if slot.weight >= BULKY {
                            self.bulky = self.bulky.saturating_sub(1);
                        }
                        // A caller that is gone does not want its answer.
                        let _ = slot.caller.send(Ok(answer));
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
        if weight > 0 {
            self.has_answered = true;
            self.since = Instant::now();
            self.connection.is_done(weight);
            let counters = &self.server.counters;
            add(&counters.calls, calls);
            add(&counters.hits, hits);
            add(&counters.misses, misses);
            self.server.has_room(weight);
        }
        outcome
    }

    /// Looks whether the server has been silent for too long, or the connection unused.
    fn on_tick(&mut self, now: Instant) -> Result<Instant, End> {
        let settings = &self.server.settings;
        // Beyond the clock's range is as good as never.
        let later = |at: Instant, wait: Duration| at.checked_add(wait);
        let far = now + Duration::from_secs(365 * 24 * 3600);
        if let Some(first) = self.waiting.front() {
            let due = [first.deadline, later(self.since, settings.socket_timeout)];
            let due = due.into_iter().flatten().min().unwrap_or(far);
            return if due <= now {
                Err(End::Silent)
            } else {
                Ok(due)
            };
        }
        let unused = later(self.since, settings.pool_unused_timeout).unwrap_or(far);
        if unused <= now
            && self
                .connection
                .close_if_unused(Failure::Lost("unused".into()))
        {
            return Err(End::Unused);
        }
        let tick = later(now, settings.socket_timeout).unwrap_or(far);
        Ok(if unused <= now {
            tick
        } else {
            tick.min(unused)
        })
    }

    /// What to ask oneself about a server that has not answered.
    fn doubt(&self) -> &'static str {
        if self.has_answered {
            ""
        } else if cfg!(feature = "tls") {
            "; is it memcached, and does it want TLS as tls_enabled says?"
        } else {
            "; is it memcached, and does it want TLS?"
        }
    }
}

fn lost(error: &io::Error) -> End {
    End::Lost(format!("the connection failed: {error}"))
}

impl Drop for Driver {
    /// Tells all who wait. Done here, so that it is done when the runtime drops the task too.
    fn drop(&mut self) {
        let name = &self.server.name;
        let patience = self.server.settings.socket_timeout;
        let lost = |reason: &str| Failure::Lost(format!("{name}: {reason}").into());
        let dead = |reason: String, is_timeout, is_refused| {
            let death = Arc::new(Death { reason, is_timeout });
            let server = &self.server;
            if server.die(&self.connection, &death, is_refused) {
                Failure::Dead(death)
            } else {
                lost(&death.reason)
            }
        };
        let mut first = None;
        let failure = match self.end.take() {
            // Connecting panics in one case: tokio finds no time or no I/O.
            None if thread::panicking() && self.connection.state() == State::Connecting => {
                Failure::Final(
                    ErrorKind::Backend,
                    "the tokio runtime lacks I/O or time; build it with Builder::enable_all()"
                        .into(),
                )
            }
            None => lost("the runtime was shut down"),
            Some(End::Unused) => lost("the connection was not in use"),
            Some(End::Closed(failure)) => failure,
            Some(End::NotConnected(reason) | End::Violated(Violation::Full(reason))) => {
                dead(reason, false, true)
            }
            Some(End::Silent) => {
                let was_connected = self.connection.state() == State::Ready;
                let reason = no_answer(patience) + self.doubt();
                dead(reason, true, !was_connected)
            }
            Some(End::Lost(reason)) => {
                // A server that was restarted ends its connections, and takes new ones. One
                // that ends a new one as well is not there.
                let again = self.server.is_first_loss_since(self.created);
                if again || self.has_answered || self.waiting.is_empty() {
                    lost(&reason)
                } else {
                    let doubt = self.doubt();
                    dead(format!("{reason} before it answered{doubt}"), false, false)
                }
            }
            Some(End::Denied(reason)) => Failure::Final(
                ErrorKind::PermissionDenied,
                format!("{name}: {reason}; check username and password").into(),
            ),
            Some(End::Violated(Violation::Unauthenticated)) => Failure::Final(
                ErrorKind::PermissionDenied,
                format!("{name} asks for a username and a password; configure both").into(),
            ),
            Some(End::Violated(Violation::Other(reason))) => {
                let told = format!("{name}: {reason}; the connection was closed");
                first = Some(Failure::Final(ErrorKind::Protocol, told.into()));
                lost(&reason)
            }
        };
        self.server.remove(&self.connection);
        let unsent = self.connection.end(failure.clone());
        for slot in self
            .waiting
            .drain(..)
            .chain(self.taken.drain(..))
            .chain(unsent)
        {
            let failure = first.take().unwrap_or_else(|| failure.clone());
            let _ = slot.caller.send(Err(failure));
        }
        self.server.has_changed();
    }
}
