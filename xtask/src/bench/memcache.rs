//! `cargo xtask bench memcache`: cache-memcache-pool beside other clients of memcached, on real
//! servers.

mod bare;
mod clients;
mod limit;
mod python;
mod wire;
mod work;

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use test_servers::Memcached;
use tokio::runtime::{Builder, Runtime};

use super::harness::{Bench, Line, Role};
use bare::RoundTrip;
use clients::{AsyncMemcached, AsyncMeta, Client, Legacy, Ours};
use limit::Limit;
use python::Python;
use work::{What, Work};

/// One of each kind: a caller alone, many at once, many keys a call.
const HEADLINES: &[&str] = &[
    "90/10, 1 task, 100 B",
    "90/10, 64 tasks, 100 B",
    "get_multi of 100, 1 task, 100 B, 1 server",
    "set_multi of 100, 1 task, 100 B, 1 server",
];

/// What ours has to reach of a limit.
const GOAL: f64 = 0.95;

const NAMES: &str = "tasks,values,large,multi";

/// Where clients run. Both are common: `#[tokio::main]` has workers, and many a server has a
/// runtime with a single thread for each core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flavor {
    Workers,
    CurrentThread,
}

impl Flavor {
    fn build(self) -> Result<Runtime> {
        let mut builder = match self {
            Self::Workers => Builder::new_multi_thread(),
            Self::CurrentThread => Builder::new_current_thread(),
        };
        Ok(builder.worker_threads(2).enable_all().build()?)
    }

    /// Behind the name of a line. Two workers are what a line without a word about it has.
    fn suffix(self) -> &'static str {
        match self {
            Self::Workers => "",
            Self::CurrentThread => ", current_thread",
        }
    }

    fn read(name: &str) -> Result<Self> {
        match name {
            "workers" => Ok(Self::Workers),
            "current_thread" => Ok(Self::CurrentThread),
            other => bail!("`{other}`? A runtime is `workers` or `current_thread`"),
        }
    }
}

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let options = Options::read(arguments)?;
    let crates = [
        "cache-memcache-pool",
        "memcache",
        "async-memcached",
        "tokio",
    ];
    let mut bench = Bench::new("memcache", &crates)?;
    bench.headlines(HEADLINES);
    if options.without_python || !options.only.is_empty() || options.runtime.is_some() {
        bench.partial();
    }
    if let Some(rounds) = options.rounds {
        bench.rounds(rounds);
    }
    let place = Place::new(&options)?;
    bench.version("memcached", &place.version);
    if let Some(python) = &place.python {
        for (name, version) in python.versions() {
            bench.version(name, version);
        }
    }
    for flavor in [Flavor::Workers, Flavor::CurrentThread] {
        if options.runtime.is_none_or(|only| only == flavor) {
            lines(&options, &place, flavor, &mut bench)?;
        }
    }
    bench.finish()
}

fn lines(options: &Options, place: &Place, flavor: Flavor, bench: &mut Bench) -> Result<()> {
    for (option, name, size, counts) in [
        ("tasks", "100 B", 100, &[1, 8, 64, 512][..]),
        ("values", "1 KiB", 1024, &[1, 8, 64, 512]),
        ("large", "100 KiB", 100 * 1024, &[1, 64]),
    ] {
        if !options.chosen(option) {
            continue;
        }
        for &tasks in counts {
            let plural = if tasks == 1 { "" } else { "s" };
            let name = format!("90/10, {tasks} task{plural}, {name}{}", flavor.suffix());
            let work = Work::new(What::Mixed, tasks, size);
            place.line(bench, &name, 1, flavor, &work)?;
        }
    }
    if options.chosen("multi") {
        for (name, what) in [("get_multi", What::GetMulti), ("set_multi", What::SetMulti)] {
            for (servers, farm) in [(1, "1 server"), (3, "3 servers")] {
                let work = Work::new(what, 1, 100);
                let suffix = flavor.suffix();
                let name = format!("{name} of 100, 1 task, 100 B, {farm}{suffix}");
                place.line(bench, &name, servers, flavor, &work)?;
            }
        }
    }
    Ok(())
}

#[derive(Default)]
struct Options {
    rounds: Option<usize>,
    only: Vec<String>,
    runtime: Option<Flavor>,
    without_python: bool,
}

