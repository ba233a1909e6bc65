//! [`Driver`]: the task of a connection. It does I/O and sleeps; the pipeline interprets the bytes,
//! and the cluster judges the end of the connection.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};

use cache_core::{Error, ErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWrite as _};
use tokio::time::{Instant, Sleep};

use super::pipeline::{Pipeline, Verdict};
use super::queue::Batch;
use super::stream::Stream;
use super::{Caller, Connection, Failure, Gauges, Shared, Unanswered};
use crate::NAME;
use crate::config::Timeouts;
use crate::protocol::{ASK_VERSION, Decoder, Dialect, Response, Violation};

/// Responses are delivered at the latest when this much has been read.
const TELL_AFTER: usize = 256 * 1024;

/// The reason of calls whose driver panicked.
pub(super) const PANICKED: &str =
    "the task of the connection panicked; does the function passed to `connect_with`?";

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It was idle for too long.
    Unused,
    /// The server or the network ended it.
    Lost(String),
    /// The server violated the protocol.
    Violated(Violation),
    /// It received nothing for too long.
    Silent,
    /// It received too little for too long.
    Slow,
    /// It was closed by this side.
    Closed(Failure),
}

/// The state of a connection at its end.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) why: End,
    /// It has received a response.
    pub(crate) has_answered: bool,
    /// A response was pending.
    pub(crate) was_in_use: bool,
}

pub(crate) struct Driver {
    connection: Arc<Connection>,
    gauges: Arc<Gauges>,
    pipeline: Pipeline<Caller>,
    batch: Batch<Caller>,
    /// The end of the bytes to write at once.
    write_to: usize,
    /// Written bytes may wait in a buffer of the stream.
    is_unflushed: bool,
    done: Vec<(Caller, Response)>,
    /// Callers to be woken.
    wakers: Vec<Waker>,
    /// Callers had a chance to queue more requests before the write.
    has_yielded: bool,
    /// How many requests were written together the last time.
    last_batch: usize,
    /// All tasks of the runtime take turns on one thread.
    is_current_thread: bool,
    /// The time that the timer is set to.
    timer_at: Instant,
    /// The failure of the calls that wait when the runtime drops the task.
    if_dropped: Failure,
}

impl Driver {
    pub(crate) fn new(
        connection: Arc<Connection>,
        gauges: Arc<Gauges>,
        timeouts: Timeouts,
        decoder: Decoder,
        is_current_thread: bool,
    ) -> Self {
        let now = connection.begun();
        // Before its first poll: the runtime accepts no tasks, so a retry would fail as well.
        let message = "the Tokio runtime was shut down; make the call in one that is running";
        Self {
            connection,
            gauges,
            pipeline: Pipeline::new(now, timeouts, decoder),
            batch: Batch::default(),
            write_to: 0,
            is_unflushed: false,
            done: Vec::new(),
            wakers: Vec::new(),
            has_yielded: false,
            last_batch: 0,
            is_current_thread,
            timer_at: now,
            if_dropped: Failure::Final(Error::new(ErrorKind::Backend, NAME, message)),
        }
    }

    /// Call it when the task is polled for the first time.
    pub(crate) fn begin(&mut self) {
        self.if_dropped = Failure::Lost("the runtime was shut down".into());
    }

