//! Works on the servers, one fault after another, in an order that the seed gives.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use super::faults::{FaultLog, STALL};
use super::rng::Rng;
use super::time::{RunTime, nanos};

/// The servers of a backend, and what can be done to them.
pub(crate) trait Victim: Send {
    /// The faults that it knows.
    fn kinds(&self) -> Vec<&'static str>;

    /// Does one of them, waits, and undoes it. The fault is noted in the scene's log.
    fn inflict(&mut self, kind: &'static str, rng: &mut Rng, scene: &Scene) -> Result<()>;

    /// What has to be looked after each second while no fault lasts.
    fn tend(&mut self, _scene: &Scene) -> Result<()> {
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

/// Where a fault takes place.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) time: RunTime,
    pub(crate) faults: Arc<FaultLog>,
}

impl Scene {
    /// Call it before anything is done.
    pub(crate) fn begin(&self, kind: &str, on: &str) {
        self.faults.begin(self.time.now(), kind, on);
    }

    /// Call it when all is well again as far as the servers are concerned.
    pub(crate) fn end(&self) {
        self.faults.end(self.time.now());
    }

    /// Lets a fault last for a time between these.
    pub(crate) fn hold(rng: &mut Rng, least: Duration, most: Duration) {
        sleep(Duration::from_nanos(rng.between(nanos(least), nanos(most))));
    }
}

/// The faults of a run in their order: each kind once before any comes a second time.
pub(crate) struct Plan {
    kinds: Vec<&'static str>,
    bag: Vec<&'static str>,
    pub(crate) rng: Rng,
}

impl Plan {
    pub(crate) fn new(seed: u64, kinds: Vec<&'static str>) -> Self {
        Self {
            kinds,
            bag: Vec::new(),
            rng: Rng::new(seed, "nemesis"),
        }
    }

    pub(crate) fn next(&mut self) -> Option<&'static str> {
        if self.bag.is_empty() {
            self.bag.clone_from(&self.kinds);
            self.rng.shuffle(&mut self.bag);
        }
        self.bag.pop()
    }
}

/// How often in a row the servers may not be looked after.
const TENDING_FAILURES: u32 = 10;

/// Goes on until `deadline`, in nanoseconds of the run; the last fault is then over and its
/// recovery as well.
pub(crate) fn work(
    victim: &mut dyn Victim,
    scene: &Scene,
    seed: u64,
    settle: Duration,
    deadline: u64,
) -> Result<()> {
    let mut plan = Plan::new(seed, victim.kinds());
    let mut failures = 0;
    loop {
        let calm = plan.rng.between(1_000_000_000, 4_000_000_000);
        let until = scene.time.now() + nanos(settle) + calm;
        while scene.time.now() < until.min(deadline) {
            sleep(Duration::from_secs(1));
            match victim.tend(scene) {
                Ok(()) => failures = 0,
                Err(error) => {
                    // A machine that is busy may be too slow for it, once.
                    failures += 1;
                    if failures > TENDING_FAILURES {
                        return Err(error.context("while no fault was about"));
                    }
                }
            }
        }
        // A fault takes some seconds, and so does the recovery from it.
        if scene.time.now() + nanos(settle) + 8_000_000_000 > deadline {
            return Ok(());
        }
        let Some(kind) = plan.next() else {
            continue;
        };
        let done = victim.inflict(kind, &mut plan.rng, scene);
        scene.end();
        done.with_context(|| format!("the fault `{kind}` could not be done or undone"))?;
    }
}

/// Notes when the machine has no time for this process: nobody can keep a promise then.
pub(crate) fn watch_machine(scene: &Scene, stop: &AtomicBool) {
    const NAP: Duration = Duration::from_millis(20);
    const TOO_LONG: u64 = 250_000_000;
    while !stop.load(Ordering::Relaxed) {
        let before = scene.time.now();
        sleep(NAP);
        let after = scene.time.now();
        if after - before > TOO_LONG {
            scene.faults.accident(STALL, "", before, after);
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
