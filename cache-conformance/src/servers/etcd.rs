//! [`Etcd`], one member, and [`EtcdCluster`].

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::process::{Process, TempFolder, free_port, tail, wait_until};

const PROGRAM: &str = "etcd";
const PACKAGE: &str = "etcd-server";

/// How long a member may take to start and to find its leader, on a machine that is busy.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A member that does not answer its metrics port for so long is paused or gone.
const METRICS_LIMIT: Duration = Duration::from_secs(1);

/// An etcd server: a single node, or a member of an [`EtcdCluster`].
///
/// Its data lives in a temporary folder. Dropping it kills the process and removes the folder.
///
/// ```
/// use cache_conformance::servers::Etcd;
///
/// let mut etcd = Etcd::start()?;
/// println!("listening on {}", etcd.endpoint());
/// etcd.kill()?;
/// etcd.restart()?; // With its data.
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Etcd {
    // Before the folder: the process ends first.
    process: Option<Process>,
    folder: TempFolder,
    name: String,
    ports: Ports,
    /// The peers of all members, as `--initial-cluster` takes them.
    cluster: String,
    options: EtcdBuilder,
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    client: u16,
    peer: u16,
    metrics: u16,
}

impl Ports {
    fn free() -> io::Result<Self> {
        Ok(Self {
            client: free_port()?,
            peer: free_port()?,
            metrics: free_port()?,
        })
    }
}

impl Etcd {
    /// Starts a single node with etcd's defaults and waits until it serves.
    pub fn start() -> io::Result<Self> {
        EtcdBuilder::default().start()
    }

    /// Options for what is not the default.
    ///
    /// ```
    /// use cache_conformance::servers::Etcd;
    ///
    /// let etcd = Etcd::builder().arg("--auth-token-ttl=2").start()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder() -> EtcdBuilder {
        EtcdBuilder::default()
    }

    /// Where clients connect: `127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports.client)
    }

    /// SIGSTOP: the server keeps its connections and answers nobody.
    pub fn pause(&mut self) -> io::Result<()> {
        self.running()?.pause()
    }

    /// SIGCONT, the end of [`pause`](Self::pause).
    pub fn resume(&mut self) -> io::Result<()> {
        self.running()?.resume()
    }

    /// SIGKILL. Does nothing if the server does not run.
    pub fn kill(&mut self) -> io::Result<()> {
        self.process.take().map_or(Ok(()), Process::kill)
    }

    /// SIGTERM, and waits for the end. Does nothing if the server does not run.
    pub fn stop(&mut self) -> io::Result<()> {
        self.process.take().map_or(Ok(()), Process::stop)
    }

    /// Starts the server again, on the same ports and with its data, and waits until it serves.
    /// One that runs is stopped first.
    ///
    /// A member of a cluster serves only with a majority of the others: see
    /// [`launch`](Self::launch).
    pub fn restart(&mut self) -> io::Result<()> {
        self.stop()?;
        self.launch()?;
        self.wait_until_serving()
    }

    /// [`restart`](Self::restart) with the data gone: an empty server on the same ports.
    pub fn restart_empty(&mut self) -> io::Result<()> {
        self.kill()?;
        fs::remove_dir_all(self.data())?;
        self.restart()
    }

    /// Starts the process if it does not run, and does not wait until it serves.
    pub fn launch(&mut self) -> io::Result<()> {
        if self.process.is_none() {
            let args = self.args();
            self.process = Some(Process::start(PROGRAM, PACKAGE, args, &self.log())?);
        }
        Ok(())
    }

    /// Waits until the server knows a leader and answers clients, for a minute at most.
    pub fn wait_until_serving(&mut self) -> io::Result<()> {
        let ended = |etcd: &mut Self| !matches!(etcd.running().map(Process::ended), Ok(Ok(None)));
        wait_until(START_LIMIT, || ended(self) || self.serves());
        if !ended(self) && self.serves() {
            return Ok(());
        }
        let what = if ended(self) {
            "ended while starting"
        } else {
            "does not serve a minute after its start"
        };
        Err(io::Error::other(format!(
            "etcd {what}; the end of its log:\n{}",
            tail(&self.log())
        )))
    }

    /// The value of one of the server's metrics, such as `process_resident_memory_bytes`; an
    /// error if it does not run, is paused, or has no metric of that name.
    ///
    /// ```
    /// use cache_conformance::servers::Etcd;
    ///
    /// let etcd = Etcd::start()?;
    /// assert_eq!(etcd.metric("etcd_server_is_leader")?, 1.0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn metric(&self, name: &str) -> io::Result<f64> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.metrics));
        let mut stream = TcpStream::connect_timeout(&address, METRICS_LIMIT)?;
        stream.set_read_timeout(Some(METRICS_LIMIT))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let value = answer
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value
            .and_then(|value| value.trim().parse().ok())
            .ok_or_else(|| io::Error::other(format!("etcd has no metric {name}")))
    }

    /// Whether this member is the leader of its cluster.
    pub fn is_leader(&self) -> bool {
        matches!(self.metric("etcd_server_is_leader"), Ok(leader) if leader > 0.0)
    }

    fn serves(&self) -> bool {
        let client = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.client));
        matches!(self.metric("etcd_server_has_leader"), Ok(leader) if leader > 0.0)
            && TcpStream::connect_timeout(&client, METRICS_LIMIT).is_ok()
    }

    fn running(&mut self) -> io::Result<&mut Process> {
        self.process
            .as_mut()
            .ok_or_else(|| io::Error::other("this etcd is not running"))
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn args(&self) -> Vec<String> {
        let Ports {
            client,
            peer,
            metrics,
        } = self.ports;
        let scheme = if self.options.tls { "https" } else { "http" };
        let mut args = vec![
            format!("--name={}", self.name),
            format!("--data-dir={}", self.data().display()),
            format!("--listen-client-urls={scheme}://127.0.0.1:{client}"),
            format!("--advertise-client-urls={scheme}://127.0.0.1:{client}"),
            format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
            format!("--initial-advertise-peer-urls=http://127.0.0.1:{peer}"),
            format!("--listen-metrics-urls=http://127.0.0.1:{metrics}"),
            format!("--initial-cluster={}", self.cluster),
            "--logger=zap".into(),
            "--log-level=warn".into(),
            "--log-outputs=stderr".into(),
        ];
        args.extend(self.options.args.iter().cloned());
        args
    }
}

