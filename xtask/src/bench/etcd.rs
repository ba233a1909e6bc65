//! `cargo xtask bench etcd`: cache-etcd3 beside the plain client, the original's way in Rust, and
//! the original.

mod contestants;
mod expiry;
mod tenants;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cache_core::{CacheBackend as _, CachedValue};
use cache_etcd3::Etcd3Backend;
use etcd_client::Client;
use test_servers::Etcd;
use tokio::runtime::Runtime;

use super::harness::{Bench, Role, Sample};
use crate::process;
use contestants::{Contestant, KEYS, LeaseEach, Oslo, Plain, Work, drive, payload};

/// One of each kind: many callers at once, many keys a call.
const HEADLINES: &[&str] = &[
    "set, 64 tasks",
    "get, 64 tasks",
    "set_multi of 100",
    "get_multi of 100",
];

const OURS: &str = "cache-etcd3";
/// Ours without `refuse_late_writes`.
const UNGUARDED: &str = "cache-etcd3, late writes allowed";
const PLAIN: &str = "etcd-client";
const LEASE_EACH: &str = "etcd-client, a lease a set";
const ONE_BY_ONE: &str = "etcd-client, one by one";
const OSLO: &str = "oslo.cache";

/// `--rounds N`, `--seconds S` of each contestant in each round, `--only TEXT`.
struct Arguments {
    rounds: usize,
    length: Duration,
    only: String,
}

fn arguments(given: &[String]) -> Result<Arguments> {
    let mut arguments = Arguments {
        rounds: 5,
        length: Duration::from_secs(1),
        only: String::new(),
    };
    let mut given = given.iter();
    while let Some(name) = given.next() {
        let value = given
            .next()
            .with_context(|| format!("{name} takes a value"))?;
        match name.as_str() {
            "--rounds" => arguments.rounds = value.parse()?,
            "--seconds" => arguments.length = Duration::try_from_secs_f64(value.parse()?)?,
            "--only" => arguments.only.clone_from(value),
            other => bail!("unknown argument {other}; there are --rounds, --seconds and --only"),
        }
    }
    Ok(arguments)
}

pub(crate) fn main(given: &[String]) -> Result<()> {
    let arguments = arguments(given)?;
    let mut bench = Bench::new("etcd", &["cache-etcd3", "etcd-client"])?;
    bench.headlines(HEADLINES);
    bench.rounds(arguments.rounds);
    if !arguments.only.is_empty() {
        bench.partial();
    }
    let version = process::output_of(process::command("etcd").arg("--version"))?;
    let version = version.lines().next().unwrap_or_default();
    bench.version("etcd", version.trim_start_matches("etcd Version: "));
    for (name, version) in contestants::python_versions()? {
        bench.version(&name, &version);
    }

    let runtime = Runtime::new()?;
    let server = Etcd::builder()
        .arg("--quota-backend-bytes=8000000000")
        .start()?;
    let stage = Stage::new(&runtime, &server)?;
    for line in LINES {
        if line.name.contains(&arguments.only) {
            stage.play(&mut bench, line, arguments.length)?;
        }
    }
    drop(stage);
    drop(server);
    if LEASES_HELD.contains(&arguments.only) {
        leases_held(&mut bench, &runtime)?;
    }
    if tenants::NAME.contains(&arguments.only) {
        tenants::measure(&mut bench, &runtime, arguments.length)?;
    }
    if expiry::NAME.contains(&arguments.only) {
        expiry::measure(&mut bench, &runtime)?;
    }
    bench.finish()
}

/// A piece of work, and what our ratio to the baseline has to be.
struct Line {
    name: &'static str,
    work: Work,
    tasks: usize,
    baseline: &'static str,
    goal: Option<f64>,
    contestants: &'static [&'static str],
}

const ALL: &[&str] = &[OURS, PLAIN, LEASE_EACH, OSLO];
const READERS: &[&str] = &[OURS, PLAIN, OSLO];
const GUARDS: &[&str] = &[OURS, UNGUARDED, PLAIN];
const MULTI: &[&str] = &[OURS, PLAIN, ONE_BY_ONE, OSLO];