impl Options {
    fn read(arguments: &[String]) -> Result<Self> {
        let mut options = Self::default();
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let mut value = || {
                arguments
                    .next()
                    .with_context(|| format!("{argument} what?"))
            };
            match argument.as_str() {
                "--rounds" => options.rounds = Some(value()?.parse().context("--rounds NUMBER")?),
                "--only" => options.only.extend(value()?.split(',').map(str::to_owned)),
                "--runtime" => options.runtime = Some(Flavor::read(value()?)?),
                "--without-python" => options.without_python = true,
                other => bail!(
                    "`{other}`? There are --rounds NUMBER, --runtime workers|current_thread, \
                     --without-python and --only of {NAMES}"
                ),
            }
        }
        Ok(options)
    }

    fn chosen(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// Servers and Python.
struct Place {
    servers: Vec<Memcached>,
    version: String,
    python: Option<Python>,
}

impl Place {
    fn new(options: &Options) -> Result<Self> {
        let start = || Memcached::builder().args(["-m", "1024", "-t", "2"]).start();
        let servers = (0..3).map(|_| start()).collect::<Result<Vec<_>, _>>()?;
        let version = servers.first().context("a server")?.stats()?;
        let version = version.get("version").cloned().unwrap_or_default();
        let python = if options.without_python {
            None
        } else {
            Some(Python::install()?)
        };
        Ok(Self {
            servers,
            version,
            python,
        })
    }

    /// All of them at one piece of work, on a runtime of that flavor. Ours is held against the
    /// limit: for a task alone that is the bare round trip.
    fn line(
        &self,
        bench: &mut Bench,
        name: &str,
        servers: usize,
        flavor: Flavor,
        work: &Work,
    ) -> Result<()> {
        let running = self.servers.get(..servers).unwrap_or_default();
        let urls: Vec<String> = running.iter().map(Memcached::url).collect();
        let ids: Vec<u32> = running.iter().filter_map(|server| server.id()).collect();
        let runtime = &flavor.build()?;
        let mut line = Contestants {
            line: bench.line(name),
            runtime,
            work,
            servers: &ids,
        };
        line.line.unit(work.unit());
        let _enter = runtime.enter();
        line.add("cache-memcache-pool", Role::Ours, Ours::new(&urls)?)?;
        if work.tasks == 1 {
            let bare = runtime.block_on(RoundTrip::connect(&urls))?;
            line.add("bare round trip", Role::Limit, bare)?;
            line.line.baseline("bare round trip").goal(GOAL);
        } else {
            let limit = runtime.block_on(Limit::connect(&urls))?;
            line.add("hand-written pipelined", Role::Limit, limit)?;
            line.line.baseline("hand-written pipelined").goal(GOAL);
        }
        let meta = runtime.block_on(AsyncMeta::connect(&urls))?;
        line.add("memcache::exp::AsyncMetaClient", Role::Peer, meta)?;
        if servers == 1 {
            let peer = runtime.block_on(AsyncMemcached::connect(&urls))?;
            line.add("async-memcached × 10", Role::Peer, peer)?;
        }
        line.add("memcache::Client", Role::Peer, Legacy::connect(&urls)?)?;
        // Python has no runtime of ours, and one line is enough for it.
        if let (Some(python), Flavor::Workers) = (&self.python, flavor) {
            for client in python::CLIENTS {
                let (urls, work) = (urls.clone(), work.clone());
                let run = move || python.run(client, &urls, &work);
                line.line.contestant(client, Role::Peer, run);
            }
        }
        line.line.run()
    }
}

/// A line, and what each of its contestants needs.
struct Contestants<'a> {
    line: Line<'a>,
    runtime: &'a Runtime,
    work: &'a Work,
    servers: &'a [u32],
}

impl Contestants<'_> {
    fn add<C: Client>(&mut self, name: &str, role: Role, client: C) -> Result<()> {
        let client = Arc::new(client);
        let (runtime, work, servers) = (self.runtime, self.work, self.servers);
        runtime.block_on(work.prepare(&*client))?;
        self.line.contestant(name, role, move || {
            runtime.block_on(work.run(&client, servers))
        });
        Ok(())
    }
}
