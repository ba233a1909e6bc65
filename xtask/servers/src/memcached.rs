//! [`Memcached`], a memcached process.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::server::{Server, command, free_port, make_certificate};

/// A memcached server on a free loopback port or a Unix socket. It ends when dropped.
///
/// Requires the `memcached` binary, version 1.6 or later.
///
/// ```no_run
/// use test_servers::Memcached;
///
/// let mut server = Memcached::start()?;
/// println!("listening at {}", server.url());
/// server.pause()?; // unresponsive, with open connections
/// server.resume()?;
/// server.kill()?;
/// server.restart()?; // empty, at the same address
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Memcached {
    settings: MemcachedBuilder,
    endpoint: Endpoint,
    server: Server,
}

/// The options of a [`Memcached`].
///
/// ```no_run
/// use test_servers::Memcached;
///
/// let server = Memcached::builder().args(["-m", "16"]).auth("user", "secret").start()?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct MemcachedBuilder {
    args: Vec<String>,
    unix_socket: bool,
    auth: Option<(String, String)>,
    tls: bool,
}

impl std::fmt::Debug for MemcachedBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemcachedBuilder")
            .field("args", &self.args)
            .field("unix_socket", &self.unix_socket)
            .field("auth", &self.auth.is_some())
            .field("tls", &self.tls)
            .finish()
    }
}

impl MemcachedBuilder {
    /// Adds an argument to memcached's own.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments to memcached's own.
    #[must_use]
    pub fn args<S: Into<String>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Listens on a Unix socket instead of a TCP port.
    #[must_use]
    pub fn unix_socket(mut self) -> Self {
        self.unix_socket = true;
        self
    }

    /// Requires this name and password, with memcached's ASCII authentication.
    #[must_use]
    pub fn auth(mut self, username: &str, password: &str) -> Self {
        self.auth = Some((username.to_owned(), password.to_owned()));
        self
    }

    /// Uses TLS, with a new self-signed certificate for `localhost` and `127.0.0.1` at
    /// [`Server::certificate`]. Requires the `openssl` binary, and a memcached built with TLS
    /// support, such as Debian's.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts the server and waits until it accepts connections.
    pub fn start(self) -> io::Result<Memcached> {
        let server = Server::new("memcached")?;
        if let Some((username, password)) = &self.auth {
            fs::write(server.file("auth"), format!("{username}:{password}\n"))?;
        }
        if self.tls {
            make_certificate(&server.file(""))?;
        }
        let mut memcached = Memcached {
            endpoint: Endpoint::Unix(server.file("socket")),
            settings: self,
            server,
        };
        if memcached.settings.unix_socket {
            memcached.restart()?;
            return Ok(memcached);
        }
        // Another process may take the port before memcached does.
        for attempt in 1.. {
            memcached.endpoint = Endpoint::Tcp(free_port()?);
            match memcached.restart() {
                Err(error) if attempt < 5 && error.kind() != io::ErrorKind::NotFound => {}
                done => return done.map(|()| memcached),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

#[derive(Clone, Debug)]
enum Endpoint {
    Tcp(u16),
    Unix(PathBuf),
}

trait ReadWrite: Read + Write {}
impl<S: Read + Write> ReadWrite for S {}

impl Endpoint {
    fn connect(&self) -> io::Result<Box<dyn ReadWrite>> {
        let patience = Some(Duration::from_secs(2));
        match self {
            Self::Tcp(port) => {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
                stream.set_read_timeout(patience)?;
                Ok(Box::new(stream))
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                Ok(Box::new(stream))
            }
        }
    }

    /// Whether the server sends any answer.
    fn answers(&self) -> bool {
        let answer = self.connect().and_then(|mut stream| {
            stream.write_all(b"version\r\n")?;
            stream.read(&mut [0; 1])
        });
        matches!(answer, Ok(1))
    }
}

impl Memcached {
    /// Starts a server with memcached's defaults: 64 MiB, values of up to 1 MiB.
    pub fn start() -> io::Result<Self> {
        Self::builder().start()
    }

    /// Returns a builder for a server with other options.
    pub fn builder() -> MemcachedBuilder {
        MemcachedBuilder::default()
    }

    /// The address for clients: `127.0.0.1:PORT`, or `unix:/path`.
    pub fn url(&self) -> String {
        match &self.endpoint {
            Endpoint::Tcp(port) => format!("127.0.0.1:{port}"),
            Endpoint::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// The port; `None` for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        match self.endpoint {
            Endpoint::Tcp(port) => Some(port),
            Endpoint::Unix(_) => None,
        }
    }

    /// Restarts the server at the same address, killing it first if it is still running.
    pub fn restart(&mut self) -> io::Result<()> {
        self.server.kill()?;
        let mut command = command("memcached", "memcached")?;
        // Memcached refuses to run as root without this; other users may pass it as well.
        command.args(["-u", "root"]);
        match &self.endpoint {
            Endpoint::Tcp(port) => {
                command.args(["-l", "127.0.0.1", "-U", "0", "-p", &port.to_string()]);
            }
            Endpoint::Unix(path) => {
                let _ = fs::remove_file(path);
                command.arg("-s").arg(path);
            }
        }
        if self.settings.auth.is_some() {
            command.arg("-Y").arg(self.server.file("auth"));
        }
        if self.settings.tls {
            let (chain, key) = (self.server.certificate(), self.server.file("key.pem"));
            let (chain, key) = (chain.display(), key.display());
            command.args(["-Z", "-o", &format!("ssl_chain_cert={chain},ssl_key={key}")]);
        }
        self.server.launch(command.args(&self.settings.args))?;
        let (endpoint, tls) = (self.endpoint.clone(), self.settings.tls);
        self.server.wait_until(|| {
            if tls {
                endpoint.connect().is_ok()
            } else {
                endpoint.answers()
            }
        })
    }

    /// Memcached's statistics by name: `curr_connections`, `cmd_get`, …. Does not support TLS or
    /// authentication.
    pub fn stats(&self) -> io::Result<HashMap<String, String>> {
        let mut stream = self.endpoint.connect()?;
        stream.write_all(b"stats\r\n")?;
        let mut stats = HashMap::new();
        for line in BufReader::new(stream).lines() {
            let line = line?;
            match line
                .strip_prefix("STAT ")
                .and_then(|stat| stat.split_once(' '))
            {
                Some((name, value)) => stats.insert(name.to_owned(), value.to_owned()),
                None if line == "END" => return Ok(stats),
                None => return Err(io::Error::other(format!("memcached said {line:?}"))),
            };
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// Gives access to the methods common to all servers.
impl Deref for Memcached {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Memcached {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}
