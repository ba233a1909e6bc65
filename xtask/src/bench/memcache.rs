//! `cargo xtask bench memcache`: cache-memcache-pool beside other clients of memcached, on real
//! servers.

mod clients;
mod limit;
mod python;
mod work;

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use test_servers::Memcached;
use tokio::runtime::{Builder, Runtime};

use super::harness::{Bench, Line, Role};
use clients::{AsyncMemcached, AsyncMeta, Client, Legacy, Ours};
use limit::{Limit, RoundTrip};
use python::Python;
use work::{What, Work};

/// One of each kind: a caller alone, many at once, many keys a call.
const HEADLINES: &[&str] = &[
    "get, 1 task, 100 B",
    "90/10, 64 tasks, 100 B",
    "get_multi of 100, 1 task, 100 B, 1 server",
    "set_multi of 100, 1 task, 100 B, 1 server",
];

const NAMES: &str = "sequential,tasks,values,multi";

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
    if options.without_python || !options.only.is_empty() {
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
    let small = 100;
    if options.chosen("sequential") {
        for (name, what) in [("get", What::Get), ("set", What::Set)] {
            let work = Work::new(what, 1, small);
            place.line(
                &mut bench,
                &format!("{name}, 1 task, 100 B"),
                1,
                &work,
                0.95,
            )?;
        }
    }
    if options.chosen("tasks") {
        for tasks in [8, 64, 512] {
            let work = Work::new(What::Mixed, tasks, small);
            let name = format!("90/10, {tasks} tasks, 100 B");
            place.line(&mut bench, &name, 1, &work, 0.95)?;
        }
    }
    if options.chosen("values") {
        for (name, size) in [("1 KiB", 1024), ("100 KiB", 100 * 1024)] {
            for tasks in [1, 64] {
                let work = Work::new(What::Mixed, tasks, size);
                let name = format!("90/10, {tasks} tasks, {name}");
                place.line(&mut bench, &name, 1, &work, 0.95)?;
            }
        }
    }
    if options.chosen("multi") {
        for (name, what) in [("get_multi", What::GetMulti), ("set_multi", What::SetMulti)] {
            for (servers, farm) in [(1, "1 server"), (3, "3 servers")] {
                let work = Work::new(what, 1, small);
                let name = format!("{name} of 100, 1 task, 100 B, {farm}");
                place.line(&mut bench, &name, servers, &work, 0.95)?;
            }
        }
    }
    bench.finish()
}

#[derive(Default)]
struct Options {
    rounds: Option<usize>,
    only: Vec<String>,
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
                "--without-python" => options.without_python = true,
                other => bail!(
                    "`{other}`? There are --rounds NUMBER, --without-python and --only of {NAMES}"
                ),
            }
        }
        Ok(options)
    }

    fn chosen(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// Servers, a runtime, and Python.
struct Place {
    servers: Vec<Memcached>,
    runtime: Runtime,
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
            runtime: Builder::new_multi_thread().enable_all().build()?,
            version,
            python,
        })
    }

    /// All of them at one piece of work. Ours is held against the best peer, and against the
    /// limit by `goal` where somebody reached it.
    fn line(
        &self,
        bench: &mut Bench,
        name: &str,
        servers: usize,
        work: &Work,
        goal: f64,
    ) -> Result<()> {
        let running = self.servers.get(..servers).unwrap_or_default();
        let urls: Vec<String> = running.iter().map(Memcached::url).collect();
        let ids: Vec<u32> = running.iter().filter_map(Memcached::id).collect();
        let mut line = bench.line(name);
        line.unit(work.unit());
        if servers == 1 {
            let limit = match work.tasks {
                1 => "bare round trip",
                _ => "hand-written pipelined",
            };
            line.baseline(limit).goal(goal);
        }
        let enter = self.runtime.enter();
        self.add(
            &mut line,
            "cache-memcache-pool",
            Role::Ours,
            Ours::new(&urls)?,
            work,
            &ids,
        )?;
        if servers == 1 {
            if work.tasks == 1 {
                let bare = self.runtime.block_on(RoundTrip::connect(&urls))?;
                let name = "bare round trip";
                self.add(&mut line, name, Role::Limit, bare, work, &ids)?;
            }
            let limit = self.runtime.block_on(Limit::connect(&urls))?;
            self.add(
                &mut line,
                "hand-written pipelined",
                Role::Limit,
                limit,
                work,
                &ids,
            )?;
        }
        let meta = self.runtime.block_on(AsyncMeta::connect(&urls))?;
        self.add(
            &mut line,
            "memcache::exp::AsyncMetaClient",
            Role::Peer,
            meta,
            work,
            &ids,
        )?;
        if servers == 1 {
            let peer = self.runtime.block_on(AsyncMemcached::connect(&urls))?;
            self.add(
                &mut line,
                "async-memcached × 10",
                Role::Peer,
                peer,
                work,
                &ids,
            )?;
        }
        let legacy = Legacy::connect(&urls)?;
        self.add(
            &mut line,
            "memcache::Client",
            Role::Peer,
            legacy,
            work,
            &ids,
        )?;
        drop(enter);
        if let Some(python) = &self.python {
            for client in python::CLIENTS {
                let (urls, work) = (urls.clone(), work.clone());
                line.contestant(client, Role::Peer, move || python.run(client, &urls, &work));
            }
        }
        line.run()
    }

    fn add<'a, C: Client>(
        &'a self,
        line: &mut Line<'a>,
        name: &str,
        role: Role,
        client: C,
        work: &Work,
        servers: &[u32],
    ) -> Result<()> {
        let client = Arc::new(client);
        let (work, servers) = (work.clone(), servers.to_vec());
        self.runtime.block_on(work.prepare(&*client))?;
        line.contestant(name, role, move || {
            self.runtime.block_on(work.run(&client, &servers))
        });
        Ok(())
    }
}
