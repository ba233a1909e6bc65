//! [`Server`], a server process that is killed when the tests end.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::rng;

/// A server process for tests, on a free loopback port.
///
/// It is killed when this handle is dropped, and also when the test process ends without dropping
/// it, as with a server in a `static` that all tests share.
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

/// Waits for the end of its standard input, which is closed when the tests end in any way.
const WATCHDOG: &str = r#"cat > /dev/null; kill -9 "$0""#;

impl Server {
    /// Starts the `command` for a port, and waits until the port accepts connections.
    ///
    /// # Errors
    ///
    /// If the program is not installed, exits at once, or does not open the port within a minute.
    /// The output of the program is discarded; start it by hand to read it.
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
            // Ctrl-C must not end it, because it has to outlive the tests.
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
                    "`{program}` exited at once: {status}; start it by hand to see why"
                )));
            }
            if started.elapsed() > READY_WITHIN {
                return Err(io::Error::other(format!(
                    "`{program}` does not accept connections at {address} after a minute; start it by hand to see why"
                )));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// Returns the address of the server.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The watchdog first, because the id of the process may be reused.
        self.watchdog.kill().ok();
        self.watchdog.wait().ok();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A free port below the range of outgoing connections: in that range, a client that keeps trying
/// to reach a dead server may connect to itself.
fn free_port() -> io::Result<u16> {
    for _ in 0..1000 {
        let port = 10_000 + u16::try_from(rng::entropy() % 20_000).unwrap_or(0);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other(
        "no free port found between 10000 and 30000",
    ))
}
