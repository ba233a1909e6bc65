//! The workloads, and the contestants of each.

use std::time::Duration;

use anyhow::{Context as _, Result};
use cache_memcache_pool::MemcachePoolBackend;
use comparison::load::Work::{GetMulti, Mixed, SetMulti};
use comparison::load::{self, Client, Keys, Load, Ours, Work};
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
const TURNS: u32 = 7;

const PYTHON: &[&str] = &["oslo.cache memcache_pool", "pymemcache"];

pub(crate) fn run(options: &Measure) -> Result<()> {
    let crates = [
        "cache-memcache-pool",
        "memcache",
        "async-memcached",
        "tokio",
    ];
    let mut bench = Bench::new("memcache", options, HEADLINES, &crates)?;
    // A single task uses one connection per server. With several threads, the thread that happens
    // to serve it decides up to a third of the result; with one, it is the same for all clients.
    let (for_one, for_many) = (servers("1")?, servers("2")?);
    let stats = for_one.first().context("a server")?.stats()?;
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
            let servers = if *tasks == 1 { &for_one } else { &for_many };
            let servers = servers.get(..*count).unwrap_or_default();
            let load = Load {
                work: *work,
                tasks: *tasks,
                size: *size,
                length: Duration::try_from_secs_f64(options.seconds)? / TURNS,
                servers: servers.iter().filter_map(|server| server.id()).collect(),
            };
            // Python does not use the Rust runtime, so measure it only once.
            let python = python.as_ref().filter(|_| suffix.is_empty());
            let rounds = options.rounds.max(1) * TURNS as usize;
            line(&mut bench, &name, rounds, &runtime, servers, &load, python)?;
        }
    }
    bench.finish()
}

/// Servers with this number of threads.
fn servers(threads: &str) -> Result<Vec<Memcached>> {
    let args = ["-m", "1024", "-t", threads];
    let start = || Memcached::builder().args(args).start();
    (0..3).map(|_| Ok(start()?)).collect()
}

/// Measures one workload with all contestants. The base is the limit, which is the bare round trip
/// for a single task.
fn line(
    bench: &mut Bench<'_>,
    name: &str,
    rounds: usize,
    runtime: &Runtime,
    servers: &[Memcached],
    load: &Load,
    python: Option<&Python>,
) -> Result<()> {
    let urls: Vec<String> = servers.iter().map(Memcached::url).collect();
    let _enter = runtime.enter();
    let mut all = Contestants {
        runtime,
        load,
        entered: Vec::new(),
    };
    let ours = MemcachePoolBackend::builder().url(&urls).build()?;
    all.enter("cache-memcache-pool", Role::Ours, Ours(ours))?;
    let limit = if load.tasks == 1 {
        let bare = runtime.block_on(RoundTrip::connect(&urls))?;
        all.enter("bare round trip", Role::Limit, bare)?
    } else {
        let limit = runtime.block_on(Limit::connect(&urls))?;
        all.enter("hand-written pipelined", Role::Limit, limit)?
    };
    let meta = runtime.block_on(AsyncMeta::connect(&urls))?;
    all.enter("memcache::exp::AsyncMetaClient", Role::Peer, meta)?;
    if let [url] = urls.as_slice() {
        let peer = runtime.block_on(AsyncMemcached::connect(url))?;
        all.enter("async-memcached × 10", Role::Peer, peer)?;
    }
    let mut contestants = all.entered;
    for (python, client) in python
        .iter()
        .flat_map(|python| PYTHON.iter().map(move |c| (python, c)))
    {
        contestants.push(python.contestant(client, &urls, load));
    }
    let goal = Some(GOAL);
    let line = Line {
        rounds,
        goal,
        ..Line::new(name).unit(load.work.unit()).base(limit)
    };
    bench.compare(line, contestants)
}

struct Contestants<'a> {
    runtime: &'a Runtime,
    load: &'a Load,
    entered: Vec<Contestant<'a>>,
}

impl Contestants<'_> {
    /// Each client gets its own keys, since clients store values in different formats.
    fn enter<C: Client>(
        &mut self,
        name: &'static str,
        role: Role,
        client: C,
    ) -> Result<&'static str> {
        let keys = keys(self.entered.len(), self.load.size);
        self.runtime
            .block_on(load::fill(&client, &keys, self.load.size, 1))?;
        let contestant = self.load.contestant(name, role, self.runtime, client, keys);
        self.entered.push(contestant);
        Ok(name)
    }
}

/// As many keys as fit on a server, 40 characters long, like those of oslo.cache.
fn keys(client: usize, size: usize) -> Keys {
    let count: u128 = if size > 10_000 { 500 } else { 10_000 };
    let key = |n| format!("{client}{:039x}", 0x9e37_79b9_7f4a_7c15_u128 * n);
    (1..=count).map(key).collect()
}
