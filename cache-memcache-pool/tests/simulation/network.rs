//! An in-memory network on Tokio's paused clock: latency, bandwidth, bounded buffers, reads of any
//! size, and faults that are planned in advance.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::rng::Rng;

/// What happens to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It hangs, while its operating system accepts connections and bytes.
    Pause,
    /// It is partitioned from the clients.
    Partition,
    /// It is stopped, and returns without its values.
    Restart,
    /// Its connections are reset, once.
    Reset,
    /// It sends invalid responses.
    Garbage,
    /// It sends responses to other requests.
    Foreign,
    /// It closes each connection after a response.
    CloseEach,
    /// It sends bytes one by one, a tenth of a second apart.
    Drip,
    /// It is replaced by a memcached that is too old for the meta protocol, which reads values as
    /// commands.
    Old,
    /// Connections that exist at the beginning never receive another response.
    SilentConnection,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) server: usize,
    pub(crate) kind: Kind,
    pub(crate) from: Duration,
    pub(crate) to: Duration,
}

impl Fault {
    /// When all connections to the server are reset.
    pub(crate) fn resets(&self) -> impl Iterator<Item = Duration> + use<> {
        let resets = match self.kind {
            Kind::Restart | Kind::Reset => [Some(self.from), None],
            Kind::Old => [Some(self.from), Some(self.to)],
            _ => [None, None],
        };
        resets.into_iter().flatten()
    }
}

/// The faults of one server.
#[derive(Debug)]
pub(crate) struct Timeline {
    start: Instant,
    faults: Vec<Fault>,
}

impl Timeline {
    pub(crate) fn new(start: Instant, faults: Vec<Fault>) -> Self {
        Self { start, faults }
    }

    /// The fault of this kind at `at`.
    pub(crate) fn fault(&self, kind: Kind, at: Instant) -> Option<&Fault> {
        let at = at - self.start;
        let mut faults = self.faults.iter();
        faults.find(|fault| fault.kind == kind && fault.from <= at && at < fault.to)
    }

    /// Whether a connection that was made at `since` has been reset.
    pub(crate) fn has_reset(&self, since: Instant, now: Instant) -> bool {
        let mut resets = self.faults.iter().flat_map(Fault::resets);
        resets.any(|at| since < self.start + at && self.start + at <= now)
    }

    /// The first time at or after `at` without a fault of this kind.
    pub(crate) fn after(&self, kind: Kind, mut at: Instant) -> Instant {
        while let Some(fault) = self.fault(kind, at) {
            at = self.start + fault.to;
        }
        at
    }
}

/// The link between a client and a server.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) latency: Duration,
    pub(crate) per_kilobyte: Duration,
    /// The maximum number of bytes in transit or unread.
    pub(crate) capacity: usize,
    /// How long the server needs for a command.
    pub(crate) think: Duration,
    /// The maximum number of bytes that a read returns.
    pub(crate) most: usize,
    pub(crate) timeline: Arc<Timeline>,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Pipe {
    /// When each chunk arrives, its bytes, and how many of them have been read.
    chunks: VecDeque<(Instant, Vec<u8>, usize)>,
    held: usize,
    /// When the last byte leaves the sender and arrives.
    departs: Option<Instant>,
    arrives: Option<Instant>,
    is_ended: bool,
    is_reset: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    fn wake(&mut self) {
        for waker in self.reader.take().into_iter().chain(self.writer.take()) {
            waker.wake();
        }
    }
}

pub(crate) struct Socket {
    incoming: Arc<Mutex<Pipe>>,
    outgoing: Arc<Mutex<Pipe>>,
    link: Link,
    is_server: bool,
    timer: Pin<Box<Sleep>>,
    rng: Rng,
}

/// Resets a connection from outside.
#[derive(Clone)]
pub(crate) struct Plug([Arc<Mutex<Pipe>>; 2]);

impl Plug {
    pub(crate) fn reset(&self) {
        for pipe in &self.0 {
            let mut pipe = pipe.lock().unwrap();
            pipe.is_reset = true;
            pipe.chunks.clear();
            pipe.wake();
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.iter().any(|pipe| {
            let pipe = pipe.lock().unwrap();
            pipe.is_reset || pipe.is_ended
        })
    }
}

/// The two ends of a connection, the client's first, and a plug to reset it.
pub(crate) fn connection(link: &Link, rng: &mut Rng) -> (Socket, Socket, Plug) {
    let pipes: [Arc<Mutex<Pipe>>; 2] = Default::default();
    let [up, down] = pipes.clone();
    let mut socket = |incoming, outgoing, is_server| Socket {
        incoming,
        outgoing,
        link: link.clone(),
        is_server,
        timer: Box::pin(sleep_until(Instant::now())),
        rng: rng.fork(),
    };
    let client = socket(Arc::clone(&down), Arc::clone(&up), false);
    let server = socket(up, down, true);
    (client, server, Plug(pipes))
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let mut pipe = this.incoming.lock().unwrap();
            if pipe.is_reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            pipe.reader = Some(cx.waker().clone());
            let Some((at, chunk, read)) = pipe.chunks.front_mut() else {
                if pipe.is_ended {
                    return Poll::Ready(Ok(()));
                }
                return Poll::Pending;
            };
            if *at > Instant::now() {
                this.timer.as_mut().reset(*at);
                drop(pipe);
                match this.timer.as_mut().poll(cx) {
                    Poll::Ready(()) => continue,
                    Poll::Pending => return Poll::Pending,
                }
            }
            let most = this.rng.between(1, this.link.most as u64) as usize;
            let n = (chunk.len() - *read).min(buffer.remaining()).min(most);
            buffer.put_slice(&chunk[*read..*read + n]);
            *read += n;
            if *read == chunk.len() {
                pipe.chunks.pop_front();
            }
            pipe.held -= n;
            if let Some(writer) = pipe.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        const DRIP: Duration = Duration::from_millis(100);
        let this = &mut *self;
        let mut pipe = this.outgoing.lock().unwrap();
        if pipe.is_reset {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let room = this.link.capacity.saturating_sub(pipe.held);
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let now = Instant::now();
        let timeline = &this.link.timeline;
        let is_dripping = this.is_server && timeline.fault(Kind::Drip, now).is_some();
        let n = room.min(bytes.len());
        let pieces: Vec<&[u8]> = match is_dripping {
            true => bytes[..n].chunks(1).collect(),
            false => vec![&bytes[..n]],
        };
        for piece in pieces {
            let turn = pipe.departs.map_or(now, |departs| departs.max(now));
            // What has not left when the drip ends goes at the usual rate.
            let takes = match is_dripping && timeline.fault(Kind::Drip, turn).is_some() {
                true => DRIP,
                false => this.link.per_kilobyte * piece.len() as u32 / 1024,
            };
            let departs = turn + takes;
            let arrives = timeline.after(Kind::Partition, departs + this.link.latency);
            let arrives = pipe.arrives.map_or(arrives, |before| before.max(arrives));
            pipe.departs = Some(departs);
            pipe.arrives = Some(arrives);
            pipe.chunks.push_back((arrives, piece.to_vec(), 0));
        }
        pipe.held += n;
        if let Some(reader) = pipe.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.outgoing.lock().unwrap();
        pipe.is_ended = true;
        pipe.wake();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut outgoing = self.outgoing.lock().unwrap();
        outgoing.is_ended = true;
        outgoing.wake();
        drop(outgoing);
        let mut incoming = self.incoming.lock().unwrap();
        incoming.is_reset = true;
        incoming.wake();
    }
}
