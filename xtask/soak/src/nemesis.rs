//! Works on the servers, one fault after another, in an order that the seed gives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use cache_conformance::{Fault, FaultControl as _, Proxy};
use fastrand::Rng;

use crate::faults::{FaultLog, STALL};
use crate::time::{SECOND, nanos};

/// The servers of a backend, and what can be done to them.
pub(crate) trait Victim: Send {
    /// The faults that it knows.
    fn kinds(&self) -> Vec<&'static str>;

    /// Does one of them, waits, and undoes it. The beginning is noted in the log.
    fn inflict(&mut self, kind: &'static str, rng: &mut Rng, faults: &FaultLog) -> Result<()>;

    /// What has to be looked after each second while no fault lasts.
    fn tend(&mut self, _faults: &FaultLog) -> Result<()> {
        Ok(())
    }

    /// What the servers still hold of clients that are all gone; asked again until it is empty
    /// or there is no time left.
    fn left_over(&mut self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Figures for the summary.
    fn figures(&mut self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// Lets a fault last for a time between these milliseconds.
pub(crate) fn hold(rng: &mut Rng, least: u64, most: u64) {
    sleep(Duration::from_millis(rng.u64(least..most)));
}

/// Faults of the network, in front of one server.
pub(crate) const REFUSED: &str = "connections refused";
pub(crate) const SILENT: &str = "connections silent";
pub(crate) const CUT: &str = "connections cut within an answer";

/// Brings one of these about with the proxy, and heals it.
pub(crate) fn disturb(proxy: &mut Proxy, kind: &str, rng: &mut Rng, most: u64) -> Result<()> {
    let fault = match kind {
        REFUSED => Fault::Down,
        CUT => Fault::Cut,
        _ => Fault::Silent,
    };
    proxy.inject(fault).map_err(|error| anyhow!(error))?;
    hold(rng, 500, most);
    proxy.heal().map_err(|error| anyhow!(error))
}

/// The faults of a run in their order: each kind once before any comes a second time.
struct Plan {
    kinds: Vec<&'static str>,
    bag: Vec<&'static str>,
    rng: Rng,
}

impl Plan {
    fn new(seed: u64, kinds: Vec<&'static str>) -> Self {
        Self {
            kinds,
            bag: Vec::new(),
            rng: Rng::with_seed(seed),
        }
    }

    fn next(&mut self) -> Option<&'static str> {
        if self.bag.is_empty() {
            self.bag.clone_from(&self.kinds);
            self.rng.shuffle(&mut self.bag);
        }
        self.bag.pop()
    }
}

/// How often in a row the servers may not be looked after: a busy machine may be too slow for it.
const TENDING_FAILURES: u32 = 10;

/// Goes on until `deadline`, in nanoseconds of the run; the last fault is then over and its
/// recovery as well.
pub(crate) fn work(
    victim: &mut dyn Victim,
    faults: &FaultLog,
    seed: u64,
    settle: u64,
    deadline: u64,
) -> Result<()> {
    let mut plan = Plan::new(seed, victim.kinds());
    let mut failures = 0;
    loop {
        let until = faults.time.now() + settle + plan.rng.u64(SECOND..4 * SECOND);
        while faults.time.now() < until.min(deadline) {
            sleep(Duration::from_secs(1));
            match victim.tend(faults) {
                Ok(()) => failures = 0,
                Err(_) if failures < TENDING_FAILURES => failures += 1,
                Err(error) => return Err(error.context("while no fault was about")),
            }
        }
        // A fault takes some seconds, and so does the recovery from it.
        if faults.time.now() + settle + 8 * SECOND > deadline {
            return Ok(());
        }
        if let Some(kind) = plan.next() {
            let done = victim.inflict(kind, &mut plan.rng, faults);
            faults.end();
            done.with_context(|| format!("the fault `{kind}` could not be done or undone"))?;
        }
    }
}

/// Notes when the machine has no time for this process: nobody can keep a promise then.
pub(crate) fn watch_machine(faults: &FaultLog, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let before = faults.time.now();
        sleep(Duration::from_millis(20));
        let after = faults.time.now();
        if after - before > nanos(Duration::from_millis(250)) {
            faults.accident(STALL, "", before, after);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_the_plan_and_no_kind_is_left_out() {
        let draw = |seed| {
            let mut plan = Plan::new(seed, vec!["a", "b", "c", "d"]);
            (0..8).filter_map(|_| plan.next()).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert!((2..20).any(|seed| draw(seed) != draw(1)));
        let mut first = draw(3)[..4].to_vec();
        first.sort_unstable();
        assert_eq!(first, ["a", "b", "c", "d"]);
    }
}
