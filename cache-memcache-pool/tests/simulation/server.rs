//! A model of memcached, with faults.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep, sleep_until};

use crate::network::{Fault, Kind, Link, Plug, Socket, Timeline, connection};
use crate::rng::Rng;

pub(crate) struct Server {
    pub(crate) link: Link,
    start: Instant,
    state: Mutex<State>,
}

struct State {
    store: BTreeMap<Vec<u8>, Vec<u8>>,
    plugs: Vec<Plug>,
    rng: Rng,
    connects: u64,
    commands: u64,
    /// How often it was asked for its version.
    versions: u64,
    needs_password: bool,
    /// What it received while it was old, except for commands without values.
    misread: Vec<String>,
    /// How often each counter was incremented, whether or not the response arrived.
    counted: BTreeMap<String, u64>,
}

impl Server {
    /// A server with its faults, which happen in tasks of this runtime.
    pub(crate) fn start(link: Link, faults: &[Fault], start: Instant, rng: Rng) -> Arc<Self> {
        let server = Arc::new(Self {
            link,
            start,
            state: Mutex::new(State {
                store: BTreeMap::new(),
                plugs: Vec::new(),
                rng,
                connects: 0,
                commands: 0,
                versions: 0,
                needs_password: false,
                misread: Vec::new(),
                counted: BTreeMap::new(),
            }),
        });
        for fault in faults {
            for at in fault.resets() {
                let server = Arc::clone(&server);
                let fault = *fault;
                tokio::spawn(async move {
                    sleep_until(start + at).await;
                    let mut state = server.state.lock().unwrap();
                    if fault.kind == Kind::Restart {
                        state.store.clear();
                    }
                    for plug in state.plugs.drain(..) {
                        plug.reset();
                    }
                });
            }
        }
        server
    }

    fn timeline(&self) -> &Timeline {
        &self.link.timeline
    }

    pub(crate) fn connects(&self) -> u64 {
        self.state.lock().unwrap().connects
    }

    pub(crate) fn commands(&self) -> u64 {
        self.state.lock().unwrap().commands
    }

    /// How often it was asked for its version.
    pub(crate) fn versions(&self) -> u64 {
        self.state.lock().unwrap().versions
    }

    /// What it received while it was [old](Kind::Old), except for commands without values.
    pub(crate) fn misread(&self) -> Vec<String> {
        self.state.lock().unwrap().misread.clone()
    }

    /// Whether it requires a password, any one, from new connections.
    pub(crate) fn require_password(&self, is_required: bool) {
        self.state.lock().unwrap().needs_password = is_required;
    }

    /// How often this counter was incremented, including restarts.
    pub(crate) fn counted(&self, key: &str) -> u64 {
        let state = self.state.lock().unwrap();
        state.counted.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.state
            .lock()
            .unwrap()
            .store
            .contains_key(key.as_bytes())
    }

    /// Stores a value directly.
    pub(crate) fn put(&self, key: &str, value: Vec<u8>) {
        let mut state = self.state.lock().unwrap();
        state.store.insert(key.into(), value);
    }

    /// Removes all values.
    pub(crate) fn clear(&self) {
        self.state.lock().unwrap().store.clear();
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        let mut state = self.state.lock().unwrap();
        state.plugs.retain(|plug| !plug.is_closed());
        state.plugs.len()
    }

