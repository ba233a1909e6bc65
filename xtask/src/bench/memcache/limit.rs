//! What is possible: a pipelined client without any of the duties of a library. It knows two
//! commands, one server, and no faults; it keeps payloads as they are, without metadata.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

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
