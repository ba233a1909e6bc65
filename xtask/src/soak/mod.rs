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

#[cfg(feature = "soak")]
mod client;
#[cfg(feature = "soak")]
mod collector;
#[cfg(feature = "soak")]
mod dict;
#[cfg(feature = "soak")]
mod etcd;
#[cfg(feature = "soak")]
mod event;
#[cfg(feature = "soak")]
mod faults;
#[cfg(feature = "soak")]
mod fleet;
#[cfg(feature = "soak")]
mod judge;
#[cfg(feature = "soak")]
mod key;
#[cfg(feature = "soak")]
mod load;
#[cfg(feature = "soak")]
mod memcache;
#[cfg(feature = "soak")]
mod nemesis;
#[cfg(feature = "soak")]
mod network;
#[cfg(feature = "soak")]
mod options;
#[cfg(feature = "soak")]
mod order;
#[cfg(feature = "soak")]
mod payload;
#[cfg(feature = "soak")]
#[cfg(test)]
mod planted;
#[cfg(feature = "soak")]
mod promises;
#[cfg(feature = "soak")]
mod proxy;
#[cfg(feature = "soak")]
mod rng;
#[cfg(feature = "soak")]
mod run;
#[cfg(feature = "soak")]
mod space;
#[cfg(feature = "soak")]
mod summary;
#[cfg(feature = "soak")]
mod supervisor;
#[cfg(feature = "soak")]
mod target;
#[cfg(feature = "soak")]
mod time;
#[cfg(feature = "soak")]
mod worker;

use anyhow::Result;

/// What `--help` adds.
pub(crate) const HELP: &str = "\
    --minutes N     how long; 1 unless told
    --seed S        repeats the load and the faults of an earlier run
    --rate R        calls a second, in place of what suits the backend
    --folder PATH   where the JSON goes, in place of target/soak
";

/// `soak …`, and the processes that it consists of.
#[cfg(feature = "soak")]
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    match arguments.split_first() {
        Some((role, rest)) if role == ROLE_RUN => run::main(rest),
        Some((role, rest)) if role == ROLE_WORKER => worker::main(rest),
        _ => supervisor::main(arguments),
    }
}

/// First arguments of the processes that nobody starts by hand.
#[cfg(feature = "soak")]
const ROLE_RUN: &str = "run-one";
#[cfg(feature = "soak")]
const ROLE_WORKER: &str = "second-process";

/// Runs this program once more with the backends compiled in, optimised.
#[cfg(not(feature = "soak"))]
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    // One of the backends takes `protoc` to build.
    crate::needs::provide(|_| ())?;
    eprintln!("building the backends (feature soak)");
    crate::process::stream(
        crate::process::cargo()
            .args(["run", "--release", "--quiet", "--package", "xtask"])
            .args(["--features", "soak", "--", "soak"])
            .args(arguments),
    )
}
