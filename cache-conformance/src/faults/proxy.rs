//! [`Proxy`], a TCP proxy that fails on command.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;

use super::{Fault, FaultControl};
use crate::OpenError;
use crate::rng::Rng;

/// A proxy between a backend and its server, on a loopback port, that fails on command.
///
/// Point the backend at [`address`](Self::address) instead of the server. All connections are
/// closed when the proxy is dropped. It uses threads, and works with any runtime.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
/// use cache_conformance::{Fault, FaultControl, Proxy};
///
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let mut proxy = Proxy::start(server.local_addr()?)?;
///
/// let mut client = TcpStream::connect(proxy.address())?;
/// client.write_all(b"ping")?;
/// let mut received = [0; 4];
/// server.accept()?.0.read_exact(&mut received)?;
/// assert_eq!(&received, b"ping");
///
/// proxy.inject(Fault::Down)?;
/// assert!(TcpStream::connect(proxy.address()).is_err());
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    /// Holds the port while the proxy is down.
    reserved: Option<TcpSocket>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    /// How often a client has sent something after a response.
    round_trips: AtomicU64,
    bytes_answered: AtomicU64,
    /// Connections that the client has not closed.
    connections: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    fault: Option<Fault>,
    /// Both ends of each connection, so that they can be closed.
    open: Vec<(TcpStream, TcpStream)>,
    /// The number of listeners so far; each ends when there is a newer one.
    listener: u64,
}

impl Proxy {
    /// Listens on a free loopback port and forwards everything to `upstream`.
    ///
    /// # Errors
    ///
    /// If the system refuses the port or the thread.
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let proxy = Self {
            address: listener.local_addr()?,
            reserved: None,
            shared: Arc::new(Shared {
                upstream,
                round_trips: AtomicU64::new(0),
                bytes_answered: AtomicU64::new(0),
                connections: AtomicU64::new(0),
                state: Mutex::new(State {
                    fault: None,
                    open: Vec::new(),
                    listener: 0,
                }),
                changed: Condvar::new(),
            }),
        };
        proxy.shared.listen(listener)?;
        Ok(proxy)
    }

    /// Returns the address to which the backend must connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens again on the port that was closed. Another socket may use it for a moment.
    fn listen_again(&self) -> io::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let began = Instant::now();
        let listener = loop {
            match TcpListener::bind(self.address) {
                Err(_) if began.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(20));
                }
                bound => break bound?,
            }
        };
        self.shared.listen(listener)
    }
}

