//! [`Stream`]: the socket to a server: TCP, a Unix socket, or TLS over TCP.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use super::Caller;
use super::queue::Batch;
use crate::config::{Address, Family, Settings, Transport};
use crate::protocol::{ASK_VERSION, Dialect, check_version};

pub(crate) enum Stream {
    Own(Box<dyn Transport>),
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

/// Why connecting failed.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The server cannot be reached.
    Io(io::Error),
    /// It took too long.
    Silent,
    /// It refuses the credentials, or requires them.
    Denied(String),
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Connects to the first of the host's addresses that accepts.
async fn connect(host: &str, port: u16, family: Family) -> io::Result<TcpStream> {
    if family == Family::Any {
        return TcpStream::connect((host, port)).await;
    }
    let mut failure = None;
    for address in tokio::net::lookup_host((host, port)).await? {
        if family.has(address.ip()) {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(error),
            }
        }
    }
    Err(failure.unwrap_or_else(|| {
        let version = if family == Family::V4 { "IPv4" } else { "IPv6" };
        let message = format!("{host} has no {version} address");
        io::Error::new(io::ErrorKind::NotFound, message)
    }))
}

impl Stream {
    /// Connects and presents the credentials, if there are any, without a timeout. `on_connect` is
    /// called once there is a connection.
    pub(crate) async fn open(
        address: &Address,
        settings: &Settings,
        on_connect: impl FnOnce(),
    ) -> Result<Self, ConnectError> {
        let mut stream = match address {
            _ if settings.connector.is_some() => {
                let Some(connect) = &settings.connector else {
                    return Err(io::Error::from(io::ErrorKind::Unsupported).into());
                };
                Self::Own(connect(&address.to_string()).await?)
            }
            Address::Tcp { host, port, family } => {
                let stream = connect(host, *port, *family).await?;
                stream.set_nodelay(true)?;
                Self::secure(stream, host, settings).await?
            }
            #[cfg(unix)]
            Address::Unix(path) => Self::Unix(UnixStream::connect(path).await?),
            #[cfg(not(unix))]
            Address::Unix(_) => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        };
        on_connect();
        if let Some(credentials) = &settings.credentials {
            stream.authenticate(credentials, settings.dialect).await?;
        }
        Ok(stream)
    }

    #[cfg(feature = "tls")]
    async fn secure(stream: TcpStream, host: &str, settings: &Settings) -> io::Result<Self> {
        match &settings.tls {
            None => Ok(Self::Tcp(stream)),
            Some(tls) => {
                let stream = tls.handshake(stream, host).await?;
                Ok(Self::Tls(Box::new(stream)))
            }
        }
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_async, reason = "it is async with TLS")]
    async fn secure(stream: TcpStream, _: &str, _: &Settings) -> io::Result<Self> {
        Ok(Self::Tcp(stream))
    }

    /// The end of the bytes to write at once, from `from` on.
    ///
    /// memcached over TLS does not process the part of a record that exceeds its buffer until more
    /// data arrives. So a record contains complete commands that fit into the buffer, or a part of
    /// a single command.
    pub(super) fn write_to(&self, out: &Batch<Caller>, from: usize) -> usize {
        /// memcached's read buffer, and the maximum of a TLS record.
        const RECORD: usize = 16 * 1024;
        if !self.is_tls() {
            return out.bytes.len();
        }
        let after = out.ends.partition_point(|&end| end <= from);
        let fits = out.ends.partition_point(|&end| end <= from + RECORD);
        let end = out.ends.get(fits.max(after + 1) - 1);
        end.copied().unwrap_or(out.bytes.len())
    }

    #[cfg(feature = "tls")]
    fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    #[cfg(not(feature = "tls"))]
    #[expect(clippy::unused_self, reason = "it is used with TLS")]
    fn is_tls(&self) -> bool {
        false
    }

    /// memcached's ASCII authentication: the first command sets the credentials.
    async fn authenticate(
        &mut self,
        credentials: &str,
        dialect: Dialect,
    ) -> Result<(), ConnectError> {
        // A server that requires no password would store it as a readable value, and a server that
        // is not memcached must not receive it.
        let answer = self.ask(ASK_VERSION).await?;
        if is_welcome(&answer, dialect) {
            return Ok(());
        }
        if !answer.starts_with("CLIENT_ERROR unauthenticated") {
            return Err(odd(&answer).into());
        }
        let len = credentials.len();
        let command = format!("set auth 0 0 {len}\r\n{credentials}\r\n");
        match self.ask(command.as_bytes()).await?.as_str() {
            "STORED" => Ok(()),
            answer => Err(ConnectError::Denied(format!(
                "the server refused username and password ({answer:?})"
            ))),
        }
    }

    /// Checks that the server responds.
    pub(crate) async fn greet(&mut self, dialect: Dialect) -> Result<(), ConnectError> {
        let answer = self.ask(ASK_VERSION).await?;
        if answer.starts_with("CLIENT_ERROR unauthenticated") {
            return Err(ConnectError::Denied(
                "the server requires authentication".into(),
            ));
        }
        if !is_welcome(&answer, dialect) {
            return Err(odd(&answer).into());
        }
        // A proxy may know the version of its servers, but not the meta commands.
        if dialect == Dialect::Meta {
            let answer = self.ask(b"mn\r\n").await?;
            if !answer.starts_with("MN") {
                return Err(odd(&answer).into());
            }
        }
        Ok(())
    }

    /// Sends one command and reads its single-line response.
    pub(crate) async fn ask(&mut self, command: &[u8]) -> io::Result<String> {
        const LONGEST: usize = 1024;
        self.write_all(command).await?;
        self.flush().await?;
        let mut line = Vec::new();
        // Byte by byte, so as not to read beyond the line; this happens once per connection.
        while line.len() < LONGEST {
            match self.read_u8().await? {
                b'\n' => {
                    let line = String::from_utf8_lossy(&line);
                    return Ok(line.trim_end_matches('\r').to_owned());
                }
                byte => line.push(byte),
            }
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the response is not a line of the memcached protocol",
        ))
    }
}

/// The message for a failure to connect.
pub(crate) fn cannot_connect(error: &io::Error) -> String {
    let message = error.to_string();
    let advice = match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            "; is memcached running there?"
        }
        // std has no kind for it.
        _ if message.contains("failed to lookup address") => "; check the name in `url`",
        _ => "",
    };
    format!("cannot connect: {message}{advice}")
}

/// Whether this is the version of a server with the commands of `dialect`.
fn is_welcome(answer: &str, dialect: Dialect) -> bool {
    check_version(answer.as_bytes(), dialect).is_ok()
}

/// The error for an unexpected response.
fn odd(answer: &str) -> io::Error {
    io::Error::other(format!(
        "unexpected response {answer:?}; is it memcached 1.6.10 or later? For older servers and \
         proxies set `protocol` to \"classic\""
    ))
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Own($stream) => $call,
            Stream::Tcp($stream) => $call,
            #[cfg(unix)]
            Stream::Unix($stream) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_read(cx, buffer))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}