const fn line(
    name: &'static str,
    work: Work,
    tasks: usize,
    baseline: &'static str,
    goal: Option<f64>,
    contestants: &'static [&'static str],
) -> Line {
    Line {
        name,
        work,
        tasks,
        baseline,
        goal,
        contestants,
    }
}

const LINES: &[Line] = &[
    line("set, 1 task", Work::Set, 1, PLAIN, None, ALL),
    line("get, 1 task", Work::Get, 1, PLAIN, Some(0.97), READERS),
    line("set, 8 tasks", Work::Set, 8, PLAIN, Some(0.97), GUARDS),
    line("get, 8 tasks", Work::Get, 8, PLAIN, Some(1.5), READERS),
    line("set, 64 tasks", Work::Set, 64, PLAIN, Some(1.3), ALL),
    line("get, 64 tasks", Work::Get, 64, PLAIN, Some(5.0), READERS),
    line(
        "set, 64 tasks, beside writes that carry no revision",
        Work::Set,
        64,
        UNGUARDED,
        Some(0.9),
        &[OURS, UNGUARDED],
    ),
    line(
        "set, 64 tasks, beside the original's way",
        Work::Set,
        64,
        LEASE_EACH,
        Some(2.5),
        &[OURS, LEASE_EACH],
    ),
    line(
        "set, 64 tasks, beside the original",
        Work::Set,
        64,
        OSLO,
        Some(8.0),
        &[OURS, OSLO],
    ),
    line(
        "set_multi of 10",
        Work::SetMulti(10),
        1,
        ONE_BY_ONE,
        None,
        MULTI,
    ),
    line(
        "get_multi of 10",
        Work::GetMulti(10),
        1,
        ONE_BY_ONE,
        None,
        MULTI,
    ),
    line(
        "set_multi of 100",
        Work::SetMulti(100),
        1,
        ONE_BY_ONE,
        Some(25.0),
        MULTI,
    ),
    line(
        "get_multi of 100",
        Work::GetMulti(100),
        1,
        ONE_BY_ONE,
        Some(25.0),
        MULTI,
    ),
    line(
        "set_multi of 1,000",
        Work::SetMulti(1000),
        1,
        PLAIN,
        None,
        MULTI,
    ),
    line(
        "get_multi of 1,000",
        Work::GetMulti(1000),
        1,
        PLAIN,
        None,
        MULTI,
    ),
];

/// The contestants on one server, their keys in place.
struct Stage<'a> {
    runtime: &'a Runtime,
    ours: Etcd3Backend,
    unguarded: Etcd3Backend,
    plain: Plain,
    lease_each: LeaseEach,
    oslo: RefCell<Oslo>,
}

impl<'a> Stage<'a> {
    fn new(runtime: &'a Runtime, server: &Etcd) -> Result<Self> {
        let client = runtime.block_on(Client::connect([server.endpoint()], None))?;
        let builder = Etcd3Backend::builder()
            .endpoints([server.endpoint()])
            .ttl(Duration::from_secs(600));
        let unguarded = builder.clone().refuse_late_writes(false).build()?;
        let ours = builder.build()?;
        let stage = Self {
            runtime,
            ours,
            unguarded,
            plain: Plain(client.kv_client()),
            lease_each: LeaseEach {
                client,
                ttl: 600,
                cycle: true,
            },
            oslo: RefCell::new(Oslo::start(&server.endpoint())?),
        };
        stage.fill()?;
        Ok(stage)
    }

    /// Puts all keys in place, so that reads find something.
    fn fill(&self) -> Result<()> {
        let fill = Work::SetMulti(KEYS);
        self.runtime.block_on(async {
            self.ours.clone().call(fill, 0).await?;
            self.plain.clone().call(fill, 0).await
        })?;
        let fill = Duration::from_millis(1);
        self.oslo
            .borrow_mut()
            .drive(Work::SetMulti(KEYS), 1, fill)?;
        Ok(())
    }