impl FaultControl for Proxy {
    fn inject(&mut self, fault: Fault) -> Result<(), OpenError> {
        self.heal()?;
        self.shared.state().fault = Some(fault);
        if fault == Fault::Down {
            self.shared.stop_listening();
            self.shared.close_all();
            wait_until_refused(self.address)?;
            // Without it, the proxy works as well, unless another server takes the port.
            self.reserved = reserve(self.address).ok();
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    fn heal(&mut self) -> Result<(), OpenError> {
        let fault = self.shared.state().fault.take();
        self.reserved = None;
        match fault {
            Some(Fault::Down) => self.listen_again()?,
            // These connections can no longer be used.
            Some(Fault::Garbage | Fault::Cut) => self.shared.close_all(),
            Some(Fault::Silent) | None => {}
        }
        self.shared.changed.notify_all();
        Ok(())
    }

    fn inject_into(&mut self, server: usize, fault: Fault) -> Result<(), OpenError> {
        match server {
            0 => self.inject(fault),
            _ => Err(format!("server {server} does not exist; the only one is server 0").into()),
        }
    }

    fn round_trips(&mut self) -> Option<u64> {
        Some(self.shared.round_trips.load(Ordering::SeqCst))
    }

    fn bytes_answered(&mut self) -> Option<u64> {
        Some(self.shared.bytes_answered.load(Ordering::SeqCst))
    }

    fn connections(&mut self) -> Option<u64> {
        Some(self.shared.connections.load(Ordering::SeqCst))
    }
}

/// One proxy for each server. They fail together or [one by one](FaultControl::inject_into).
impl FaultControl for Vec<Proxy> {
    fn inject(&mut self, fault: Fault) -> Result<(), OpenError> {
        self.iter_mut().try_for_each(|proxy| proxy.inject(fault))
    }

    fn heal(&mut self) -> Result<(), OpenError> {
        self.iter_mut().try_for_each(FaultControl::heal)
    }

    fn inject_into(&mut self, server: usize, fault: Fault) -> Result<(), OpenError> {
        match self.get_mut(server) {
            Some(proxy) => proxy.inject(fault),
            None => Err(format!("server {server} does not exist").into()),
        }
    }

    fn round_trips(&mut self) -> Option<u64> {
        self.iter_mut().map(FaultControl::round_trips).sum()
    }

    fn bytes_answered(&mut self) -> Option<u64> {
        self.iter_mut().map(FaultControl::bytes_answered).sum()
    }

    fn connections(&mut self) -> Option<u64> {
        self.iter_mut().map(FaultControl::connections).sum()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().fault = Some(Fault::Down);
        self.shared.stop_listening();
        self.shared.close_all();
        self.shared.changed.notify_all();
        // Wakes the accepting thread.
        drop(TcpStream::connect(self.address));
    }
}

/// A socket that keeps the port from others, and refuses connections because it does not listen.
fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    // Connections that are being closed still use the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn wait_until_refused(address: SocketAddr) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let began = Instant::now();
    // The first connection also wakes the accepting thread, which then closes the port.
    while TcpStream::connect(address).is_ok() {
        if began.elapsed() > PATIENCE {
            return Err(io::Error::other("the proxy still accepts connections"));
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, listener: TcpListener) -> io::Result<()> {
        let number = {
            let mut state = self.state();
            state.listener += 1;
            state.listener
        };
        let shared = Arc::clone(self);
        let accept = move || {
            for client in listener.incoming() {
                if shared.state().listener != number {
                    return;
                }
                let Ok(client) = client else { continue };
                // If the server is gone, the client sees a closed connection.
                if let Ok(server) = TcpStream::connect(shared.upstream) {
                    drop(shared.pass(&client, &server));
                }
            }
        };
        thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(accept)?;
        Ok(())
    }

    fn stop_listening(&self) {
        self.state().listener += 1;
    }

    fn close_all(&self) {
        for (client, server) in self.state().open.drain(..) {
            drop(client.shutdown(Shutdown::Both));
            drop(server.shutdown(Shutdown::Both));
        }
    }

    /// Forwards the bytes of both ends.
    fn pass(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        self.state()
            .open
            .push((client.try_clone()?, server.try_clone()?));
        let answered = Arc::new(AtomicBool::new(true));
        for (from, to, answers) in [(client, server, false), (server, client, true)] {
            let (from, to) = (from.try_clone()?, to.try_clone()?);
            let (shared, answered) = (Arc::clone(self), Arc::clone(&answered));
            thread::Builder::new()
                .name("proxy".to_owned())
                .spawn(move || {
                    if !answers {
                        shared.connections.fetch_add(1, Ordering::SeqCst);
                    }
                    drop(shared.pump(&from, &to, answers, &answered));
                    if !answers {
                        shared.connections.fetch_sub(1, Ordering::SeqCst);
                    }
                    drop(from.shutdown(Shutdown::Both));
                    drop(to.shutdown(Shutdown::Both));
                })?;
        }
        Ok(())
    }

    /// Forwards the bytes of `from` until either end closes. Faults change only `answers`.
    fn pump(
        &self,
        mut from: &TcpStream,
        mut to: &TcpStream,
        answers: bool,
        answered: &AtomicBool,
    ) -> io::Result<()> {
        /// The number of bytes of a response that arrive before the connection is cut.
        const FIRST: usize = 3;
        // The same bytes in each run, so that a failure can be repeated.
        let rng = Rng::new(0, "proxy");
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                return Ok(());
            };
            if !answers && answered.swap(false, Ordering::SeqCst) {
                self.round_trips.fetch_add(1, Ordering::SeqCst);
            }
            if answers {
                let bytes = u64::try_from(read).unwrap_or_default();
                self.bytes_answered.fetch_add(bytes, Ordering::SeqCst);
            }
            answered.fetch_or(answers, Ordering::SeqCst);
            match self.fault_but_silence() {
                Some(Fault::Garbage) if answers => to.write_all(&rng.bytes(bytes.len()))?,
                Some(Fault::Cut) if answers => {
                    return to.write_all(bytes.get(..FIRST).unwrap_or(bytes));
                }
                _ => to.write_all(bytes)?,
            }
        }
    }

    /// Waits until the fault in effect, if any, is something other than silence.
    fn fault_but_silence(&self) -> Option<Fault> {
        let silent = |state: &mut State| state.fault == Some(Fault::Silent);
        let state = self
            .changed
            .wait_while(self.state(), silent)
            .unwrap_or_else(PoisonError::into_inner);
        state.fault
    }
}
