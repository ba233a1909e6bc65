//! [`Etcd`], a single server, and [`EtcdCluster`].

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::{Deref, DerefMut};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::server::{Server, command, free_port, make_certificate};

/// How long a leader election may take on a busy machine.
const ELECTED_WITHIN: Duration = Duration::from_secs(60);

/// A member whose metrics port does not respond within this time is paused or dead.
const METRICS_LIMIT: Duration = Duration::from_secs(1);

/// An etcd server: a single node, or a member of an [`EtcdCluster`].
///
/// Runs the binary that the variable `TEST_SERVERS_ETCD` names, or else the `etcd` in `PATH`.
///
/// The data is stored in a temporary folder. Dropping the server kills the process and removes the
/// folder.
///
/// ```no_run
/// use test_servers::Etcd;
///
/// let mut etcd = Etcd::start()?;
/// println!("listening on {}", etcd.endpoint());
/// etcd.kill()?;
/// etcd.restart()?; // Keeps its data.
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Etcd {
    settings: EtcdBuilder,
    name: String,
    ports: Ports,
    /// The peers of all members, in the format of `--initial-cluster`.
    cluster: String,
    server: Server,
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

    fn serve(self) -> bool {
        let client = SocketAddr::from((Ipv4Addr::LOCALHOST, self.client));
        matches!(self.metric("etcd_server_has_leader"), Ok(leader) if leader > 0.0)
            && TcpStream::connect_timeout(&client, METRICS_LIMIT).is_ok()
    }

    fn metric(self, name: &str) -> io::Result<f64> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.metrics));
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
}

impl Etcd {
    /// Starts a single node with etcd's defaults and waits until it serves.
    pub fn start() -> io::Result<Self> {
        EtcdBuilder::default().start()
    }

    /// Returns a builder for a server with other options.
    ///
    /// ```no_run
    /// use test_servers::Etcd;
    ///
    /// let etcd = Etcd::builder().arg("--auth-token-ttl=2").start()?;
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn builder() -> EtcdBuilder {
        EtcdBuilder::default()
    }

    /// The address for clients: `127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.ports.client)
    }

    /// Restarts the server with its data and on the same ports, stopping it first if it is still
    /// running, and waits until it serves.
    ///
    /// A cluster member serves only while a majority of the members is up. If that is down too,
    /// [`launch`](Self::launch) all members and then [wait](Self::wait_until_serving).
    pub fn restart(&mut self) -> io::Result<()> {
        self.server.stop()?;
        self.launch()?;
        self.wait_until_serving()
    }

    /// Restarts the server on the same ports, without its data.
    pub fn restart_empty(&mut self) -> io::Result<()> {
        self.server.kill()?;
        fs::remove_dir_all(self.server.file("data"))?;
        self.restart()
    }

    /// Starts the process unless it is running, without waiting until it serves.
    pub fn launch(&mut self) -> io::Result<()> {
        if self.server.id().is_some() {
            return Ok(());
        }
        let chosen = self.settings.binary.clone();
        let chosen = chosen.or_else(|| std::env::var_os("TEST_SERVERS_ETCD"));
        let mut command = match chosen {
            Some(chosen) => Command::new(chosen),
            None => command("etcd", "etcd-server")?,
        };
        self.server.launch(command.args(self.args()))
    }

    /// Waits until the server has a leader and accepts connections.
    pub fn wait_until_serving(&mut self) -> io::Result<()> {
        let ports = self.ports;
        self.server.wait_until(|| ports.serve())
    }

    /// Returns one of the server's metrics, such as `process_resident_memory_bytes`.
    ///
    /// Fails if the server is paused or not running, or if the metric does not exist.
    ///
    /// ```no_run
    /// use test_servers::Etcd;
    ///
    /// let etcd = Etcd::start()?;
    /// assert_eq!(etcd.metric("etcd_server_is_leader")?, 1.0);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn metric(&self, name: &str) -> io::Result<f64> {
        self.ports.metric(name)
    }

    /// Whether this member is the leader of its cluster.
    pub fn is_leader(&self) -> bool {
        matches!(self.metric("etcd_server_is_leader"), Ok(leader) if leader > 0.0)
    }

    fn args(&self) -> Vec<String> {
        let Ports {
            client,
            peer,
            metrics,
        } = self.ports;
        let scheme = if self.settings.tls { "https" } else { "http" };
        let mut args = vec![
            format!("--name={}", self.name),
            format!("--data-dir={}", self.server.file("data").display()),
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
        if self.settings.tls {
            let (certificate, key) = (self.server.certificate(), self.server.file("key.pem"));
            args.push(format!("--cert-file={}", certificate.display()));
            args.push(format!("--key-file={}", key.display()));
        }
        args.extend(self.settings.args.iter().cloned());
        args
    }
}