/// What an [`Etcd`] or an [`EtcdCluster`] is started with.
#[derive(Clone, Debug, Default)]
pub struct EtcdBuilder {
    args: Vec<String>,
    tls: bool,
}

impl EtcdBuilder {
    /// Adds an argument of the command line, such as `--max-request-bytes=1024`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Serves clients over TLS with a certificate and its private key, PEM files.
    #[must_use]
    pub fn tls(self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let mut builder = self
            .arg(format!("--cert-file={}", certificate.into().display()))
            .arg(format!("--key-file={}", key.into().display()));
        builder.tls = true;
        builder
    }

    /// Starts a single node and waits until it serves.
    pub fn start(self) -> io::Result<Etcd> {
        let mut members = self.start_members(1)?;
        members
            .pop()
            .ok_or_else(|| io::Error::other("no member was started"))
    }

    /// Starts a cluster of `size` members and waits until each of them serves.
    pub fn start_cluster(self, size: usize) -> io::Result<EtcdCluster> {
        let members = self.start_members(size)?;
        Ok(EtcdCluster { members })
    }

    /// Another process may take a port between the search for it and etcd's start: then all
    /// start once more, on other ports.
    fn start_members(&self, size: usize) -> io::Result<Vec<Etcd>> {
        const TRIES: usize = 3;
        let mut outcome = self.try_start_members(size);
        for _ in 1..TRIES {
            match &outcome {
                Err(error) if error.to_string().contains("address already in use") => {
                    outcome = self.try_start_members(size);
                }
                _ => break,
            }
        }
        outcome
    }

    fn try_start_members(&self, size: usize) -> io::Result<Vec<Etcd>> {
        let mut members = Vec::with_capacity(size);
        for i in 0..size {
            let name = format!("member-{i}");
            members.push(Etcd {
                process: None,
                folder: TempFolder::new("etcd")?,
                ports: Ports::free()?,
                name,
                cluster: String::new(),
                options: self.clone(),
            });
        }
        let peers: Vec<String> = members
            .iter()
            .map(|member| format!("{}=http://127.0.0.1:{}", member.name, member.ports.peer))
            .collect();
        for member in &mut members {
            member.cluster = peers.join(",");
            member.launch()?;
        }
        for member in &mut members {
            member.wait_until_serving()?;
        }
        Ok(members)
    }
}

/// A cluster of etcd servers on one machine.
///
/// ```
/// use cache_conformance::servers::EtcdCluster;
///
/// let mut cluster = EtcdCluster::start()?;
/// let leader = cluster.leader()?;
/// cluster.members_mut()[leader].pause()?;
/// assert_ne!(cluster.leader()?, leader);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct EtcdCluster {
    members: Vec<Etcd>,
}

impl EtcdCluster {
    /// Starts three members with etcd's defaults and waits until each of them serves.
    pub fn start() -> io::Result<Self> {
        EtcdBuilder::default().start_cluster(3)
    }

    /// Where clients connect, member by member.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }

    /// The members.
    pub fn members(&self) -> &[Etcd] {
        &self.members
    }

    /// The members, to do something to them.
    pub fn members_mut(&mut self) -> &mut [Etcd] {
        &mut self.members
    }

    /// The index of the leader; waits up to a minute for one that is alive to be elected.
    pub fn leader(&self) -> io::Result<usize> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.members.iter().position(Etcd::is_leader) {
                Some(leader) => return Ok(leader),
                None if Instant::now() > deadline => {
                    return Err(io::Error::other("no member became leader in a minute"));
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}
