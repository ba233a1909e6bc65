//! The workloads, and the contestants of each.

use std::time::Duration;

use anyhow::{Context as _, Result};
use cache_memcache_pool::MemcachePoolBackend;
use comparison::load::Work::{GetMulti, Mixed, SetMulti};
use comparison::load::{Client, Keys, Load, Ours, Work};
use comparison::measure::{Bench, Contestant, Measure};
use comparison::python::Python;
use comparison::report::{Line, Role};
use test_servers::Memcached;
use tokio::runtime::{Builder, Runtime};

use crate::bare::RoundTrip;
use crate::clients::{AsyncMemcached, AsyncMeta};
use crate::limit::Limit;

/// One of each kind: a single caller, many concurrent callers, many keys per call.
const HEADLINES: &[&str] = &[
    "90/10, 1 task, 100 B",
    "90/10, 64 tasks, 100 B",
    "get_multi of 100, 1 task, 100 B, 1 server",
    "set_multi of 100, 1 task, 100 B, 1 server",
];

/// A workload: name, operation, number of tasks, value size in bytes, number of servers.
struct Row(&'static str, Work, usize, usize, usize);

#[rustfmt::skip]
const LINES: &[Row] = &[
    Row("90/10, 1 task, 100 B", Mixed, 1, 100, 1),
    Row("90/10, 8 tasks, 100 B", Mixed, 8, 100, 1),
    Row("90/10, 64 tasks, 100 B", Mixed, 64, 100, 1),
    Row("90/10, 512 tasks, 100 B", Mixed, 512, 100, 1),
    Row("90/10, 1 task, 1 KiB", Mixed, 1, 1024, 1),
    Row("90/10, 8 tasks, 1 KiB", Mixed, 8, 1024, 1),
    Row("90/10, 64 tasks, 1 KiB", Mixed, 64, 1024, 1),
    Row("90/10, 512 tasks, 1 KiB", Mixed, 512, 1024, 1),
    Row("90/10, 1 task, 100 KiB", Mixed, 1, 100 * 1024, 1),
    Row("90/10, 64 tasks, 100 KiB", Mixed, 64, 100 * 1024, 1),
    Row("get_multi of 100, 1 task, 100 B, 1 server", GetMulti(100), 1, 100, 1),
    Row("get_multi of 100, 1 task, 100 B, 3 servers", GetMulti(100), 1, 100, 3),
    Row("set_multi of 100, 1 task, 100 B, 1 server", SetMulti(100), 1, 100, 1),
    Row("set_multi of 100, 1 task, 100 B, 3 servers", SetMulti(100), 1, 100, 3),
];

/// The fraction of the limit that ours must reach.
const GOAL: f64 = 0.95;

/// Each turn is divided into this many, since many short turns give the same ratios again more
/// often than few long ones: a machine that is slow for a second then affects all contestants.
const TURNS: u32 = 14;

const PYTHON: &[&str] = &["oslo.cache memcache_pool", "pymemcache"];

pub(crate) fn run(options: &Measure) -> Result<()> {
    let crates = [
        "cache-memcache-pool",
        "memcache",
        "async-memcached",
        "tokio",
    ];
    let mut bench = Bench::new("memcache", options, HEADLINES, &crates)?;
    let stats = servers(1, 1)?.first().context("a server")?.stats()?;
    bench.version("memcached", stats.get("version").context("no version")?);
    let packages = ["oslo.cache", "python-memcached", "pymemcache"];
    let mut python = None;
    if !options.without_python {
        python = Some(Python::start(&mut bench, &packages)?);
    }
    // Both are common: `#[tokio::main]` uses worker threads, and many servers run a single-threaded
    // runtime per core. Lines without a suffix use two workers.
    for (suffix, mut builder) in [
        ("", Builder::new_multi_thread()),
        (", current_thread", Builder::new_current_thread()),
    ] {
        let runtime = builder.worker_threads(2).enable_all().build()?;
        for Row(name, work, tasks, size, count) in LINES {
            let name = format!("{name}{suffix}");
            if !bench.wants(&name) {
                continue;
            }
            let load = Load {
                work: *work,
                tasks: *tasks,
                size: *size,
                length: Duration::try_from_secs_f64(options.seconds)? / TURNS,
                servers: Vec::new(),
            };
            // Python does not use the Rust runtime, so measure it only once.
            let python = python.as_ref().filter(|_| suffix.is_empty());
            let rounds = options.rounds.max(1) * TURNS as usize;
            let all = Contestants {
                runtime: &runtime,
                count: *count,
                load,
                servers: Vec::new(),
                entered: Vec::new(),
            };
            line(&mut bench, &name, rounds, all, python)?;
        }
    }
    bench.finish()
}

/// `count` servers with this number of threads.
fn servers(threads: usize, count: usize) -> Result<Vec<Memcached>> {
    let threads = threads.to_string();
    let args = ["-m", "1024", "-t", &threads];
    let start = || Memcached::builder().args(args).start();
    (0..count).map(|_| Ok(start()?)).collect()
}

/// Measures one workload with all contestants. The base is the limit, which is the bare round trip
/// for a single task.
fn line<'a>(
    bench: &mut Bench<'_>,
    name: &str,
    rounds: usize,
    mut all: Contestants<'a>,
    python: Option<&'a Python>,
) -> Result<()> {
    let runtime = all.runtime;
    let _enter = runtime.enter();
    let urls = all.start_servers()?;
    let ours = MemcachePoolBackend::builder().url(&urls).build()?;
    all.enter("cache-memcache-pool", Role::Ours, Ours(ours))?;
    let urls = all.start_servers()?;
    let limit = if all.load.tasks == 1 {
        let bare = runtime.block_on(RoundTrip::connect(&urls))?;
        all.enter("bare round trip", Role::Limit, bare)?
    } else {
        let limit = runtime.block_on(Limit::connect(&urls))?;
        all.enter("hand-written pipelined", Role::Limit, limit)?
    };
    let urls = all.start_servers()?;
    let meta = runtime.block_on(AsyncMeta::connect(&urls))?;
    all.enter("memcache::exp::AsyncMetaClient", Role::Peer, meta)?;
    if all.count == 1 {
        let urls = all.start_servers()?;
        let url = urls.first().context("a server")?;
        let peer = runtime.block_on(AsyncMemcached::connect(url))?;
        all.enter("async-memcached × 10", Role::Peer, peer)?;
    }
    for (python, client) in python
        .iter()
        .flat_map(|python| PYTHON.iter().map(move |c| (python, c)))
    {
        let urls = all.start_servers()?;
        let contestant = python.contestant(client, &urls, &all.load);
        all.entered.push(contestant);
    }
    let line = Line {
        rounds,
        goal: Some(GOAL),
        ..Line::new(name).unit(all.load.work.unit()).base(limit)
    };
    bench.compare(line, all.entered)
}

