//! The soak of one backend.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::collector::{Collector, Results, Shared, Violation, look};
use super::event::Report;
use super::faults::FaultLog;
use super::fleet::{Fleet, Settings, memory};
use super::nemesis::{Scene, Victim, watch_machine, work};
use super::options::Options;
use super::summary::{self, Outcome};
use super::target::{Target, target};
use super::time::{RunTime, nanos, wall};
use super::worker::Worker;

/// By how much the memory of the process may have grown from the first third of a run to its
/// end: what allocators do not give back.
const MEMORY_SLACK: u64 = 128;

/// What the supervisor starts, a process for each backend.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let [backend] = options.backends.as_slice() else {
        bail!("one backend at a time");
    };
    let outcome = soak(backend, &options).with_context(|| format!("soak of {backend}"))?;
    let path = outcome.save(&options.folder)?;
    println!("{}", summary::table(&outcome));
    println!("JSON: {}", path.display());
    println!("{}{}", summary::SUM, outcome.sum());
    if !outcome.is_good() {
        bail!("{}", outcome.verdict());
    }
    Ok(())
}

fn soak(backend: &str, options: &Options) -> Result<Outcome> {
    let proxies = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let Target {
        store,
        mut victim,
        addresses,
        rate,
        clients,
    } = target(backend, proxies.handle())?;
    let promises = store.promises();
    let rate = options.rate.unwrap_or(rate);
    let began = wall();
    let time = RunTime::since(began);
    let faults = Arc::new(FaultLog::new(promises.settle));
    let results = Results::new(Mutex::new(Shared::default()));
    let (to, reports) = channel();
    let collector = Collector::new(
        time,
        promises.clone(),
        Arc::clone(&faults),
        Arc::clone(&results),
        show,
    );
    let collector = thread::spawn(move || collector.run(&reports));

    // Half of the load comes from a second process where there can be one.
    let share = if addresses.is_some() { 0.5 } else { 1.0 };
    let settings = Settings {
        run: began ^ options.seed,
        seed: options.seed,
        process: 0,
        rate: rate * share,
        clients,
        time,
    };
    let second = addresses
        .map(|addresses| Worker::start(backend, &settings, began, &addresses, to.clone()))
        .transpose()?;
    let fleet = Fleet::start(&store, &settings, &to)?;

    let scene = Scene {
        time,
        faults: Arc::clone(&faults),
    };
    let deadline = nanos(options.time);
    let done = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (scene, done) = (scene.clone(), Arc::clone(&done));
        thread::spawn(move || watch_machine(&scene, &done))
    };
    let (seed, settle) = (options.seed, promises.settle);
    let nemesis = thread::spawn(move || {
        let done = work(victim.as_mut(), &scene, seed, settle, deadline);
        (victim, done)
    });
    let memory_at_third = watch(backend, &time, deadline, &results, &faults, || {
        nemesis.is_finished()
    });
    let (mut victim, nemesis_done) = nemesis
        .join()
        .map_err(|_| anyhow::anyhow!("the nemesis panicked"))?;

    // All clients first, then what is left of them, then what the servers think of it. The second
    // process has connections through proxies of this one.
    if let Some(second) = second {
        second.finish(&to, &time);
    }
    fleet.finish(&to, 0);
    if let Err(error) = nemesis_done {
        wrong(&to, &time, "nemesis", format!("{error:#}"));
    }
    left_over(victim.as_mut(), &to, &time);
    done.store(true, Ordering::Relaxed);
    let _ = watcher.join();
    drop(to);
    let judged = collector.join();
    let memory_at_end = memory();
    if judged.is_err() {
        bail!("the collector panicked");
    }
    check_memory(&results, memory_at_third, memory_at_end);
    Ok(look(&results, |shared| Outcome {
        backend: backend.to_owned(),
        seed: options.seed,
        seconds: options.time.as_secs_f64(),
        rate,
        processes: if share < 1.0 { 2 } else { 1 },
        promises: promises.why.iter().map(|&why| why.to_owned()).collect(),
        settle_seconds: promises.settle.as_secs_f64(),
        bound_seconds: promises.bound.as_secs_f64(),
        memory_mib: [memory_at_third, memory_at_end],
        tally: shared.tally.clone(),
        violations: shared.violations.clone(),
        faults: faults.all(),
        figures: victim.figures(),
    }))
}

/// Shows how it goes until the time is over; returns the memory used after a third of it.
fn watch(
    backend: &str,
    time: &RunTime,
    deadline: u64,
    results: &Results,
    faults: &FaultLog,
    is_over: impl Fn() -> bool,
) -> u64 {
    let mut at_third = 0;
    loop {
        let now = time.now();
        if now >= deadline || is_over() && now + 12_000_000_000 < deadline {
            return at_third.max(1);
        }
        if now > deadline / 3 && at_third == 0 {
            at_third = memory();
        }
        let left = Duration::from_nanos(deadline - now);
        let line = look(results, |shared| summary::live(&shared.tally, faults, left));
        // The supervisor takes lines that begin so as what to show now.
        println!("{}{backend:<9}{line}", summary::LIVE);
        thread::sleep(Duration::from_secs(1));
    }
}

/// Waits until the servers hold nothing of clients that are all gone.
fn left_over(victim: &mut dyn Victim, to: &Sender<Report>, time: &RunTime) {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let left = victim
            .left_over()
            .unwrap_or_else(|error| vec![format!("the servers cannot be asked: {error:#}")]);
        if left.is_empty() {
            return;
        }
        if Instant::now() > deadline {
            for text in left {
                wrong(to, time, "leak", text);
            }
            return;
        }
        thread::sleep(Duration::from_millis(500));
    }
}

fn wrong(to: &Sender<Report>, time: &RunTime, rule: &str, text: String) {
    let _ = to.send(Report::Wrong {
        rule: rule.to_owned(),
        key: None,
        at: time.now(),
        text,
    });
}

fn check_memory(results: &Results, at_third: u64, at_end: u64) {
    if at_end <= at_third + at_third / 4 + MEMORY_SLACK {
        return;
    }
    let violation = Violation {
        rule: "leak".to_owned(),
        text: format!("memory grew from {at_third} MiB after a third of the run to {at_end} MiB"),
        key: None,
        history: Vec::new(),
        faults: Vec::new(),
    };
    show(&violation);
    look(results, |shared| {
        *shared
            .tally
            .violations
            .entry("leak".to_owned())
            .or_default() += 1;
        shared.violations.push(violation);
    });
}

fn show(violation: &Violation) {
    println!("{violation}");
}
