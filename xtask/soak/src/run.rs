//! The run of one backend: load, server faults, leak checks and the report.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use cache_conformance::{Fault, FaultControl as _, OpenError, Proxy};
use fastrand::Rng;
use test_servers::Server;
use tokio::runtime::Builder;

use crate::judge::{Judge, STALL, now};
use crate::load::Load;
use crate::target::{Servers, Target};
use crate::{Backend, Options, dict, etcd, memcache};

/// A fault to inject. `Kill` and `Stop` carry the number of affected processes.
#[derive(Clone, Copy)]
enum Deed {
    Kill(usize),
    Stop(usize),
    Network(Fault),
}

const DEEDS: [(&str, Deed); 10] = [
    ("one killed", Deed::Kill(1)),
    ("two killed", Deed::Kill(2)),
    ("all killed", Deed::Kill(3)),
    ("one stopped", Deed::Stop(1)),
    ("two stopped", Deed::Stop(2)),
    ("all stopped", Deed::Stop(3)),
    ("connections refused", Deed::Network(Fault::Down)),
    ("connections silent", Deed::Network(Fault::Silent)),
    ("answers garbled", Deed::Network(Fault::Garbage)),
    (
        "connections cut within an answer",
        Deed::Network(Fault::Cut),
    ),
];

/// How many MiB the process may grow from the first third of a run to its end, in addition to a
/// quarter, because allocators do not return all memory.
const MEMORY_SLACK: u64 = 128;

pub(crate) fn run(backend: Backend, options: &Options) -> Result<()> {
    let files = open_files();
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let entered = runtime.enter();
    let target = match backend {
        Backend::Dict => dict::target()?,
        Backend::Memcache => memcache::target()?,
        _ => etcd::target()?,
    };
    let Target {
        spaces,
        open,
        bounded,
        promises,
        clients,
        rate,
        mut servers,
    } = target;
    let judge = Arc::new(Judge::new(promises, bounded)?);
    let rate = options.rate.unwrap_or(rate);
    let load = Load::start(&judge, spaces, open, (options.seed, clients, rate));
    drop(entered);
    let began = now();
    let end = began + options.minutes;

    let stop = AtomicBool::new(false);
    let early_memory = thread::scope(|scope| {
        scope.spawn(|| watch_machine(&judge, &stop));
        let faults = servers.as_mut().map(|(servers, proxies)| {
            let rng = Rng::with_seed(options.seed);
            scope.spawn(|| bring_faults_about(servers.as_mut(), proxies, &judge, rng, end))
        });
        let memory = watch(backend, &judge, began, options.minutes);
        match faults.map(ScopedJoinHandle::join) {
            None | Some(Ok(Ok(()))) => {}
            Some(Ok(Err(error))) => judge.wrong("servers", &format!("{error:#}")),
            Some(Err(_)) => judge.wrong("servers", "the thread of the faults panicked"),
        }
        runtime.block_on(load.finish());
        stop.store(true, Ordering::Relaxed);
        memory
    });
    drop((servers, runtime));
    check_leaks(&judge, files, early_memory);
    judge.judge_rounds(true);
    report(backend, options, rate, &judge)
}

/// Judges the rounds and prints the progress until the run is over. Returns the memory in use after
/// a third of the run.
fn watch(backend: Backend, judge: &Judge, began: Duration, length: Duration) -> u64 {
    let end = began + length;
    let mut memory_then = None;
    for second in 1_u64.. {
        let left = end.saturating_sub(now()).as_secs();
        if now() >= end {
            break;
        }
        if now() > began + length / 3 {
            memory_then.get_or_insert_with(memory);
        }
        if second.is_multiple_of(10) {
            let (tally, faults) = (judge.tally(), judge.faults().values().sum::<u64>());
            let calls: u64 = tally.calls.values().sum();
            println!(
                "{:<9} {left:>5} s left, {calls:>8} calls, {faults:>3} faults, violations: {}",
                backend.name(),
                listed(&tally.violations)
            );
        }
        judge.judge_rounds(false);
        sleep(Duration::from_secs(1));
    }
    memory_then.unwrap_or_else(memory)
}

