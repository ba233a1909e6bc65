//! The backend on Tokio's paused clock, over an in-memory network, with model servers, clients and
//! faults that all derive from one seed.
//!
//! ```text
//! cargo test -p cache-memcache-pool --test simulation
//! SIMULATION_SEED=1000 SIMULATION_HISTORIES=10000 cargo test --release -p cache-memcache-pool --test simulation
//! ```

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::match_bool
)]

mod churn;
mod history;
mod network;
mod old;
mod once;
mod policy;
mod rng;
mod server;
mod setup;
mod table;
mod turns;

use history::Plan;

/// Reads a number from the environment.
fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    }
}

#[test]
fn under_any_faults_no_promise_is_broken() {
    let first = number("SIMULATION_SEED", 1);
    let histories = number("SIMULATION_HISTORIES", 40);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let lines = std::thread::scope(|scope| {
        let seeds = |thread| (first + thread..first + histories).step_by(threads as usize);
        let running: Vec<_> = (0..threads)
            .map(|thread| scope.spawn(move || seeds(thread).map(lines_of).sum::<usize>()))
            .collect();
        let lines = running.into_iter().map(|thread| match thread.join() {
            Ok(lines) => lines,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        lines.sum::<usize>()
    });
    assert!(lines as u64 > histories * 10, "{lines} calls are too few");
}

/// The number of events in the history of this seed. Panics if a promise is broken.
fn lines_of(seed: u64) -> usize {
    let plan = Plan::new(seed);
    let failure = match plan.run() {
        Ok(trace) => return trace.lines().count(),
        Err(failure) => failure,
    };
    let (plan, failure) = match number("SIMULATION_SHRINKS", 1) {
        0 => (plan, failure),
        _ => plan.shrink(failure),
    };
    panic!(
        "{failure}\n{plan:#?}\nrepeat with: SIMULATION_SEED={seed} SIMULATION_HISTORIES=1 cargo \
         test -p cache-memcache-pool --test simulation"
    );
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 1..8 {
        let plan = Plan::new(seed);
        assert_eq!(plan.run(), plan.run(), "seed {seed}");
    }
}
