//! `cargo xtask bench etcd`: cache-etcd3 beside the plain client, the original's way in Rust, and
//! the original.

mod contestants;
mod expiry;
mod tenants;

use std::cell::RefCell;
use std::iter;
use std::time::{Duration, Instant};

use anyhow::Result;
use cache_core::{CacheBackend as _, CachedValue};
use cache_etcd3::Etcd3Backend;
use clap::Parser;
use etcd_client::Client;
use test_servers::Etcd;
use tokio::runtime::Runtime;

use super::harness::{Bench, Role, Sample};
use crate::process;
use contestants::Work::{Get, GetMulti, Set, SetMulti};
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

#[derive(Parser)]
struct Arguments {
    /// How often each contestant has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long a turn is.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Only the lines whose names contain this.
    #[arg(long, default_value = "")]
    only: String,
}

pub(crate) fn main(given: &[String]) -> Result<()> {
    let program = "cargo xtask bench etcd".to_owned();
    let arguments = Arguments::parse_from(iter::once(&program).chain(given));
    let length = Duration::try_from_secs_f64(arguments.seconds)?;
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
        if line.0.contains(&arguments.only) {
            stage.play(&mut bench, line, length)?;
        }
    }
    drop(stage);
    drop(server);
    if LEASES_HELD.contains(&arguments.only) {
        leases_held(&mut bench, &runtime)?;
    }
    if tenants::NAME.contains(&arguments.only) {
        tenants::measure(&mut bench, &runtime, length)?;
    }
    if expiry::NAME.contains(&arguments.only) {
        expiry::measure(&mut bench, &runtime)?;
    }
    bench.finish()
}

/// A piece of work by so many tasks, the baseline, what our ratio to it has to be, and who takes
/// part.
struct Line(
    &'static str,
    Work,
    usize,
    &'static str,
    Option<f64>,
    &'static [&'static str],
);

const ALL: &[&str] = &[OURS, PLAIN, LEASE_EACH, OSLO];
const READERS: &[&str] = &[OURS, PLAIN, OSLO];
const GUARDS: &[&str] = &[OURS, UNGUARDED, PLAIN];
const MULTI: &[&str] = &[OURS, PLAIN, ONE_BY_ONE, OSLO];

// One line of the table is one line here.
#[rustfmt::skip]
const LINES: &[Line] = &[
    Line("set, 1 task", Set, 1, PLAIN, None, ALL),
    Line("get, 1 task", Get, 1, PLAIN, Some(0.97), READERS),
    Line("set, 8 tasks", Set, 8, PLAIN, Some(0.97), GUARDS),
    Line("get, 8 tasks", Get, 8, PLAIN, Some(1.5), READERS),
    Line("set, 64 tasks", Set, 64, PLAIN, Some(1.3), ALL),
    Line("get, 64 tasks", Get, 64, PLAIN, Some(5.0), READERS),
    Line("set, 64 tasks, beside writes that carry no revision", Set, 64, UNGUARDED, Some(0.9), &[OURS, UNGUARDED]),
    Line("set, 64 tasks, beside the original's way", Set, 64, LEASE_EACH, Some(2.5), &[OURS, LEASE_EACH]),
    Line("set, 64 tasks, beside the original", Set, 64, OSLO, Some(8.0), &[OURS, OSLO]),
    Line("set_multi of 10", SetMulti(10), 1, ONE_BY_ONE, None, MULTI),
    Line("get_multi of 10", GetMulti(10), 1, ONE_BY_ONE, None, MULTI),
    Line("set_multi of 100", SetMulti(100), 1, ONE_BY_ONE, Some(25.0), MULTI),
    Line("get_multi of 100", GetMulti(100), 1, ONE_BY_ONE, Some(25.0), MULTI),
    Line("set_multi of 1,000", SetMulti(1000), 1, PLAIN, None, MULTI),
    Line("get_multi of 1,000", GetMulti(1000), 1, PLAIN, None, MULTI),
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
                keys: KEYS,
            },
            oslo: RefCell::new(Oslo::start(&server.endpoint())?),
        };
        stage.fill()?;
        Ok(stage)
    }

    /// Puts all keys in place, so that reads find something.
    fn fill(&self) -> Result<()> {
        let fill = SetMulti(KEYS);
        self.runtime.block_on(async {
            self.ours.clone().call(fill, 0).await?;
            self.plain.clone().call(fill, 0).await
        })?;
        let fill = Duration::from_millis(1);
        self.oslo.borrow_mut().drive(SetMulti(KEYS), 1, fill)?;
        Ok(())
    }

    fn play(&self, bench: &mut Bench, line: &'static Line, length: Duration) -> Result<()> {
        let Line(name, work, tasks, baseline, goal, contestants) = *line;
        let mut round = bench.line(name);
        round.baseline(baseline);
        if let Some(goal) = goal {
            round.goal(goal);
        }
        if work.batch() > 1 {
            round.unit("keys/s");
        }
        for name in contestants {
            let role = match *name {
                OURS => Role::Ours,
                PLAIN => Role::Limit,
                _ => Role::Peer,
            };
            round.contestant(name, role, move || {
                let (done, took) = match *name {
                    OURS => self.drive(&self.ours, work, tasks, length),
                    UNGUARDED => self.drive(&self.unguarded, work, tasks, length),
                    PLAIN => self.drive(&self.plain, work, tasks, length),
                    ONE_BY_ONE => self.drive(&self.plain, work.single(), tasks, length),
                    LEASE_EACH => self.drive(&self.lease_each, work, tasks, length),
                    _ => self.oslo.borrow_mut().drive(work, tasks, length),
                }?;
                Ok(Sample::operations(done, took))
            });
        }
        round.run()
    }

    fn drive<C: Contestant>(
        &self,
        contestant: &C,
        work: Work,
        tasks: usize,
        length: Duration,
    ) -> Result<(u64, Duration)> {
        let driven = drive(contestant, work, tasks, length);
        self.runtime.block_on(driven)
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
        let (done, took) = runtime.block_on(drive(&Fresh(ours), Set, 64, LENGTH))?;
        held(runtime, &server, done, took)
    });
    line.contestant(LEASE_EACH, Role::Peer, || {
        let server = Etcd::start()?;
        let client = runtime.block_on(Client::connect([server.endpoint()], None))?;
        let lease_each = LeaseEach {
            client,
            ttl: 30,
            keys: usize::MAX,
        };
        let (done, took) = runtime.block_on(drive(&lease_each, Set, 64, LENGTH))?;
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