    fn play(&self, bench: &mut Bench, line: &'static Line, length: Duration) -> Result<()> {
        let mut round = bench.line(line.name);
        round.baseline(line.baseline);
        if let Some(goal) = line.goal {
            round.goal(goal);
        }
        if line.work.batch() > 1 {
            round.unit("keys/s");
        }
        for name in line.contestants {
            let role = match *name {
                OURS => Role::Ours,
                PLAIN => Role::Limit,
                _ => Role::Peer,
            };
            round.contestant(name, role, move || {
                let (done, took) = self.drive(name, line, length)?;
                Ok(Sample::operations(done, took))
            });
        }
        round.run()
    }

    fn drive(&self, name: &str, line: &Line, length: Duration) -> Result<(u64, Duration)> {
        let Line { work, tasks, .. } = *line;
        match name {
            OURS => self
                .runtime
                .block_on(drive(&self.ours, work, tasks, length)),
            UNGUARDED => self
                .runtime
                .block_on(drive(&self.unguarded, work, tasks, length)),
            PLAIN => self
                .runtime
                .block_on(drive(&self.plain, work, tasks, length)),
            OSLO => self.oslo.borrow_mut().drive(work, tasks, length),
            _ if line.work.batch() > 1 => {
                let single = match work {
                    Work::SetMulti(_) => Work::Set,
                    _ => Work::Get,
                };
                self.runtime
                    .block_on(drive(&self.plain, single, tasks, length))
            }
            _ => self
                .runtime
                .block_on(drive(&self.lease_each, work, tasks, length)),
        }
    }
}

const LEASES_HELD: &str = "leases held after 30 s of sets with a TTL of 30 s, 64 tasks";

/// Each on a server of its own, every key new.
fn leases_held(bench: &mut Bench, runtime: &Runtime) -> Result<()> {
    const LENGTH: Duration = Duration::from_secs(30);
    let mut line = bench.line(LEASES_HELD);
    line.less_is_better("leases").rounds(1);
    line.contestant(OURS, Role::Ours, || {
        let server = Etcd::start()?;
        let ours = Etcd3Backend::builder()
            .endpoints([server.endpoint()])
            .ttl(LENGTH)
            .build()?;
        let (done, took) = runtime.block_on(drive(&Fresh(ours), Work::Set, 64, LENGTH))?;
        held(runtime, &server, done, took)
    });
    line.contestant(LEASE_EACH, Role::Peer, || {
        let server = Etcd::start()?;
        let client = runtime.block_on(Client::connect([server.endpoint()], None))?;
        let lease_each = LeaseEach {
            client,
            ttl: 30,
            cycle: false,
        };
        let (done, took) = runtime.block_on(drive(&lease_each, Work::Set, 64, LENGTH))?;
        held(runtime, &server, done, took)
    });
    line.run()
}

/// Sets a new key each time.
#[derive(Clone)]
struct Fresh(Etcd3Backend);

impl Contestant for Fresh {
    async fn call(&mut self, _: Work, first: usize) -> Result<()> {
        let value = CachedValue::new(payload());
        Ok(self.0.set(&format!("fresh/{first}"), value).await?)
    }
}

#[allow(clippy::cast_precision_loss)]
fn held(runtime: &Runtime, server: &Etcd, done: u64, took: Duration) -> Result<Sample> {
    let leases = runtime.block_on(async {
        let mut client = Client::connect([server.endpoint()], None).await?;
        client.leases().await
    })?;
    let memory = server.metric("process_resident_memory_bytes")?;
    Ok(Sample::figure(leases.leases().len() as f64)
        .with("set/s", done as f64 / took.as_secs_f64())
        .with("server MB", memory / 1e6))
}

/// The time below which 99 of 100 lie.
fn p99(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get(last * 99 / 100).copied().unwrap_or_default()
}

/// Gets one after another for so long, and notes when each began and how long it took.
async fn latencies(backend: &Etcd3Backend, length: Duration) -> Result<Vec<(Instant, Duration)>> {
    let end = Instant::now() + length;
    let mut times = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        backend.get("probe").await?;
        times.push((began, began.elapsed()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(times)
}
