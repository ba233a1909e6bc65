//! The bare round trip: one caller, a connection to each server, a system call each way.

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::clients::Client;
use super::wire::{self, Found};

pub(super) struct RoundTrip(Mutex<Vec<Connection>>);

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

impl RoundTrip {
    pub(super) async fn connect(urls: &[String]) -> Result<Self> {
        let mut connections = Vec::new();
        for url in urls {
            let stream = TcpStream::connect(url).await?;
            stream.set_nodelay(true)?;
            connections.push(Connection {
                stream,
                out: Vec::new(),
                buffer: Vec::with_capacity(64 * 1024),
            });
        }
        Ok(Self(Mutex::new(connections)))
    }

    /// One key on the server that has it.
    async fn one(&self, key: &str, encode: impl Fn(&mut Vec<u8>)) -> Result<Found> {
        let mut connections = self.0.lock().await;
        let servers = connections.len();
        let connection = connections.get_mut(server_of(key, servers));
        let connection = connection.context("a server")?;
        encode(&mut connection.out);
        connection.write().await?;
        loop {
            connection.read().await?;
            if let Some((found, _)) = wire::answer(&connection.buffer)? {
                return Ok(found);
            }
        }
    }
}

impl Connection {
    async fn write(&mut self) -> Result<()> {
        self.stream.write_all(&self.out).await?;
        self.out.clear();
        self.buffer.clear();
        Ok(())
    }

    async fn read(&mut self) -> Result<()> {
        let n = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(n > 0, "the server closed the connection");
        Ok(())
    }
}

impl Client for RoundTrip {
    const PREFIX: &'static str = "bare";

    async fn get(&self, key: &str) -> Result<Option<usize>> {
        let found = self.one(key, |out| wire::get(key, out)).await?;
        Ok(found.map(|value| value.payload().len()))
    }

    async fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        self.one(key, |out| wire::set(key, value, out)).await?;
        Ok(())
    }

    /// All servers are asked before the first is heard.
    async fn get_multi(&self, keys: &[&str]) -> Result<usize> {
        let mut connections = self.0.lock().await;
        let servers = connections.len();
        for (server, connection) in connections.iter_mut().enumerate() {
            wire::get_many(keys_of(server, servers, keys), &mut connection.out);
            connection.write().await?;
        }
        let mut found = Vec::with_capacity(keys.len());
        for connection in connections.iter_mut() {
            let mut consumed = 0;
            'server: loop {
                connection.read().await?;
                while let Some((value, len)) =
                    wire::value(connection.buffer.get(consumed..).unwrap_or_default())?
                {
                    consumed += len;
                    match value {
                        Some(value) => found.push(value),
                        None => break 'server,
                    }
                }
            }
        }
        Ok(found.len())
    }

    async fn set_multi(&self, keys: &[&str], value: &[u8]) -> Result<()> {
        let mut connections = self.0.lock().await;
        let servers = connections.len();
        for (server, connection) in connections.iter_mut().enumerate() {
            wire::set_many(keys_of(server, servers, keys), value, &mut connection.out);
            connection.write().await?;
        }
        for connection in connections.iter_mut() {
            loop {
                connection.read().await?;
                if wire::are_stored(&connection.buffer)? {
                    break;
                }
            }
        }
        Ok(())
    }
}

/// By the last characters of the key, which are hexadecimal digits.
fn server_of(key: &str, servers: usize) -> usize {
    let end = key.as_bytes().iter().rev().take(8);
    let sum = end.fold(0_usize, |sum, &byte| sum * 31 + usize::from(byte));
    sum.checked_rem(servers).unwrap_or_default()
}

fn keys_of<'a>(
    server: usize,
    servers: usize,
    keys: &'a [&'a str],
) -> impl Iterator<Item = &'a str> {
    let all = keys.iter().copied();
    all.filter(move |key| server_of(key, servers) == server)
}
