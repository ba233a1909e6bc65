//! [`Server`], a server process that ends with the tests.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::rng;

/// A server that the tests start for themselves, on a free loopback port.
///
/// It is killed when this is dropped, and also when the process of the tests ends without
/// dropping it, as with a server in a `static` that all tests share.
///
/// ```no_run
/// use std::process::Command;
/// use std::sync::OnceLock;
/// use cache_conformance::Server;
///
/// fn server() -> &'static Server {
///     static SERVER: OnceLock<Server> = OnceLock::new();
///     SERVER.get_or_init(|| {
///         let started = Server::start(|port| {
///             let mut command = Command::new("redis-server");
///             command.args(["--save", "", "--port", &port.to_string()]);
///             command
///         });
///         started.expect("cannot start redis-server")
///     })
/// }
/// ```
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    child: Child,
    watchdog: Child,
}

/// Waits for the end of its standard input, which comes when the tests end in whatever way.
const WATCHDOG: &str = r#"cat > /dev/null; kill -9 "$0""#;

impl Server {
    /// Starts what `command` gives for a port, and waits until that port takes connections.
    ///
    /// # Errors
    ///
    /// An error if the program is not installed, ends at once or opens no port within a minute.
    /// Its output is discarded; start it by hand to read it.
    pub fn start(command: impl Fn(u16) -> Command) -> io::Result<Self> {
        const READY_WITHIN: Duration = Duration::from_secs(60);
        let port = free_port()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut command = command(port);
        let program = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                let message = format!("cannot start `{program}`: {error}; is it installed?");
                io::Error::new(error.kind(), message)
            })?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the tests; it has to outlive them.
            .process_group(0)
            .spawn();
        let watchdog = match watchdog {
            Ok(watchdog) => watchdog,
            Err(error) => {
                child.kill()?;
                child.wait()?;
                return Err(error);
            }
        };
        let mut server = Self {
            address,
            child,
            watchdog,
        };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(io::Error::other(format!(
                    "`{program}` ended at once: {status}"
                )));
            }
            if started.elapsed() > READY_WITHIN {
                return Err(io::Error::other(format!(
                    "`{program}` takes no connections at {address}"
                )));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The watchdog first: the process's id may soon be another's.
        self.watchdog.kill().ok();
        self.watchdog.wait().ok();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A port that nobody listens on, below the range of outgoing connections: a client that keeps
/// trying to reach a dead server in that range ends up connected to itself.
fn free_port() -> io::Result<u16> {
    for _ in 0..1000 {
        let port = 10_000 + u16::try_from(rng::entropy() % 20_000).unwrap_or(0);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no free port between 10000 and 30000"))
}
