//! A proxy in front of a real server that corrupts responses.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the proxy does to responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Spoil {
    Nothing,
    /// One byte at a time.
    ByteByByte,
    /// The first half, then closes the connection.
    HalfThenEnd,
    /// The first half, and nothing more.
    HalfThenSilence,
    /// Bytes that are not a response.
    Garbage,
    /// A valid unsolicited response before the right one.
    OneTooMany,
    /// A wrong length for a value.
    WrongLength,
    /// A length that exceeds every limit.
    HugeLength,
    /// A line that never ends.
    EndlessLine,
    /// Closes the connection as soon as it is open.
    EndAtOnce,
}

impl Spoil {
    pub(crate) const ALL: [Self; 9] = [
        Self::ByteByByte,
        Self::HalfThenEnd,
        Self::HalfThenSilence,
        Self::Garbage,
        Self::OneTooMany,
        Self::WrongLength,
        Self::HugeLength,
        Self::EndlessLine,
        Self::EndAtOnce,
    ];

    fn from_number(number: u8) -> Self {
        let found = Self::ALL.into_iter().find(|spoil| *spoil as u8 == number);
        found.unwrap_or(Self::Nothing)
    }
}

pub(crate) struct Proxy {
    url: String,
    spoil: Arc<AtomicU8>,
    task: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = listener.local_addr().unwrap().to_string();
        let spoil = Arc::new(AtomicU8::new(Spoil::Nothing as u8));
        let spoil_there = Arc::clone(&spoil);
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                open.spawn(serve(client, server.clone(), Arc::clone(&spoil_there)));
            }
        });
        Self { url, spoil, task }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn set(&self, spoil: Spoil) {
        self.spoil.store(spoil as u8, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(client: TcpStream, server: String, spoil: Arc<AtomicU8>) {
    let now = || Spoil::from_number(spoil.load(Ordering::SeqCst));
    if now() == Spoil::EndAtOnce {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    client.set_nodelay(true).unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    };
    let answers = async {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let n = from_server.read(&mut buffer).await.unwrap_or(0);
            if n == 0 {
                return;
            }
            let answer = &buffer[..n];
            let goes_on = match now() {
                Spoil::Nothing => to_client.write_all(answer).await.is_ok(),
                Spoil::ByteByByte => {
                    for byte in answer {
                        if to_client.write_all(&[*byte]).await.is_err() {
                            return;
                        }
                        tokio::task::yield_now().await;
                    }
                    true
                }
                Spoil::HalfThenEnd => {
                    let _ = to_client.write_all(&answer[..n / 2]).await;
                    return;
                }
                Spoil::HalfThenSilence => {
                    let _ = to_client.write_all(&answer[..n / 2]).await;
                    tokio::time::sleep(Duration::from_secs(3600)).await;
                    false
                }
                Spoil::Garbage => to_client
                    .write_all(b"\x16\x03\x01 I am no memcached\r\n")
                    .await
                    .is_ok(),
                Spoil::OneTooMany => {
                    let extra = b"VA 39 f0 O1\r\n{\"ct\": 1700000000.123456, \"v\": 2}|wrong!\r\n";
                    let _ = to_client.write_all(extra).await;
                    to_client.write_all(answer).await.is_ok()
                }
                Spoil::WrongLength => {
                    let wrong = String::from_utf8_lossy(answer).replace("VA 4", "VA 3");
                    to_client.write_all(wrong.as_bytes()).await.is_ok()
                }
                Spoil::HugeLength => to_client
                    .write_all(b"VA 999999999999 f0 O1\r\n")
                    .await
                    .is_ok(),
                Spoil::EndlessLine => to_client.write_all(&[b'x'; 10_000]).await.is_ok(),
                Spoil::EndAtOnce => return,
            };
            if !goes_on {
                return;
            }
        }
    };
    tokio::select! {
        () = requests => {}
        () = answers => {}
    }
}
