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
    let mut calls = 0;
    for seed in first..first + histories {
        let plan = Plan::new(seed);
        match plan.run() {
            Ok(trace) => calls += trace.lines().count(),
            Err(failure) => {
                let (plan, failure) = match number("SIMULATION_SHRINKS", 1) {
                    0 => (plan, failure),
                    _ => plan.shrink(failure),
                };
                panic!(
                    "{failure}\n{plan:#?}\nrepeat with: SIMULATION_SEED={seed} \
                     SIMULATION_HISTORIES=1 cargo test -p cache-memcache-pool --test simulation"
                );
            }
        }
    }
    assert!(calls as u64 > histories * 10, "{calls} calls are too few");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 1..8 {
        let plan = Plan::new(seed);
        assert_eq!(plan.run(), plan.run(), "seed {seed}");
    }
}