    pub(crate) async fn connect(self: Arc<Self>) -> io::Result<Socket> {
        let latency = self.link.latency;
        sleep(latency).await;
        let reached = self.timeline().after(Kind::Partition, Instant::now());
        sleep_until(reached).await;
        if self
            .timeline()
            .fault(Kind::Restart, Instant::now())
            .is_some()
        {
            sleep(latency).await;
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (client, server) = {
            let mut state = self.state.lock().unwrap();
            state.connects += 1;
            let (client, server, plug) = connection(&self.link, &mut state.rng);
            state.plugs.push(plug);
            (client, server)
        };
        tokio::spawn(Arc::clone(&self).serve(server));
        sleep(latency).await;
        Ok(client)
    }

    async fn serve(self: Arc<Self>, mut socket: Socket) {
        let since = Instant::now();
        let mut requests = Vec::new();
        let mut is_known = !self.state.lock().unwrap().needs_password;
        loop {
            match socket.read_buf(&mut requests).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            // A paused process reads nothing; received bytes wait for it.
            let awake = self.timeline().after(Kind::Pause, Instant::now());
            sleep_until(awake).await;
            // What a process has received is lost with it, also if the clock jumps past its end.
            if self.timeline().has_reset(since, Instant::now()) {
                return;
            }
            let mut answers = Vec::new();
            let now = Instant::now();
            let fault = |kind| self.timeline().fault(kind, now);
            let is_old = fault(Kind::Old).is_some();
            while let Some(request) = match is_old && is_known {
                true => take_line(&mut requests),
                false => take(&mut requests),
            } {
                if !self.link.think.is_zero() {
                    sleep(self.link.think).await;
                }
                let before = answers.len();
                if !is_known {
                    is_known = request.line.starts_with("set auth ");
                    answers.extend_from_slice(match is_known {
                        true => b"STORED\r\n",
                        false => b"CLIENT_ERROR unauthenticated\r\n",
                    });
                } else if is_old {
                    self.answer_as_old(&request.line, &mut answers);
                } else {
                    self.answer(&request, &mut answers);
                }
                if answers.len() > before && fault(Kind::CloseEach).is_some() {
                    let _ = socket.write_all(&answers).await;
                    return;
                }
            }
            let begun = fault(Kind::SilentConnection).map(|fault| self.start + fault.from);
            if begun.is_some_and(|begun| since < begun) {
                continue;
            }
            if fault(Kind::Garbage).is_some() {
                answers = b"\x16\x03\x01 this is no memcached\r\n".to_vec();
            } else if fault(Kind::Foreign).is_some() {
                answers = b"HD O65535\r\n".to_vec();
            }
            if socket.write_all(&answers).await.is_err() {
                return;
            }
        }
    }

    /// As memcached 1.6.9, which refuses the line of a value and reads the value as commands.
    fn answer_as_old(&self, line: &str, out: &mut Vec<u8>) {
        let mut state = self.state.lock().unwrap();
        state.commands += 1;
        match line.split(' ').next().unwrap_or_default() {
            "version" => {
                state.versions += 1;
                out.extend_from_slice(b"VERSION 1.6.9\r\n");
            }
            "mg" | "mn" | "me" => out.extend_from_slice(b"EN\r\n"),
            "md" => out.extend_from_slice(b"NF\r\n"),
            "get" => out.extend_from_slice(b"END\r\n"),
            "ma" => out.extend_from_slice(b"ERROR\r\n"),
            name => {
                state.misread.push(line.to_owned());
                if name == "flush_all" {
                    state.store.clear();
                }
                out.extend_from_slice(match name {
                    "ms" => b"CLIENT_ERROR invalid flag\r\n",
                    "flush_all" => b"OK\r\n",
                    _ => b"ERROR\r\n",
                });
            }
        }
    }

    fn answer(&self, request: &Request, out: &mut Vec<u8>) {
        let mut state = self.state.lock().unwrap();
        state.commands += 1;
        let words: Vec<&str> = request.line.split(' ').collect();
        let key = words
            .get(1)
            .copied()
            .unwrap_or_default()
            .as_bytes()
            .to_vec();
        let tag = words.iter().skip(2).find(|word| word.starts_with('O'));
        let tag = tag.map_or(String::new(), |tag| format!(" {tag}"));
        let is_quiet = words.iter().skip(2).any(|word| *word == "q");
        match words[0] {
            "mn" => out.extend_from_slice(b"MN\r\n"),
            "version" => {
                state.versions += 1;
                out.extend_from_slice(b"VERSION 1.6.18\r\n");
            }
            "flush_all" => {
                state.store.clear();
                out.extend_from_slice(b"OK\r\n");
            }
            "mg" => match state.store.get(&key) {
                None => out.extend_from_slice(b"EN\r\n"),
                Some(value) => {
                    out.extend_from_slice(format!("VA {} f0{tag}\r\n", value.len()).as_bytes());
                    out.extend_from_slice(value);
                    out.extend_from_slice(b"\r\n");
                }
            },
            "ms" => {
                state.store.insert(key, request.value.clone());
                if !is_quiet {
                    out.extend_from_slice(format!("HD{tag}\r\n").as_bytes());
                }
            }
            "ma" => {
                *state.counted.entry(words[1].to_owned()).or_default() += 1;
                out.extend_from_slice(format!("HD{tag}\r\n").as_bytes());
            }
            "md" => {
                let code = match state.store.remove(&key) {
                    Some(_) => "HD",
                    None => "NF",
                };
                if !is_quiet {
                    out.extend_from_slice(format!("{code}{tag}\r\n").as_bytes());
                }
            }
            "get" => {
                for key in words.iter().skip(1) {
                    if let Some(value) = state.store.get(key.as_bytes()) {
                        let line = format!("VALUE {key} 0 {}\r\n", value.len());
                        out.extend_from_slice(line.as_bytes());
                        out.extend_from_slice(value);
                        out.extend_from_slice(b"\r\n");
                    }
                }
                out.extend_from_slice(b"END\r\n");
            }
            "set" => {
                state.store.insert(key, request.value.clone());
                out.extend_from_slice(b"STORED\r\n");
            }
            "delete" => out.extend_from_slice(match state.store.remove(&key) {
                Some(_) => b"DELETED\r\n",
                None => b"NOT_FOUND\r\n",
            }),
            _ => out.extend_from_slice(b"ERROR\r\n"),
        }
    }
}

struct Request {
    line: String,
    value: Vec<u8>,
}

/// Removes a line from the bytes once it is complete.
fn take_line(bytes: &mut Vec<u8>) -> Option<Request> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = String::from_utf8_lossy(&bytes[..end]).trim_end().to_owned();
    bytes.drain(..=end);
    Some(Request {
        line,
        value: Vec::new(),
    })
}