/// The contestants of a line. Each has servers of its own: among the values of others, those that
/// were written first would be read more slowly, since memcached moves them between its LRU lists.
struct Contestants<'a> {
    runtime: &'a Runtime,
    /// The number of servers.
    count: usize,
    load: Load,
    servers: Vec<Memcached>,
    entered: Vec<Contestant<'a>>,
}

impl Contestants<'_> {
    /// Starts the servers of the next contestant.
    fn start_servers(&mut self) -> Result<Vec<String>> {
        // A single task uses one connection per server. With several threads, the thread that
        // happens to serve it decides up to a third of the result; with one, it is the same for
        // all clients.
        let threads = if self.load.tasks == 1 { 1 } else { 2 };
        let servers = servers(threads, self.count)?;
        self.load.servers = servers.iter().filter_map(|server| server.id()).collect();
        let urls = servers.iter().map(Memcached::url).collect();
        self.servers.extend(servers);
        Ok(urls)
    }

    fn enter<C: Client>(
        &mut self,
        name: &'static str,
        role: Role,
        client: C,
    ) -> Result<&'static str> {
        let keys = keys(self.load.size);
        let value = vec![b'v'; self.load.size];
        // One by one, since the order of the values in the memory of the server decides up to a third
        // of the time that it takes to read them.
        let mut filled = client.clone();
        self.runtime.block_on(async {
            for key in keys.iter() {
                filled.set(&[key], &value).await?;
            }
            anyhow::Ok(())
        })?;
        let contestant = self.load.contestant(name, role, self.runtime, client, keys);
        self.entered.push(contestant);
        Ok(name)
    }
}

/// As many keys as fit on a server, 40 characters long, like those of oslo.cache.
fn keys(size: usize) -> Keys {
    let count: u128 = if size > 10_000 { 500 } else { 10_000 };
    let key = |n| format!("{:040x}", 0x9e37_79b9_7f4a_7c15_u128 * n);
    (1..=count).map(key).collect()
}