/// Gives access to the methods common to all servers.
impl Deref for Etcd {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Etcd {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// The options of an [`Etcd`] or an [`EtcdCluster`].
///
/// ```no_run
/// use test_servers::Etcd;
///
/// let cluster = Etcd::builder().arg("--quota-backend-bytes=67108864").start_cluster(3)?;
/// assert_eq!(cluster.endpoints().len(), 3);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct EtcdBuilder {
    binary: Option<OsString>,
    args: Vec<String>,
    tls: bool,
}

impl EtcdBuilder {
    /// Sets the binary, instead of `TEST_SERVERS_ETCD` or the `etcd` in `PATH`.
    #[must_use]
    pub fn binary(mut self, binary: impl Into<OsString>) -> Self {
        self.binary = Some(binary.into());
        self
    }

    /// Adds a command-line argument, such as `--max-request-bytes=1024`.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Serves clients over TLS, with a new self-signed certificate for `localhost` and
    /// `127.0.0.1` at [`Server::certificate`]. Requires the `openssl` binary.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
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

    /// Retries with other ports if another process takes a port before etcd does.
    fn start_members(&self, size: usize) -> io::Result<Vec<Etcd>> {
        for attempt in 1.. {
            match self.try_start_members(size) {
                Err(error) if attempt < 3 && error.to_string().contains("already in use") => {}
                outcome => return outcome,
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    fn try_start_members(&self, size: usize) -> io::Result<Vec<Etcd>> {
        let member = |index| {
            let server = Server::new("etcd")?;
            if self.tls {
                make_certificate(&server.file(""))?;
            }
            Ok(Etcd {
                settings: self.clone(),
                name: format!("member-{index}"),
                ports: Ports::free()?,
                cluster: String::new(),
                server,
            })
        };
        let mut members = (0..size).map(member).collect::<io::Result<Vec<Etcd>>>()?;
        let peer =
            |member: &Etcd| format!("{}=http://127.0.0.1:{}", member.name, member.ports.peer);
        let cluster = members.iter().map(peer).collect::<Vec<_>>().join(",");
        for member in &mut members {
            member.cluster.clone_from(&cluster);
            member.launch()?;
        }
        members.iter_mut().try_for_each(Etcd::wait_until_serving)?;
        Ok(members)
    }
}

/// A cluster of etcd servers on this machine.
///
/// ```no_run
/// use test_servers::EtcdCluster;
///
/// let cluster = EtcdCluster::start()?;
/// let leader = cluster.leader()?;
/// cluster.members()[leader].pause()?;
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

    /// The addresses for clients, in the order of the members.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Etcd::endpoint).collect()
    }

    /// The members.
    pub fn members(&self) -> &[Etcd] {
        &self.members
    }

    /// The members, mutably.
    pub fn members_mut(&mut self) -> &mut [Etcd] {
        &mut self.members
    }

    /// Returns the index of the leader, waiting up to a minute for the election of a live one.
    pub fn leader(&self) -> io::Result<usize> {
        let deadline = Instant::now() + ELECTED_WITHIN;
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
