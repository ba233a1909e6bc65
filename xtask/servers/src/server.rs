//! [`Server`], a process with a temporary folder: what memcached and etcd have in common.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Where the servers keep their data; the directory for temporary files if it is not set.
const FOLDER: &str = "TEST_SERVERS_FOLDER";

/// How long a server may take to answer after it was started.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a server may take to end, or to stop, when it is told to.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

const STEP: Duration = Duration::from_millis(5);

/// Waits for the end of its standard input, which comes when the tests end in whatever way, and
/// cleans up after them.
const WATCHDOG: &str = r#"cat > /dev/null; kill -9 "$0"; rm -rf "$1""#;

/// A server's process and folder.
///
/// Dropping it kills the process and removes the folder. The same happens when the tests end
/// without dropping it, as with a server in a `static`.
#[derive(Debug)]
pub struct Server {
    /// With its watchdog.
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

    /// The id of its process, `None` while it is killed.
    pub fn id(&self) -> Option<u32> {
        self.process.as_ref().map(|(server, _)| server.id())
    }

    /// The file with its certificate, for clients to trust. It exists only if the server was
    /// started with `tls`.
    pub fn certificate(&self) -> PathBuf {
        self.file("certificate.pem")
    }

    /// Stops the process (`SIGSTOP`): its connections stay open, the kernel accepts new ones,
    /// and nothing is answered.
    pub fn pause(&self) -> io::Result<()> {
        self.signal("STOP")?;
        // Each thread stops when it next leaves the kernel.
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

    /// Kills the process (`SIGKILL`). Its port then refuses connections; its data stays.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some((mut server, mut watchdog)) = self.process.take() else {
            return Ok(());
        };
        // The watchdog first: the process's id may soon be another's.
        watchdog.kill()?;
        watchdog.wait()?;
        server.kill()?;
        server.wait().map(drop)
    }

    /// Ends the process (`SIGTERM`) and waits for it; kills it if it takes longer than 5 s.
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

    /// Starts the process, and does not wait until it serves.
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
            // Ctrl-C is for the tests; it has to outlive them.
            .process_group(0)
            .spawn()
            .inspect_err(|_| drop(server.kill()))?;
        self.process = Some((server, watchdog));
        Ok(())
    }

    /// Waits until `is_ready`. A process that exits instead is an error with the last lines of
    /// its output.
    pub(crate) fn wait_until(&mut self, is_ready: impl Fn() -> bool) -> io::Result<()> {
        let begin = Instant::now();
        loop {
            let was_ready = is_ready();
            sleep(STEP);
            let server = self.process.as_mut().map(|(server, _)| server);
            // What answered may be another process that was there before.
            if let Some(status) = server.ok_or_else(not_running)?.try_wait()? {
                return Err(self.failure(&format!("ended at once ({status})")));
            }
            if was_ready {
                return Ok(());
            }
            if begin.elapsed() > READY_WITHIN {
                return Err(self.failure(&format!("gave no answer within {READY_WITHIN:?}")));
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
        // The shell has `kill` built in, on systems without such a binary too.
        let kill = format!("kill -{signal} {id}");
        succeed(Command::new("sh").args(["-c", &kill]))
    }

    /// Where `/proc` tells.
    fn has_running_threads(&self) -> bool {
        let threads = fs::read_dir(format!("/proc/{}/task", self.id().unwrap_or_default()));
        threads.into_iter().flatten().flatten().any(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state comes after the name, which is in brackets and may hold anything.
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
            state.is_some_and(|state| !state.starts_with('T'))
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.kill();
    }
}

fn not_running() -> io::Error {
    io::Error::other("the server does not run; `restart` starts it again")
}

/// Runs a command; if it fails, its standard error is the error.
fn succeed(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{command:?} failed: {said}")))
}

/// The command of a server, looked for in `PATH` and where distributions put servers.
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

/// A port that nobody listens on.
///
/// It lies below the range from which the kernel takes the ports of outgoing connections.
/// Within that range a client that keeps trying to reach a server which is down ends up
/// connected to itself.
pub(crate) fn free_port() -> io::Result<u16> {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(10_000..30_000)).take(1000);
    ports
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .ok_or_else(|| io::Error::other("no free port between 10000 and 30000"))
}

/// Writes a new self-signed `certificate.pem` for `localhost` and `127.0.0.1`, and its `key.pem`.
pub(crate) fn make_certificate(folder: &Path) -> io::Result<()> {
    // Clients refuse a certificate that is both an authority's and a server's.
    let options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 \
                   -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
                   -addext basicConstraints=critical,CA:FALSE \
                   -keyout key.pem -out certificate.pem";
    let mut openssl = command("openssl", "openssl")?;
    succeed(openssl.args(options.split_whitespace()).current_dir(folder))
}
