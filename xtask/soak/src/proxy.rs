//! A TCP proxy that treats its connections badly when it is told to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// What the proxy does to those who use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Pass,
    /// Holds each part of an answer back for so long.
    Slow(Duration),
    /// Hands on half of what it reads of an answer, now and then, and closes the connection.
    CutAnswers,
    /// Closes all connections and lets none in: "connection refused".
    Refuse,
    /// Closes all connections, and new ones wait in vain: the accept queue is full.
    FullQueue,
}

/// Stands between clients and one server.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    /// The mode that is in force.
    reached: watch::Receiver<Mode>,
}

impl Proxy {
    /// Starts on a free port in front of `server`. Within a runtime.
    pub(crate) fn start(server: SocketAddr) -> Result<Self> {
        let listener = listen_somewhere()?;
        let address = listener.local_addr()?;
        let (mode, modes) = watch::channel(Mode::Pass);
        let (reach, reached) = watch::channel(Mode::Pass);
        tokio::spawn(serve(listener, server, modes, reach));
        Ok(Self {
            address,
            mode,
            reached,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does, and waits until it does so.
    pub(crate) async fn set(&mut self, mode: Mode) -> Result<()> {
        self.mode.send_replace(mode);
        let reached = self.reached.wait_for(|reached| *reached == mode);
        timeout(Duration::from_secs(10), reached)
            .await
            .with_context(|| format!("the proxy does not come to {mode:?}"))?
            .context("the proxy has ended")?;
        Ok(())
    }
}

/// Below the range of outgoing connections: within it, who keeps trying to reach a port that is
/// closed ends up connected to himself.
fn listen_somewhere() -> Result<TcpListener> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    for _ in 0..1000 {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut rng = super::rng::Rng::new(next ^ super::time::wall(), "port");
        let port = u16::try_from(10_000 + rng.below(20_000)).unwrap_or(10_000);
        if let Ok(listener) = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), 1024) {
            return Ok(listener);
        }
    }
    anyhow::bail!("no free port between 10000 and 30000")
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // Connections that were closed a moment ago still hold the port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)
}

async fn listen_again(address: SocketAddr, backlog: u32) -> Option<TcpListener> {
    for _ in 0..200 {
        if let Ok(listener) = listen(address, backlog) {
            return Some(listener);
        }
        sleep(Duration::from_millis(10)).await;
    }
    None
}

async fn serve(
    listener: TcpListener,
    server: SocketAddr,
    mut modes: watch::Receiver<Mode>,
    reach: watch::Sender<Mode>,
) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    let mut listener = Some(listener);
    // Who waits in the full queue.
    let mut waiting = Vec::new();
    loop {
        let mode = *modes.borrow_and_update();
        match mode {
            Mode::Refuse => {
                listener = None;
            }
            Mode::FullQueue => {
                drop(listener.take());
                listener = listen_again(address, 1).await;
                // Nobody accepts them; once one is not even let into the queue, it is full.
                while let Ok(Ok(stream)) =
                    timeout(Duration::from_millis(100), TcpStream::connect(address)).await
                {
                    waiting.push(stream);
                }
            }
            _ => {
                if listener.is_none() || !waiting.is_empty() {
                    waiting.clear();
                    drop(listener.take());
                    listener = listen_again(address, 1024).await;
                    if listener.is_none() {
                        return;
                    }
                }
            }
        }
        reach.send_replace(mode);
        let accepting = listener.as_ref().filter(|_| mode != Mode::FullQueue);
        let accepted = async {
            match accepting {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return },
            accepted = accepted => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(connection(client, server, modes.clone()));
                }
            }
        }
    }
}

async fn connection(client: TcpStream, server: SocketAddr, modes: watch::Receiver<Mode>) {
    let connected = timeout(Duration::from_secs(1), TcpStream::connect(server)).await;
    let Ok(Ok(server)) = connected else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut closing = modes.clone();
    tokio::select! {
        _ = closing.wait_for(|mode| matches!(mode, Mode::Refuse | Mode::FullQueue)) => {}
        () = questions(from_client, to_server) => {}
        () = answers(from_server, to_client, modes) => {}
    }
}

async fn questions(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let part = buffer.get(..length).unwrap_or_default();
        if to.write_all(part).await.is_err() {
            return;
        }
    }
}

async fn answers(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, modes: watch::Receiver<Mode>) {
    static CUTS: AtomicU64 = AtomicU64::new(0);
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let mode = *modes.borrow();
        let mut part = buffer.get(..length).unwrap_or_default();
        let mut is_last = false;
        match mode {
            Mode::Slow(by) => sleep(by).await,
            // Not each one, or a client that repeats would never get an answer.
            Mode::CutAnswers if CUTS.fetch_add(1, Ordering::Relaxed).is_multiple_of(7) => {
                part = part.get(..length / 2).unwrap_or_default();
                is_last = true;
            }
            _ => {}
        }
        if to.write_all(part).await.is_err() || is_last {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that sends back what it gets.
    fn echo() -> SocketAddr {
        let listener = listen_somewhere().unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (from, to) = stream.into_split();
                    questions(from, to).await;
                });
            }
        });
        address
    }

    async fn ask(proxy: &Proxy) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(proxy.address()).await?;
        stream.write_all(&[7; 100]).await?;
        let mut answer = vec![0; 100];
        let mut length = 0;
        while length < 100 {
            match stream.read(&mut answer[length..]).await? {
                0 => break,
                more => length += more,
            }
        }
        answer.truncate(length);
        Ok(answer)
    }

    #[test]
    fn does_each_of_its_misdeeds_and_recovers() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut proxy = Proxy::start(echo()).unwrap();
            assert_eq!(ask(&proxy).await.unwrap(), [7; 100]);

            proxy.set(Mode::CutAnswers).await.unwrap();
            let mut cut = 0;
            for _ in 0..14 {
                cut += usize::from(ask(&proxy).await.unwrap().len() == 50);
            }
            assert!(cut >= 1, "no answer was cut");

            proxy.set(Mode::Refuse).await.unwrap();
            let refused = ask(&proxy).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);

            proxy.set(Mode::FullQueue).await.unwrap();
            let wait = timeout(Duration::from_millis(300), ask(&proxy)).await;
            assert!(wait.is_err(), "{wait:?}");

            let slow = Duration::from_millis(50);
            proxy.set(Mode::Slow(slow)).await.unwrap();
            let asked = std::time::Instant::now();
            assert_eq!(ask(&proxy).await.unwrap(), [7; 100]);
            assert!(asked.elapsed() >= slow);

            proxy.set(Mode::Pass).await.unwrap();
            assert_eq!(ask(&proxy).await.unwrap(), [7; 100]);
        });
    }
}
