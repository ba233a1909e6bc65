//! A sparse registry on loopback, with faults on demand.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::upstream::Upstream;

/// The token that the registry accepts.
pub const TOKEN: &str = "loopback-secret-token";

/// A registry that runs until the process ends.
#[derive(Clone)]
pub struct Registry {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    upstream: Option<Upstream>,
    /// Index lines by crate.
    index: BTreeMap<String, Vec<String>>,
    /// Package files by crate and version.
    files: HashMap<(String, String), Vec<u8>>,
    /// Published crates as `name version`, in order.
    published: Vec<String>,
    /// The status and body of failed publish attempts by crate, and the number of attempts left to
    /// fail.
    faults: HashMap<String, (u16, String, usize)>,
    /// All attempts to publish, including refused ones.
    attempts: Vec<String>,
    /// The number of requests since the last [`clear`](Registry::clear), and a callback after each.
    requests: usize,
    after_request: Option<Box<dyn Fn(usize) + Send>>,
    /// How long it takes for the index to show a new version.
    lateness: Duration,
    newest: Option<Instant>,
    /// Whether to change uploaded files.
    changes_files: bool,
    /// The kind of requests that get no response, if any.
    silent: Option<&'static str>,
    /// The status of all responses to index requests, if they fail.
    index_status: Option<u16>,
}

impl Registry {
    pub fn start() -> Self {
        Self::serve_at(0, None)
    }

    /// Starts a registry that also has the crates of `upstream`.
    pub fn start_with(upstream: Upstream) -> Self {
        Self::serve_at(28_391, Some(upstream))
    }

