//! What the servers have in common: finding the binary and a port, waiting, signals, the end.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to answer after it was started.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a server may take to end when it is asked to.
const ENDED_WITHIN: Duration = Duration::from_secs(5);

/// Where `name` is, looking in `PATH` and where distributions put servers.
pub(crate) fn find_binary(name: &str, install: &str) -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    std::env::split_paths(&path)
        .chain(usual.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("`{name}` is not installed; {install}"),
            )
        })
}

/// A port that nobody listens on.
///
/// It lies below the range from which the kernel takes the ports of outgoing connections.
/// Within that range a client that keeps trying to reach a server which is down ends up
/// connected to itself.
pub(crate) fn free_port() -> io::Result<u16> {
    for _ in 0..1000 {
        let port = 10_000 + u16::try_from(random() % 20_000).unwrap_or(0);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(io::Error::other("no free port between 10000 and 30000"))
}

/// A number that no other caller has.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A directory of its own, removed when dropped.
#[derive(Debug)]
pub(crate) struct ScratchDirectory(PathBuf);

impl ScratchDirectory {
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("{name}-{:016x}", random()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        // Nobody could do anything about a directory that stays.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server; killed when dropped, and also when this process ends without dropping it,
/// as with a server in a `static`.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    watchdog: Child,
}

/// Waits for the end of its standard input, which comes when the tests end in whatever way, and
/// cleans up after them.
const WATCHDOG: &str = r#"cat > /dev/null; kill -9 "$0"; rm -rf "$1""#;

impl Process {
    /// Starts `command`, its output going to `log`, and waits until `is_ready`.
    ///
    /// A server that exits instead is an error with the last lines of its output.
    pub(crate) fn start(
        command: &mut Command,
        log: PathBuf,
        is_ready: impl Fn() -> bool,
    ) -> io::Result<Self> {
        let mut process = Self::launch(command, log)?;
        process.wait_until(is_ready)?;
        Ok(process)
    }

    /// Starts `command`, its output going to `log`, and waits for nothing: the members of a
    /// cluster are ready only together.
    pub(crate) fn launch(command: &mut Command, log: PathBuf) -> io::Result<Self> {
        let output = File::create(&log)?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, &child.id().to_string()])
            .args(log.parent())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the tests; it has to outlive them.
            .process_group(0)
            .spawn();
        match watchdog {
            Ok(watchdog) => Ok(Self {
                child,
                log,
                watchdog,
            }),
            Err(error) => {
                child.kill()?;
                child.wait()?;
                Err(error)
            }
        }
    }

    /// Waits until `is_ready`. A process that exits instead is an error with the last lines of
    /// its output.
    pub(crate) fn wait_until(&mut self, is_ready: impl Fn() -> bool) -> io::Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failure(&format!("ended at once ({status})")));
            }
            if is_ready() {
                // What answered may be another process that was there before.
                thread::sleep(Duration::from_millis(5));
                if self.child.try_wait()?.is_none() {
                    return Ok(());
                }
            }
            if started.elapsed() > READY_WITHIN {
                return Err(self.failure(&format!("gave no answer within {READY_WITHIN:?}")));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn failure(&self, what: &str) -> io::Error {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().rev().take(5).collect();
        let tail: Vec<&str> = lines.into_iter().rev().collect();
        io::Error::other(format!("the server {what}: {}", tail.join(" / ")))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal, such as `STOP`.
    pub(crate) fn signal(&self, signal: &str) -> io::Result<()> {
        // The shell has `kill` built in, on systems without such a binary too.
        let status = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{signal} {}", self.id()))
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("`kill -{signal}` failed")))
        }
    }

    /// Stops all threads (`SIGSTOP`). Each stops when it next leaves the kernel, so this waits
    /// until they have, where `/proc` tells.
    pub(crate) fn pause(&self) -> io::Result<()> {
        const PATIENCE: Duration = Duration::from_secs(2);
        self.signal("STOP")?;
        let begin = Instant::now();
        while self.has_running_threads() && begin.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn has_running_threads(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.id())) else {
            return false;
        };
        threads.flatten().any(|thread| {
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            // The state stands behind the name, which is in brackets and may hold anything.
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
            state.is_some_and(|state| !state.starts_with('T'))
        })
    }

    /// Asks the process to end (`SIGTERM`) and waits for it; kills it if it takes too long.
    pub(crate) fn stop(&mut self) -> io::Result<()> {
        self.signal("TERM")?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            if asked.elapsed() > ENDED_WITHIN {
                return self.kill();
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends the process without a farewell, as a crash does.
    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The watchdog first: the process's id may soon be another's.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        // It may have ended by itself.
        let _ = self.kill();
    }
}
