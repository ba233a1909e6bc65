//! [`Server`], the process and temporary folder of a memcached or etcd server.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The variable that sets the folder for the servers' data; defaults to the temporary directory.
const FOLDER: &str = "TEST_SERVERS_FOLDER";

/// How long a server may take to respond after its start.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a server may take to react to a signal that terminates or stops it.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

const STEP: Duration = Duration::from_millis(5);

/// Waits for the end of its standard input, which comes when the tests end in any way, and cleans
/// up after them.
const WATCHDOG: &str = r#"cat > /dev/null; kill -9 "$0"; rm -rf "$1""#;

/// A server's process and folder.
///
/// Dropping it kills the process and removes the folder. The same happens when the tests end
/// without dropping it, as with a server in a `static`.
#[derive(Debug)]
pub struct Server {
    /// The server and its watchdog.
    process: Option<(Child, Child)>,
    folder: TempDir,
}

impl Server {
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        Ok(Self {
            process: None,
            folder: tempfile::Builder::new()
                .prefix(name)
                .tempdir_in(std::env::var_os(FOLDER).map_or_else(std::env::temp_dir, Into::into))?,
        })
    }

    /// The process ID; `None` if it is not running.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(|(server, _)| server.id())
    }

    /// The file with the server's certificate, for clients to trust. It exists only if the server
    /// was started with `tls`.
    pub fn certificate(&self) -> PathBuf {
        self.file("certificate.pem")
    }

    /// Stops the process (`SIGSTOP`): connections stay open and the kernel accepts new ones, but
    /// the server does not respond.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("STOP")?;
        // Each thread stops only when it next leaves the kernel.
        let begin = Instant::now();
        while self.has_running_threads() && begin.elapsed() < ENDED_WITHIN {
            sleep(STEP);
        }
        Ok(())
    }

    /// Continues the process after [`pause`](Self::pause).
    pub fn resume(&self) -> io::Result<()> {
        self.signal("CONT")
    }

    /// Kills the process (`SIGKILL`). Its port then refuses connections; its data is kept.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some((mut server, mut watchdog)) = self.process.take() else {
            return Ok(());
        };
        // End the watchdog first, since the process ID may soon be reused.
        watchdog.kill()?;
        watchdog.wait()?;
        server.kill()?;
        server.wait().map(drop)
    }

    /// Terminates the process (`SIGTERM`) and waits for it; kills it after 5 s.
    pub fn stop(&mut self) -> io::Result<()> {
        if self.process.is_some() {
            self.signal("TERM")?;
        }
        let begin = Instant::now();
        while let Some((server, _)) = &mut self.process
            && server.try_wait()?.is_none()
            && begin.elapsed() < ENDED_WITHIN
        {
            sleep(STEP);
        }
        self.kill()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the process without waiting until it serves.
    pub(crate) fn launch(&mut self, command: &mut Command) -> io::Result<()> {
        let log = File::create(self.file("log"))?;
        let mut server = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, &server.id().to_string()])
            .arg(self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // The watchdog must outlive the tests, so Ctrl-C must not reach it.
            .process_group(0)
            .spawn()
            .inspect_err(|_| drop(server.kill()))?;
        self.process = Some((server, watchdog));
        Ok(())
    }

    /// Waits until `is_ready`. If the process exits instead, the error contains the last lines of
    /// its output.
    pub(crate) fn wait_until(&mut self, is_ready: impl Fn() -> bool) -> io::Result<()> {
        let begin = Instant::now();
        loop {
            let was_ready = is_ready();
            sleep(STEP);
            let server = self.process.as_mut().map(|(server, _)| server);
            // The response may have come from another process that already used the port.
            if let Some(status) = server.ok_or_else(not_running)?.try_wait()? {
                return Err(self.failure(&format!("exited during startup ({status})")));
            }
            if was_ready {
                return Ok(());
            }
            if begin.elapsed() > READY_WITHIN {
                return Err(self.failure(&format!("did not respond within {READY_WITHIN:?}")));
            }
        }
    }

    fn failure(&self, what: &str) -> io::Error {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines
            .get(lines.len().saturating_sub(5)..)
            .unwrap_or_default();
        io::Error::other(format!("the server {what}: {}", tail.join(" / ")))
    }

    fn signal(&self, signal: &str) -> io::Result<()> {
        let id = self.id().ok_or_else(not_running)?;
        // Use the shell's built-in `kill`, since not every system has the binary.
        let kill = format!("kill -{signal} {id}");
        succeed(Command::new("sh").args(["-c", &kill]))
    }

    /// Whether any thread is not stopped; always `false` without `/proc`.
    fn has_running_threads(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id().unwrap_or_default()));
        threads.into_iter().flatten().flatten().any(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state follows the name, which is in parentheses and may contain anything.
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
            state.is_some_and(|state| !state.starts_with('T'))
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The process may already have ended.
        let _ = self.kill();
    }
}

fn not_running() -> io::Error {
    io::Error::other("the server is not running; `restart` starts it again")
}

/// Runs a command; if it fails, the error contains its standard error.
fn succeed(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?} failed: {said}")))
}

/// Finds a server's binary in `PATH` and in the usual folders for servers.
pub(crate) fn command(name: &str, package: &str) -> io::Result<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    let found = std::env::split_paths(&path)
        .chain(usual.map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file());
    let message =
        || format!("`{name}` is not installed; on Debian and Ubuntu: `apt-get install {package}`");
    let found = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, message()))?;
    Ok(Command::new(found))
}

/// Finds an unused port.
///
/// The port is below the kernel's range of ephemeral ports. Within that range, a client that keeps
/// trying to connect to a dead server may end up connected to itself.
pub(crate) fn free_port() -> io::Result<u16> {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(10_000..30_000)).take(1000);
    ports
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| io::Error::other("no free port between 10000 and 30000"))
}

/// Writes a new self-signed `certificate.pem` for `localhost` and `127.0.0.1`, and its `key.pem`.
pub(crate) fn make_certificate(folder: &Path) -> io::Result<()> {
    // Clients reject a certificate that is both a CA and a server certificate.
    let options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
                   -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
                   -addext basicConstraints=critical,CA:FALSE \
                   -keyout key.pem -out certificate.pem";
    let mut openssl = command("openssl", "openssl")?;
    succeed(openssl.args(options.split_whitespace()).current_dir(folder))
}
