//! An upper bound: a hand-written pipelined client that supports two commands and one server, and
//! does not handle faults.
//!
//! One task drives each connection. Callers append requests to a shared buffer, which the driver
//! takes as one batch and sends with one system call. It reads all available answers before it
//! completes the first caller.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use anyhow::{Context as _, Result, bail, ensure};
use comparison::load::Client;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::wire::{self, Found};

/// As many as ours uses for this kind of load.
const CONNECTIONS: usize = 2;

/// The minimum free space for a read.
const READ: usize = 16 * 1024;

#[derive(Clone)]
pub(crate) struct Limit {
    connections: Arc<[Arc<Connection>]>,
}

#[derive(Default)]
struct Connection {
    queue: Mutex<Queue>,
    /// The number of unanswered requests.
    load: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    out: Vec<u8>,
    waiting: Vec<oneshot::Sender<Found>>,
    /// The driver, if it waits for requests, and how many it waits for.
    driver: Option<(Waker, usize)>,
}

impl Connection {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Limit {
    /// Spawns the drivers on the caller's runtime.
    pub(crate) async fn connect(urls: &[String]) -> Result<Self> {
        let [url] = urls else {
            bail!("the limit supports only one server");
        };
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(url).await?;
            stream.set_nodelay(true)?;
            let connection = Arc::new(Connection::default());
            let mut driver = Driver::new(stream, Arc::clone(&connection));
            tokio::spawn(async move {
                let error = poll_fn(|cx| driver.poll(cx)).await;
                eprintln!("the limit ended: {error:#}");
            });
            connections.push(connection);
        }
        let connections = connections.into();
        Ok(Self { connections })
    }

    /// The least loaded: while one waits for answers, requests are written to the other.
    fn connection(&self) -> Option<&Connection> {
        let load = |connection: &&Arc<Connection>| connection.load.load(Ordering::Relaxed);
        self.connections.iter().min_by_key(load).map(Arc::as_ref)
    }

    fn send(&self, encode: impl FnOnce(&mut Vec<u8>)) -> Result<oneshot::Receiver<Found>> {
        let (caller, answer) = oneshot::channel();
        let connection = self.connection().context("a connection")?;
        connection.load.fetch_add(1, Ordering::Relaxed);
        let mut queue = connection.lock();
        encode(&mut queue.out);
        queue.waiting.push(caller);
        let queued = queue.waiting.len();
        let driver = queue.driver.take_if(|(_, enough)| queued >= *enough);
        drop(queue);
        if let Some((driver, _)) = driver {
            driver.wake();
        }
        Ok(answer)
    }
}

impl Client for Limit {
    async fn get(&mut self, keys: &[&str]) -> Result<usize> {
        let found = self.send(|out| wire::get(single(keys), out))?.await?;
        Ok(usize::from(found.is_some()))
    }

    async fn set(&mut self, keys: &[&str], value: &[u8]) -> Result<()> {
        self.send(|out| wire::set(single(keys), value, out))?
            .await?;
        Ok(())
    }
}

/// The only key; multi operations use the bare round trip as their limit.
fn single<'a>(keys: &[&'a str]) -> &'a str {
    keys.first().copied().unwrap_or_default()
}

struct Driver {
    stream: TcpStream,
    connection: Arc<Connection>,
    /// The batch being written.
    out: Vec<u8>,
    written: usize,
    taken: Vec<oneshot::Sender<Found>>,
    in_flight: VecDeque<oneshot::Sender<Found>>,
    buffer: Vec<u8>,
    filled: usize,
    answered: Vec<(oneshot::Sender<Found>, Found)>,
    /// Whether the driver has yielded to other tasks since the current batch became ready.
    has_yielded: bool,
}

impl Driver {
    fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        Self {
            stream,
            connection,
            out: Vec::new(),
            written: 0,
            taken: Vec::new(),
            in_flight: VecDeque::new(),
            buffer: Vec::new(),
            filled: 0,
            answered: Vec::new(),
            has_yielded: false,
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<anyhow::Error> {
        loop {
            if let Err(error) = self.read(cx) {
                return Poll::Ready(error);
            }
            let load = &self.connection.load;
            load.fetch_sub(self.answered.len(), Ordering::Relaxed);
            for (caller, found) in self.answered.drain(..) {
                // The caller may be gone.
                let _ = caller.send(found);
            }
            if self.out.is_empty() && !self.take(cx) {
                return Poll::Pending;
            }
            if let Err(error) = ready!(self.write(cx)) {
                return Poll::Ready(error);
            }
        }
    }

    /// Reads everything available.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            if self.buffer.len() - self.filled < READ {
                self.buffer.resize(2 * self.buffer.len() + READ, 0);
            }
            let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
            let mut room = ReadBuf::new(room);
            let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, &mut room) else {
                return Ok(());
            };
            read?;
            let n = room.filled().len();
            ensure!(n > 0, "the server closed the connection");
            self.filled += n;
            let mut rest = self.buffer.get(..self.filled).unwrap_or_default();
            while let Some((found, len)) = wire::answer(rest)? {
                rest = rest.get(len..).unwrap_or_default();
                let caller = self.in_flight.pop_front();
                self.answered
                    .push((caller.context("an unexpected answer")?, found));
            }
            let parsed = self.filled - rest.len();
            self.buffer.copy_within(parsed..self.filled, 0);
            self.filled -= parsed;
        }
    }

    /// Takes the next batch, if it is time to write one; otherwise arranges for a wakeup.
    fn take(&mut self, cx: &mut Context<'_>) -> bool {
        let mut queue = self.connection.lock();
        // Answers to requests in flight will soon trigger new requests, so wait until at least half
        // as many are queued before spending a system call.
        let enough = (self.in_flight.len() / 2).max(1);
        if queue.waiting.len() < enough {
            queue.driver = Some((cx.waker().clone(), enough));
            self.has_yielded = false;
            return false;
        }
        if !self.has_yielded {
            // Callers that were just answered may have more requests.
            self.has_yielded = true;
            drop(queue);
            cx.waker().wake_by_ref();
            return false;
        }
        self.has_yielded = false;
        std::mem::swap(&mut queue.out, &mut self.out);
        std::mem::swap(&mut queue.waiting, &mut self.taken);
        drop(queue);
        self.in_flight.extend(self.taken.drain(..));
        true
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            self.written += ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
        }
        self.out.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}
