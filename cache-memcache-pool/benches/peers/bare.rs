//! The bare round trip: one caller, one connection per server, one system call each way.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use comparison::load::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, MutexGuard};

use crate::wire::{self, Found};

#[derive(Clone)]
pub(crate) struct RoundTrip(Arc<Mutex<Vec<Connection>>>);

struct Connection {
    stream: TcpStream,
    out: Vec<u8>,
    buffer: Vec<u8>,
}

impl RoundTrip {
    pub(crate) async fn connect(urls: &[String]) -> Result<Self> {
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
        Ok(Self(Arc::new(Mutex::new(connections))))
    }

    /// Sends a single-key request to the server that holds the key.
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

    /// Sends each server the request for its share of the keys.
    async fn ask(
        &self,
        keys: &[&str],
        encode: impl Fn(&[&str], &mut Vec<u8>),
    ) -> Result<MutexGuard<'_, Vec<Connection>>> {
        let mut connections = self.0.lock().await;
        let servers = connections.len();
        for (server, connection) in connections.iter_mut().enumerate() {
            let its = keys.iter().filter(|key| server_of(key, servers) == server);
            encode(&its.copied().collect::<Vec<_>>(), &mut connection.out);
            connection.write().await?;
        }
        Ok(connections)
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
    /// Sends all requests before reading the first answer.
    async fn get(&mut self, keys: &[&str]) -> Result<usize> {
        if let [key] = keys {
            let found = self.one(key, |out| wire::get(key, out)).await?;
            return Ok(usize::from(found.is_some()));
        }
        let mut connections = self.ask(keys, wire::get_many).await?;
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

    async fn set(&mut self, keys: &[&str], value: &[u8]) -> Result<()> {
        if let [key] = keys {
            self.one(key, |out| wire::set(key, value, out)).await?;
            return Ok(());
        }
        let set = |keys: &[&str], out: &mut Vec<u8>| wire::set_many(keys, value, out);
        let mut connections = self.ask(keys, set).await?;
        for connection in connections.iter_mut() {
            while !wire::are_stored(&connection.buffer)? {
                connection.read().await?;
            }
        }
        Ok(())
    }
}

/// Picks a server by the key's last characters, which are hexadecimal digits.
fn server_of(key: &str, servers: usize) -> usize {
    let end = key.as_bytes().iter().rev().take(8);
    let sum = end.fold(0_usize, |sum, &byte| sum * 31 + usize::from(byte));
    sum.checked_rem(servers).unwrap_or_default()
}
