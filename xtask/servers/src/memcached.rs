//! [`Memcached`], a memcached process.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
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
    /// `None` if it listens on a Unix socket.
    port: Option<u16>,
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
#[derive(Clone, Debug, Default)]
pub struct MemcachedBuilder {
    args: Vec<String>,
    unix_socket: bool,
    auth: Option<(String, String)>,
    tls: bool,
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
        let on_port = !self.unix_socket;
        let mut memcached = Memcached {
            settings: self,
            port: None,
            server,
        };
        // Another process may take the port before memcached does.
        for attempt in 1.. {
            memcached.port = on_port.then(free_port).transpose()?;
            match memcached.restart() {
                Err(error) if attempt < 5 && error.kind() != io::ErrorKind::NotFound => {}
                done => return done.map(|()| memcached),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
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
        match self.port {
            Some(port) => format!("127.0.0.1:{port}"),
            None => format!("unix:{}", self.socket().display()),
        }
    }

    /// The port; `None` for a Unix socket.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    fn socket(&self) -> PathBuf {
        self.server.file("socket")
    }

    /// Restarts the server at the same address, killing it first if it is still running.
    pub fn restart(&mut self) -> io::Result<()> {
        self.server.kill()?;
        let mut command = command("memcached", "memcached")?;
        // Memcached refuses to run as root without this; other users may pass it as well.
        command.args(["-u", "root"]);
        let (port, socket) = (self.port, self.socket());
        if let Some(port) = port {
            command.args(["-l", "127.0.0.1", "-U", "0", "-p", &port.to_string()]);
        } else {
            let _ = fs::remove_file(&socket);
            command.arg("-s").arg(&socket);
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
        self.server.wait_until(|| match port {
            Some(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok(),
            None => UnixStream::connect(&socket).is_ok(),
        })
    }

    /// Memcached's statistics by name: `curr_connections`, `cmd_get`, …. Does not support TLS,
    /// authentication or Unix sockets.
    pub fn stats(&self) -> io::Result<HashMap<String, String>> {
        let mut stream = TcpStream::connect(self.url())?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
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
