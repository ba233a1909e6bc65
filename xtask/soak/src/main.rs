//! `cargo xtask soak`: the load of a real service on real servers, while faults are done to
//! them, and a judge of all that comes back.
//!
//! - `load.rs` runs many clients, and each `client.rs` makes calls and reports them; `event.rs` is
//!   what is reported.
//! - `nemesis.rs` does the faults of `memcache.rs` and `etcd.rs`, `network.rs` those of the
//!   connections, which go through `proxy.rs`; `faults.rs` remembers them.
//! - `collector.rs` sorts reports by key; `judge.rs` and `order.rs` decide whether the history of
//!   a key is one that `promises.rs` allows.
//! - `run.rs` is one backend's run, `worker.rs` its second process, `supervisor.rs` shows one or
//!   several runs on the terminal.

mod client;
mod collector;
mod dict;
mod etcd;
mod event;
mod faults;
mod fleet;
mod judge;
mod key;
mod load;
mod memcache;
mod nemesis;
mod network;
mod options;
mod order;
mod payload;
#[cfg(test)]
mod planted;
mod promises;
mod proxy;
mod rng;
mod run;
mod space;
mod summary;
mod supervisor;
mod target;
mod time;
mod worker;

use anyhow::Result;

/// `soak …`, and the processes that it consists of.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    match arguments.split_first() {
        Some((role, rest)) if role == ROLE_RUN => run::main(rest),
        Some((role, rest)) if role == ROLE_WORKER => worker::main(rest),
        _ => supervisor::main(arguments),
    }
}

/// First arguments of the processes that nobody starts by hand.
const ROLE_RUN: &str = "run-one";
const ROLE_WORKER: &str = "second-process";