/// Removes a request from the bytes once it is complete.
fn take(bytes: &mut Vec<u8>) -> Option<Request> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let line = std::str::from_utf8(&bytes[..end])
        .unwrap()
        .trim_end()
        .to_owned();
    let mut words = line.split(' ');
    let len: Option<usize> = match words.next() {
        Some("ms") => words.nth(1).and_then(|len| len.parse().ok()),
        Some("set") => words.nth(3).and_then(|len| len.parse().ok()),
        _ => None,
    };
    let Some(len) = len else {
        bytes.drain(..=end);
        return Some(Request {
            line,
            value: Vec::new(),
        });
    };
    let all = end + 1 + len + 2;
    if bytes.len() < all {
        return None;
    }
    let value = bytes[end + 1..end + 1 + len].to_vec();
    assert_eq!(
        &bytes[all - 2..all],
        b"\r\n",
        "a request is malformed: {line}"
    );
    bytes.drain(..all);
    Some(Request { line, value })
}

/// The farm, as the backend connects to it.
#[derive(Clone)]
pub(crate) struct Farm(pub(crate) Arc<Vec<Arc<Server>>>);

impl Farm {
    /// Servers that are named `server-0:1`, `server-1:1` and so on.
    pub(crate) fn start(links: Vec<Link>, faults: &[Fault], start: Instant, rng: &mut Rng) -> Self {
        let servers = links.into_iter().enumerate().map(|(index, link)| {
            let own: Vec<Fault> = faults
                .iter()
                .filter(|fault| fault.server == index)
                .copied()
                .collect();
            Server::start(link, &own, start, rng.fork())
        });
        Self(Arc::new(servers.collect()))
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        (0..self.0.len())
            .map(|index| format!("server-{index}:1"))
            .collect()
    }

    pub(crate) async fn connect(self, address: String) -> io::Result<Socket> {
        let index = address
            .strip_prefix("server-")
            .and_then(|rest| rest.strip_suffix(":1"))
            .and_then(|index| index.parse::<usize>().ok());
        let server = index.and_then(|index| self.0.get(index)).cloned();
        server.ok_or(io::ErrorKind::NotFound)?.connect().await
    }
}

/// A link without faults: a local network.
pub(crate) fn fast(start: Instant) -> Link {
    Link {
        latency: Duration::from_millis(1),
        per_kilobyte: Duration::from_nanos(100),
        capacity: 256 * 1024,
        think: Duration::ZERO,
        most: 64 * 1024,
        timeline: Arc::new(Timeline::new(start, Vec::new())),
    }
}