/// Injects one fault after another until `end`, each kind once before any is repeated. The last
/// fault and the recovery from it are over by `end`.
fn bring_faults_about(
    servers: &mut dyn Servers,
    proxies: &mut Vec<Proxy>,
    judge: &Judge,
    mut rng: Rng,
    end: Duration,
) -> Result<()> {
    let settle = judge.promises.settle;
    let mut plan = Vec::new();
    loop {
        sleep(settle + Duration::from_millis(rng.u64(1_000..4_000)));
        // A fault and the recovery from it take several seconds.
        if now() + settle + Duration::from_secs(8) > end {
            return Ok(());
        }
        if plan.is_empty() {
            plan.extend(DEEDS);
            rng.shuffle(&mut plan);
        }
        let Some((name, deed)) = plan.pop() else {
            return Ok(());
        };
        judge.fault_begins(name);
        let done = inflict(deed, servers, proxies, &mut rng);
        judge.fault_ends();
        done.map_err(|error| anyhow!(error))
            .with_context(|| format!("cannot start or end the fault `{name}`"))?;
    }
}

/// Injects a fault, waits, and ends it.
fn inflict(
    deed: Deed,
    servers: &mut dyn Servers,
    proxies: &mut Vec<Proxy>,
    rng: &mut Rng,
) -> Result<(), OpenError> {
    let length = Duration::from_millis(rng.u64(..4_000));
    let mut processes = servers.processes();
    rng.shuffle(&mut processes);
    match deed {
        Deed::Kill(count) => {
            let mut killed = processes.into_iter().take(count);
            killed.try_for_each(Server::kill)?;
            sleep(length);
            servers.restart()?;
        }
        Deed::Stop(count) => {
            processes.truncate(count);
            processes.iter().try_for_each(|server| server.pause())?;
            sleep(length);
            processes.iter().try_for_each(|server| server.resume())?;
            servers.restart()?;
        }
        Deed::Network(fault) => {
            proxies.inject_into(rng.usize(..proxies.len()), fault)?;
            sleep(length);
            proxies.heal()?;
        }
    }
    Ok(())
}

/// Records when the machine stalls this process, during which no promise can be kept.
fn watch_machine(judge: &Judge, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let before = now();
        sleep(Duration::from_millis(20));
        if now() > before + Duration::from_millis(250) {
            judge.fault(STALL, before, now());
        }
    }
}

/// Checks for leaks after all backends, servers and proxies were dropped.
fn check_leaks(judge: &Judge, files_before: usize, early_memory: u64) {
    let dropped = Instant::now();
    let left = || open_files().saturating_sub(files_before);
    while left() > 0 && dropped.elapsed() < Duration::from_secs(30) {
        sleep(Duration::from_millis(100));
    }
    if left() > 0 {
        let text = format!("{} files or connections are still open", left());
        judge.wrong("leak", &text);
    }
    let memory = memory();
    if memory > early_memory + early_memory / 4 + MEMORY_SLACK {
        let text = format!("memory grew from {early_memory} to {memory} MiB");
        judge.wrong("leak", &text);
    }
}

/// The number of open files of this process, including sockets; zero if unknown.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// The memory of this process in MiB; zero if unknown.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

fn report(backend: Backend, options: &Options, rate: f64, judge: &Judge) -> Result<()> {
    let tally = judge.tally();
    let name = backend.name();
    println!(
        "\n{name}: {:.1} min, seed {}, {rate:.0} calls a second
  calls          {}
  reads          {} hits, {} misses; {} calls dropped
  errors         {} (during faults)
  latency        p50 {:?}, p99 {:?} without faults; slowest {:.3?} of {:?}
  judged         {} operations
  faults         {}
  violations     {}",
        options.minutes.as_secs_f64() / 60.0,
        options.seed,
        listed(&tally.calls),
        tally.hits,
        tally.misses,
        tally.dropped,
        listed(&tally.errors),
        judge.latency(0.5),
        judge.latency(0.99),
        tally.slowest,
        judge.promises.bound,
        tally.judged,
        listed(&judge.faults()),
        listed(&tally.violations)
    );
    ensure!(
        tally.hits > 0 && tally.judged > 0,
        "{name}: there were no hits or no judged operations"
    );
    let violations = listed(&tally.violations);
    ensure!(tally.violations.is_empty(), "{name}: {violations}");
    Ok(())
}

/// Formats counts: `get 12, set 3`.
fn listed<K: AsRef<str>, V: Debug>(counts: &std::collections::BTreeMap<K, V>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    let parts = counts
        .iter()
        .map(|(name, count)| format!("{} {count:?}", name.as_ref()));
    parts.collect::<Vec<_>>().join(", ")
}
