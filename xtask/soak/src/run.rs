//! The soak of one backend.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use tokio::runtime::Builder;

use crate::book::Book;
use crate::faults::FaultLog;
use crate::load::{Running, Settings};
use crate::nemesis::{self, Victim};
use crate::report::{self, Outcome};
use crate::store::Store;
use crate::time::{RunTime, nanos};
use crate::{Backend, Options, dict, etcd, memcache};

/// By how many MiB the memory of the process may have grown from the first third of a run to its
/// end, besides a quarter: what allocators do not give back.
const MEMORY_SLACK: u64 = 128;

/// How often the state is printed.
const BETWEEN_LINES: u32 = 10;

/// The servers of a backend, how to open it, and the load that suits it.
pub(crate) struct Target {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) victim: Box<dyn Victim>,
    /// Calls a second.
    pub(crate) rate: f64,
    pub(crate) clients: u32,
}

pub(crate) fn main(backend: Backend, options: &Options) -> Result<()> {
    let outcome = soak(backend, options).with_context(|| format!("soak of {}", backend.name()))?;
    let folder = options.folder.clone().unwrap_or_else(|| {
        let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        let ours = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
        target.unwrap_or_else(ours).join("soak")
    });
    let path = outcome.save(&folder)?;
    println!("{}JSON: {}", report::table(&outcome), path.display());
    match outcome.verdict() {
        Some(verdict) => bail!("{verdict}"),
        None => Ok(()),
    }
}

fn soak(backend: Backend, options: &Options) -> Result<Outcome> {
    let files = open_files();
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let Target {
        store,
        mut victim,
        rate,
        clients,
    } = match backend {
        Backend::Dict => dict::target()?,
        Backend::Memcache => memcache::target()?,
        _ => etcd::target()?,
    };
    let promises = store.promises();
    let (seed, settle, deadline) = (options.seed, promises.settle(), nanos(options.minutes));
    let faults = Arc::new(FaultLog::new(RunTime::start(), settle));
    let book = Arc::new(Book::new(promises, Arc::clone(&faults))?);
    let settings = Settings {
        seed,
        rate: options.rate.unwrap_or(rate),
        clients,
    };
    let running =
        runtime.block_on(async { Running::start(&store, Arc::clone(&book), &settings) })?;

    let stop = AtomicBool::new(false);
    let memory_at_third = thread::scope(|scope| -> Result<u64> {
        scope.spawn(|| nemesis::watch_machine(&faults, &stop));
        let nemesis =
            scope.spawn(|| nemesis::work(victim.as_mut(), &faults, seed, settle, deadline));
        let memory = watch(backend, &book, deadline);
        let worked = nemesis
            .join()
            .map_err(|_| anyhow!("the nemesis panicked"))?;
        if let Err(error) = worked {
            book.wrong("nemesis", format!("{error:#}"));
        }
        // All clients first, then what is left of them, then what the servers think of it.
        runtime.block_on(running.finish());
        stop.store(true, Ordering::Relaxed);
        Ok(memory)
    })?;
    let held = wait_until_none(|| {
        let left = victim.left_over();
        left.unwrap_or_else(|error| vec![format!("the servers cannot be asked: {error:#}")])
    });
    let figures = victim.figures();
    // The servers and their proxies as well.
    drop((victim, store, runtime));
    let open = wait_until_none(|| {
        let open = open_files().saturating_sub(files);
        Vec::from_iter((open > 0).then(|| format!("{open} files or connections are still open")))
    });
    for text in held.into_iter().chain(open) {
        book.wrong("leak", text);
    }
    book.judge(true);
    let memory_mib = [memory_at_third, memory()];
    if memory_mib[1] > memory_at_third + memory_at_third / 4 + MEMORY_SLACK {
        book.wrong(
            "leak",
            format!(
                "memory grew from {} to {} MiB",
                memory_mib[0], memory_mib[1]
            ),
        );
    }
    Ok(Outcome {
        backend: backend.name(),
        seed,
        seconds: options.minutes.as_secs_f64(),
        rate: settings.rate,
        promises: book.promises.why,
        settle_seconds: book.promises.settle.as_secs_f64(),
        bound_seconds: book.promises.bound.as_secs_f64(),
        memory_mib,
        latencies: [0.5, 0.99].map(|share| book.latency(share)),
        tally: book.tally(),
        violations: book.violations(),
        faults: faults.all(),
        figures,
    })
}

/// Judges round by round and prints how it goes until the time is over; returns the memory used
/// after a third of it.
fn watch(backend: Backend, book: &Book, deadline: u64) -> u64 {
    let mut at_third = 0;
    for second in 1.. {
        let now = book.faults.time.now();
        if now >= deadline {
            break;
        }
        if now > deadline / 3 && at_third == 0 {
            at_third = memory();
        }
        if second % BETWEEN_LINES == 0 {
            let left = Duration::from_nanos(deadline - now);
            println!(
                "{:<9}{}",
                backend.name(),
                report::live(&book.tally(), &book.faults, left)
            );
        }
        book.judge(false);
        thread::sleep(Duration::from_secs(1));
    }
    at_third
}

/// Asks until the answer is empty, or for half a minute.
fn wait_until_none(mut ask: impl FnMut() -> Vec<String>) -> Vec<String> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let left = ask();
        if left.is_empty() || Instant::now() > deadline {
            return left;
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// How many files this process has open, sockets included; zero where the system does not tell.
fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// The memory of this process in MiB; zero where the system does not tell.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}