    fn serve_at(port: u16, upstream: Option<Upstream>) -> Self {
        // The port is part of the path to which cargo unpacks sources. Use the same one each time,
        // if it is free, so that cargo can reuse earlier builds.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .or_else(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .unwrap();
        let registry = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::new(Mutex::new(State {
                upstream,
                ..State::default()
            })),
        };
        let server = registry.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = server.clone();
                // A client that disconnects must not affect the others.
                thread::spawn(move || server.serve(&stream));
            }
        });
        registry
    }

    /// The `config.toml` of a `CARGO_HOME` with this registry in addition to crates.io.
    pub fn cargo_config(&self) -> String {
        format!("[registries.loopback]\nindex = \"{}\"\n\n", self.url())
    }

    /// The `config.toml` of a `CARGO_HOME` in which this registry also replaces crates.io.
    pub fn cargo_config_as_crates_io(&self) -> String {
        let config = self.cargo_config();
        let url = self.url();
        format!(
            "{config}[source.crates-io]\nreplace-with = \"loopback\"\n\n\
             [source.loopback]\nregistry = \"{url}\"\n"
        )
    }

    fn url(&self) -> String {
        format!("sparse+http://127.0.0.1:{}/index/", self.port)
    }

    /// Makes the next attempt to publish `name` fail with this response.
    pub fn fail_next(&self, name: &str, status: u16, body: &str) {
        let fault = (status, body.to_owned(), 1);
        self.state().faults.insert(name.to_owned(), fault);
    }

    /// Makes every attempt to publish `name` fail with this response.
    pub fn fail_from_now_on(&self, name: &str, status: u16, body: &str) {
        let fault = (status, body.to_owned(), usize::MAX);
        self.state().faults.insert(name.to_owned(), fault);
    }

    pub fn fails_no_more(&self, name: &str) {
        self.state().faults.remove(name);
    }

    /// Delays the appearance of new versions in the index from now on.
    pub fn is_late_by(&self, lateness: Duration) {
        self.state().lateness = lateness;
    }

    /// Makes the registry change uploaded files from now on.
    pub fn changes_files(&self) {
        self.state().changes_files = true;
    }

    /// Makes the registry ignore requests that start with `request` from now on.
    pub fn is_silent_on(&self, request: &'static str) {
        self.state().silent = Some(request);
    }

    /// Makes index requests fail with this status from now on.
    pub fn index_fails(&self, status: u16) {
        self.state().index_status = Some(status);
    }

    /// Calls `act` with the number of each request, after it was processed and before the response.
    pub fn after_request(&self, act: impl Fn(usize) + Send + 'static) {
        self.state().after_request = Some(Box::new(act));
    }

    pub fn requests(&self) -> usize {
        self.state().requests
    }

    /// Resets published crates and counts.
    pub fn clear(&self) {
        let mut state = self.state();
        let upstream = state.upstream.take();
        *state = State {
            upstream,
            ..State::default()
        };
    }

    /// Yanks a crate.
    pub fn yank(&self, name: &str) {
        for line in self.state().index.get_mut(name).unwrap() {
            *line = line.replace("\"yanked\":false", "\"yanked\":true");
        }
    }

    /// The checksum of each package file.
    pub fn files(&self) -> BTreeMap<String, String> {
        let state = self.state();
        let files = state.files.iter();
        files
            .map(|((name, version), file)| (format!("{name} {version}"), checksum(file)))
            .collect()
    }

    pub fn published(&self) -> Vec<String> {
        self.state().published.clone()
    }

    pub fn attempts(&self) -> Vec<String> {
        self.state().attempts.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn serve(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut request = String::new();
        reader.read_line(&mut request)?;
        let (mut length, mut token, mut waits) = (0, String::new(), false);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim().split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap(),
                "authorization" => value.trim().clone_into(&mut token),
                "expect" => waits = true,
                _ => {}
            }
        }
        if waits {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body)?;

        let mut words = request.split_whitespace();
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let is_silent = self.state().silent;
        if is_silent.is_some_and(|kind| request.starts_with(kind)) {
            loop {
                thread::park();
            }
        }
        let (status, answer) = self.answer(method, path, &token, &body);
        {
            let mut state = self.state();
            state.requests += 1;
            if let Some(act) = &state.after_request {
                act(state.requests);
            }
        }
        let head = format!(
            "HTTP/1.1 {status} \r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            answer.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(&answer)
    }

    fn answer(&self, method: &str, path: &str, token: &str, body: &[u8]) -> (u16, Vec<u8>) {
        if method == "PUT" && path == "/api/v1/crates/new" {
            let (status, text) = self.publish(token, body);
            return (status, text.into_bytes());
        }
        let status = self.state().index_status;
        if let Some(status) = status.filter(|_| path.starts_with("/index/")) {
            return (status, b"not today".to_vec());
        }
        let found = if path == "/index/config.json" {
            let url = format!("http://127.0.0.1:{}", self.port);
            Some(
                json!({"dl": format!("{url}/dl"), "api": url})
                    .to_string()
                    .into_bytes(),
            )
        } else if let Some(path) = path.strip_prefix("/index/") {
            path.rsplit('/').next().and_then(|name| self.index_of(name))
        } else if let Some(path) = path.strip_prefix("/dl/") {
            self.file_of(path)
        } else {
            None
        };
        found.map_or((404, b"not here".to_vec()), |answer| (200, answer))
    }

    fn index_of(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        let is_late = state
            .newest
            .is_some_and(|newest| newest.elapsed() < state.lateness);
        if let Some(lines) = state.index.get(name) {
            let shown = lines.len() - usize::from(is_late);
            return (shown > 0).then(|| lines[..shown].join("\n").into_bytes());
        }
        state.upstream.as_ref()?.index_of(name)
    }

    /// `path` is `name/version/download`.
    fn file_of(&self, path: &str) -> Option<Vec<u8>> {
        let mut parts = path.split('/');
        let (name, version) = (parts.next()?, parts.next()?);
        let state = self.state();
        if let Some(file) = state.files.get(&(name.to_owned(), version.to_owned())) {
            return Some(file.clone());
        }
        state.upstream.as_ref()?.file_of(name, version)
    }

    fn publish(&self, token: &str, body: &[u8]) -> (u16, String) {
        let (metadata, file) = split(body);
        let metadata: Value = serde_json::from_slice(metadata).unwrap();
        let name = metadata["name"].as_str().unwrap().to_owned();
        let version = metadata["vers"].as_str().unwrap().to_owned();
        let mut state = self.state();
        state.attempts.push(format!("{name} {version}"));
        if token != TOKEN {
            return (403, errors(&format!("the token `{token}` is not known")));
        }
        if let Some((status, body, attempts)) = state.faults.get_mut(&name)
            && *attempts > 0
        {
            *attempts -= 1;
            return (*status, body.clone());
        }
        let key = (name.clone(), version.clone());
        if state.files.contains_key(&key) {
            return (
                400,
                errors(&format!("crate version `{version}` is already uploaded")),
            );
        }
        let mut file = file.to_vec();
        if state.changes_files {
            file.push(0);
        }
        state.newest = Some(Instant::now());
        let line = index_line(&metadata, &checksum(&file)).to_string();
        state.index.entry(name.clone()).or_default().push(line);
        state.files.insert(key, file);
        state.published.push(format!("{name} {version}"));
        (
            200,
            json!({"warnings": {"invalid_categories": [], "invalid_badges": [], "other": []}})
                .to_string(),
        )
    }
}

/// The body of an error response.
pub fn errors(detail: &str) -> String {
    json!({"errors": [{"detail": detail}]}).to_string()
}

pub fn checksum(file: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(file) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// Splits an upload, which consists of length, metadata, length and package file.
fn split(body: &[u8]) -> (&[u8], &[u8]) {
    let take = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let (metadata, rest) = body[4..].split_at(take(body));
    let length = take(rest);
    (metadata, &rest[4..4 + length])
}

/// The index line of an uploaded crate.
fn index_line(metadata: &Value, checksum: &str) -> Value {
    let dependencies: Vec<Value> = metadata["deps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dependency| {
            let renamed = &dependency["explicit_name_in_toml"];
            let (name, package) = if renamed.is_null() {
                (&dependency["name"], &Value::Null)
            } else {
                (renamed, &dependency["name"])
            };
            json!({
                "name": name, "package": package,
                "req": dependency["version_req"],
                "features": dependency["features"],
                "optional": dependency["optional"],
                "default_features": dependency["default_features"],
                "target": dependency["target"],
                "kind": dependency["kind"],
                "registry": dependency["registry"],
            })
        })
        .collect();
    json!({
        "name": metadata["name"], "vers": metadata["vers"], "deps": dependencies,
        "cksum": checksum, "features": {}, "features2": metadata["features"],
        "yanked": false, "links": metadata["links"], "v": 2,
        "rust_version": metadata["rust_version"],
    })
}
