//! What is possible without any of the duties of a library. Both clients know two commands, one
//! server, and no faults; they keep payloads as they are, without metadata.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::clients::Client;

/// As many as ours takes for work of this kind.
const CONNECTIONS: usize = 2;

type Answer = oneshot::Sender<Option<Vec<u8>>>;
type Request = (Vec<u8>, Answer);

pub(super) struct Limit {
    connections: Vec<mpsc::UnboundedSender<Request>>,
    next: AtomicUsize,
}

impl Limit {
    pub(super) async fn connect(urls: &[String]) -> Result<Self> {
        let [url] = urls else {
            bail!("the limit has one server");
        };
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            let stream = TcpStream::connect(url).await?;
            stream.set_nodelay(true)?;
            let (sender, requests) = mpsc::unbounded_channel();
            tokio::spawn(drive(stream, requests));
            connections.push(sender);
        }
        Ok(Self {
            connections,
            next: AtomicUsize::new(0),
        })
    }

    fn send(&self, request: Vec<u8>) -> Result<oneshot::Receiver<Option<Vec<u8>>>> {
        let (answer, waiter) = oneshot::channel();
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.connections.len();
        let connection = self.connections.get(next).context("a connection")?;
        connection
            .send((request, answer))
            .ok()
            .context("it ended")?;
        Ok(waiter)
    }
}

impl Client for Limit {
    const PREFIX: &'static str = "hand";

    async fn get(&self, key: &str) -> Result<Option<usize>> {
        let found = self.send(format!("mg {key} v\r\n").into_bytes())?.await?;
        Ok(found.map(|value| value.len()))
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.send(set(key, value))?.await?;
        Ok(())
    }

    async fn get_multi(&self, keys: &[&str]) -> Result<usize> {
        let mut waiters = Vec::with_capacity(keys.len());
        for key in keys {
            waiters.push(self.send(format!("mg {key} v\r\n").into_bytes())?);
        }
        let mut found = 0;
        for waiter in waiters {
            found += usize::from(waiter.await?.is_some());
        }
        Ok(found)
    }

    async fn set_multi(&self, keys: &[&str], value: &[u8]) -> Result<()> {
        let mut waiters = Vec::with_capacity(keys.len());
        for key in keys {
            waiters.push(self.send(set(key, value))?);
        }
        for waiter in waiters {
            waiter.await?;
        }
        Ok(())
    }
}

fn set(key: &str, value: &[u8]) -> Vec<u8> {
    let mut request = format!("ms {key} {}\r\n", value.len()).into_bytes();
    request.extend_from_slice(value);
    request.extend_from_slice(b"\r\n");
    request
}

/// The bare round trip: one caller, one connection, a system call each way.
pub(super) struct RoundTrip(Mutex<TcpStream>);

impl RoundTrip {
    pub(super) async fn connect(urls: &[String]) -> Result<Self> {
        let stream = TcpStream::connect(urls.first().context("a server")?).await?;
        stream.set_nodelay(true)?;
        Ok(Self(Mutex::new(stream)))
    }

    async fn ask(&self, request: &[u8], answers: usize) -> Result<Vec<Option<Vec<u8>>>> {
        let mut stream = self.0.lock().await;
        stream.write_all(request).await?;
        let mut buffer = Vec::with_capacity(64 * 1024);
        let mut found = Vec::with_capacity(answers);
        let mut consumed = 0;
        while found.len() < answers {
            ensure!(stream.read_buf(&mut buffer).await? > 0, "the server ended");
            while let Some((value, len)) = parse(buffer.get(consumed..).unwrap_or_default())? {
                consumed += len;
                found.push(value);
            }
        }
        Ok(found)
    }
}

impl Client for RoundTrip {
    const PREFIX: &'static str = "bare";

    async fn get(&self, key: &str) -> Result<Option<usize>> {
        let found = self.ask(format!("mg {key} v\r\n").as_bytes(), 1).await?;
        Ok(found.into_iter().flatten().next().map(|value| value.len()))
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.ask(&set(key, value), 1).await.map(drop)
    }

    async fn get_multi(&self, keys: &[&str]) -> Result<usize> {
        let requests: Vec<String> = keys.iter().map(|key| format!("mg {key} v\r\n")).collect();
        let found = self.ask(requests.concat().as_bytes(), keys.len()).await?;
        Ok(found.into_iter().flatten().count())
    }

    async fn set_multi(&self, keys: &[&str], value: &[u8]) -> Result<()> {
        let requests: Vec<Vec<u8>> = keys.iter().map(|key| set(key, value)).collect();
        self.ask(&requests.concat(), keys.len()).await.map(drop)
    }
}

async fn drive(stream: TcpStream, mut requests: mpsc::UnboundedReceiver<Request>) -> Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let mut waiting: VecDeque<Answer> = VecDeque::new();
    let mut taken = Vec::new();
    let mut out = Vec::new();
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        tokio::select! {
            read = reader.read_buf(&mut buffer) => {
                if read? == 0 {
                    return Ok(());
                }
                let mut consumed = 0;
                while let Some((value, len)) = parse(buffer.get(consumed..).unwrap_or_default())? {
                    consumed += len;
                    if let Some(answer) = waiting.pop_front() {
                        let _ = answer.send(value);
                    }
                }
                buffer.drain(..consumed);
                buffer.reserve(64 * 1024);
            }
            n = requests.recv_many(&mut taken, 1024) => {
                if n == 0 {
                    return Ok(());
                }
                // Whoever was just answered may have more to ask.
                tokio::task::yield_now().await;
                while let Ok(more) = requests.try_recv() {
                    taken.push(more);
                }
                for (request, answer) in taken.drain(..) {
                    out.extend_from_slice(&request);
                    waiting.push_back(answer);
                }
                writer.write_all(&out).await?;
                out.clear();
            }
        }
    }
}

/// One answer and its length, if it is whole.
fn parse(buffer: &[u8]) -> Result<Option<(Option<Vec<u8>>, usize)>> {
    let Some(end) = buffer.iter().position(|&byte| byte == b'\n') else {
        return Ok(None);
    };
    let line = buffer.get(..end.saturating_sub(1)).unwrap_or_default();
    let Some(len) = line.strip_prefix(b"VA ") else {
        return Ok(Some((None, end + 1)));
    };
    let len: usize = std::str::from_utf8(len)?.trim().parse()?;
    let whole = end + 1 + len + 2;
    if buffer.len() < whole {
        return Ok(None);
    }
    let value = buffer.get(end + 1..end + 1 + len).map(<[u8]>::to_vec);
    Ok(Some((value, whole)))
}