    /// Waits for `open`, unless the connection is closed before.
    pub(crate) async fn until_closed<T>(
        &self,
        open: impl Future<Output = T>,
    ) -> Result<T, Failure> {
        let mut open = pin!(open);
        poll_fn(|cx| {
            let mut shared = self.connection.lock();
            if let Some(failure) = &shared.closed {
                return Poll::Ready(Err(failure.clone()));
            }
            shared.wake(cx, usize::MAX);
            drop(shared);
            open.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// Call it once the connection is open. Returns when to call [`poll`](Self::poll) at the
    /// latest.
    pub(super) fn start(&mut self) -> Instant {
        self.connection.set_ready();
        let mut shared = self.connection.lock();
        shared.is_current_thread = self.is_current_thread;
        let dialect = shared.queue.dialect();
        drop(shared);
        if dialect == Dialect::Meta {
            self.pipeline.ask_version(Instant::now());
            self.batch.bytes.extend_from_slice(ASK_VERSION);
        }
        self.timer_at = self.pipeline.poll_timeout().unwrap_or_else(Instant::now);
        self.timer_at
    }

    /// Does what can be done now. `suspect` is called when the server has been silent for a while.
    pub(super) fn poll(
        &mut self,
        stream: &mut Stream,
        mut timer: Pin<&mut Sleep>,
        suspect: &impl Fn(),
        cx: &mut Context<'_>,
    ) -> Poll<End> {
        loop {
            // Read available data before checking the time.
            if let Err(end) = self.poll_io(stream, cx) {
                return Poll::Ready(end);
            }
            if let Some(at) = self.due_before_timer() {
                self.set_timer(timer.as_mut(), at);
            }
            ready!(timer.as_mut().poll(cx));
            if let Some(end) = self.on_timeout(suspect) {
                return Poll::Ready(end);
            }
            let at = self.pipeline.poll_timeout().unwrap_or(self.timer_at);
            self.set_timer(timer.as_mut(), at);
        }
    }

    /// Reads and writes at once for a caller that is alone.
    pub(super) fn poll_for(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Result<(), End> {
        self.has_yielded = true;
        self.poll_io(stream, cx)
    }

    /// Reads and writes what can be read and written now.
    fn poll_io(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Result<(), End> {
        let read = self.read(stream, cx);
        self.tell();
        read.and_then(|()| self.write(stream, cx))?;
        self.pipeline.settle();
        Ok(())
    }

    /// When the pipeline has to be asked, if that is before the time that the timer is set to.
    pub(super) fn due_before_timer(&self) -> Option<Instant> {
        self.pipeline
            .poll_timeout()
            .filter(|at| *at < self.timer_at)
    }

    /// The state at the end of the connection. Calls may still wait then: [`fail`](Self::fail)
    /// answers them.
    pub(super) fn ended(&mut self, why: End) -> Ended {
        self.tell();
        self.connection.lock().queue.park(&mut self.batch);
        Ended {
            why,
            has_answered: self.pipeline.has_answered(),
            was_in_use: self.pipeline.in_flight() > 0,
        }
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    fn set_timer(&mut self, timer: Pin<&mut Sleep>, at: Instant) {
        self.timer_at = at;
        timer.reset(at);
    }

    /// Reads what has arrived.
    fn read(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Result<(), End> {
        let mut unheard = 0;
        loop {
            if self.pipeline.is_reading_large() {
                self.gauges.saw_large(Instant::now());
            }
            let (buffer, most) = self.pipeline.read_buffer();
            let mut limited = (&mut *stream).take(most as u64);
            match pin!(limited.read_buf(buffer)).poll(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => {
                    return Err(End::Lost("the server closed the connection".into()));
                }
                Poll::Ready(Ok(n)) => {
                    let now = Instant::now();
                    let outcome = self.pipeline.on_bytes(now, n, &mut self.done);
                    self.connection.set_heard(now, self.pipeline.excused());
                    outcome.map_err(End::Violated)?;
                    unheard += n;
                    if unheard >= TELL_AFTER {
                        unheard = 0;
                        self.tell();
                    }
                }
                Poll::Ready(Err(error)) => return Err(lost(&error)),
            }
        }
    }

    /// Delivers the complete responses. Those of dropped callers are discarded.
    fn tell(&mut self) {
        let tally = self.pipeline.take_tally();
        if tally.calls > 0 {
            let add = |counter: &std::sync::atomic::AtomicU64, n: usize| {
                if n > 0 {
                    counter.fetch_add(n as u64, Ordering::Relaxed);
                }
            };
            add(&self.gauges.calls, tally.calls);
            add(&self.gauges.hits, tally.hits);
            add(&self.gauges.misses, tally.misses);
        }
        if self.done.is_empty() && tally.weight == 0 {
            return;
        }
        let mut shared = self.connection.lock();
        for (caller, response) in self.done.drain(..) {
            self.wakers
                .extend(shared.callers.deliver(caller, Ok(response)));
        }
        self.connection.release(shared, tally.weight);
        self.wake();
    }

    /// Wakes the callers whose responses were delivered.
    fn wake(&mut self) {
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }

    /// Writes what is queued, as far as the socket takes it.
    fn write(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            if self.batch.is_written() {
                if !self.flush(stream, cx)? || !self.take(cx)? {
                    return Ok(());
                }
                continue;
            }
            let now = Instant::now();
            if self.write_to <= self.batch.written {
                self.write_to = stream.write_to(&self.batch, self.batch.written);
            }
            let rest = self.batch.bytes.get(self.batch.written..self.write_to);
            match Pin::new(&mut *stream).poll_write(cx, rest.unwrap_or_default()) {
                Poll::Pending => {
                    self.park(now, cx);
                    return Ok(());
                }
                Poll::Ready(Ok(0)) => return Err(lost(&io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    self.is_unflushed = true;
                    self.batch.written += n;
                    self.pipeline.on_written(now, n);
                    self.pipeline.on_sent(now, self.batch.take_begun());
                }
                Poll::Ready(Err(error)) => return Err(lost(&error)),
            }
        }
    }

    /// Flushes the batch that was written: TLS keeps back what does not fit into the socket.
    /// `false`: the socket has no room yet.
    fn flush(&mut self, stream: &mut Stream, cx: &mut Context<'_>) -> Result<bool, End> {
        if self.is_unflushed {
            match Pin::new(stream).poll_flush(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(flushed) => flushed.map_err(|error| lost(&error))?,
            }
            self.is_unflushed = false;
            self.batch.clear();
            self.write_to = 0;
        }
        Ok(true)
    }

    /// The socket has no room. Requests that were not begun can be withdrawn until it has.
    fn park(&mut self, now: Instant, cx: &Context<'_>) {
        self.pipeline.on_blocked(now);
        self.write_to = 0;
        let mut shared = self.connection.lock();
        shared.queue.park(&mut self.batch);
        hold(&mut shared, &mut self.pipeline, cx);
        self.batch.clear();
    }

    /// Takes the queued requests, if it is time to write. Otherwise the next caller to queue one
    /// wakes the driver.
    fn take(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut shared = self.connection.lock();
        if let Some(failure) = &shared.closed {
            return Err(End::Closed(failure.clone()));
        }
        if !shared.queue.is_parked() {
            self.pipeline.on_unblocked();
            if self.pipeline.must_wait(&shared.queue) {
                hold(&mut shared, &mut self.pipeline, cx);
                return Ok(false);
            }
        }
        // A write for each request would cost a system call for each. While much is in flight
        // its responses will soon call for more, and half of it is worth one.
        let enough = (self.pipeline.in_flight() / 2).max(1);
        let queued = shared.queue.len();
        if !shared.queue.is_parked() {
            if queued < enough {
                shared.wake(cx, enough);
                shared.is_idle = self.pipeline.in_flight() == 0 && self.last_batch <= 1;
                self.has_yielded = false;
                return Ok(false);
            }
            // Callers that were just told may have something to add, so it is worth a turn: on a
            // single thread only if several were written together the last time.
            let is_worth_a_turn = !self.is_current_thread || self.last_batch > 1;
            if is_worth_a_turn && !self.has_yielded {
                self.has_yielded = true;
                drop(shared);
                cx.waker().wake_by_ref();
                return Ok(false);
            }
        }
        self.has_yielded = false;
        self.last_batch = queued;
        Ok(shared.queue.take(&mut self.batch))
    }

    fn on_timeout(&mut self, suspect: &impl Fn()) -> Option<End> {
        let now = Instant::now();
        let mut expired = Vec::new();
        let mut shared = self.connection.lock();
        let verdict = self
            .pipeline
            .on_timeout(self.timer_at, now, &mut shared.queue, &mut expired);
        if verdict == Some(Verdict::Unused) {
            // Under the lock, so that no request is queued meanwhile.
            shared
                .closed
                .get_or_insert(Failure::Lost("the idle connection was closed".into()));
        }
        for caller in expired {
            let unanswered = Unanswered {
                failure: Failure::TooSlow,
                was_sent: true,
            };
            let waker = shared.callers.deliver(caller, Err(unanswered));
            self.wakers.extend(waker);
        }
        drop(shared);
        self.wake();
        self.tell();
        match verdict? {
            Verdict::Suspect => {
                suspect();
                None
            }
            Verdict::Silent => Some(End::Silent),
            Verdict::Slow => Some(End::Slow),
            Verdict::Unused => Some(End::Unused),
        }
    }

    /// Fails all waiting callers with `failure`, except the first one with `first`, if given: its
    /// response was invalid.
    pub(crate) fn fail(&mut self, first: Option<&Failure>, failure: &Failure) {
        self.connection.close(failure.clone());
        let queued = self.connection.lock().queue.drain();
        let (in_flight, mut weight) = self.pipeline.drain();
        weight += queued.iter().map(|request| request.weight).sum::<usize>();
        let in_flight = in_flight.into_iter().map(|caller| (caller, true));
        let queued = queued.into_iter().filter_map(|request| request.caller);
        let queued = queued.map(|caller| (caller, false));
        let mut first = first;
        let mut shared = self.connection.lock();
        for (caller, was_sent) in in_flight.chain(queued) {
            let failure = first.take().unwrap_or(failure).clone();
            let unanswered = Err(Unanswered { failure, was_sent });
            self.wakers
                .extend(shared.callers.deliver(caller, unanswered));
        }
        self.connection.release(shared, weight);
        self.wake();
    }
}

/// Leaves the queued requests where they are for now.
fn hold(shared: &mut Shared, pipeline: &mut Pipeline<Caller>, cx: &Context<'_>) {
    // Only to learn that the connection was closed.
    shared.wake(cx, usize::MAX);
    if let Some(due) = shared.queue.earliest() {
        pipeline.note_due(due);
    }
}

fn lost(error: &io::Error) -> End {
    End::Lost(format!("the connection failed: {error}"))
}

impl Drop for Driver {
    /// Answers the callers if the runtime drops the task.
    fn drop(&mut self) {
        self.tell();
        self.connection.lock().queue.park(&mut self.batch);
        let failure = if std::thread::panicking() {
            Failure::Lost(PANICKED.into())
        } else {
            self.if_dropped.clone()
        };
        self.fail(None, &failure);
    }
}
