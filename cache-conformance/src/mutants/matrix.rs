//! Which rules detect which mutants, and how reliably.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::catalogue::all;
use super::mutant::Mutant;
use crate::{Verdict, rules};

/// How often the rule of a mutant detected it. It prints as one line.
///
/// ```
/// use cache_conformance::mutants::{Kills, all};
///
/// let mutants = all();
/// let kills = Kills::of(&mutants[..1], 2);
/// assert_eq!((kills[0].found, kills[0].times), (2, 2));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Kills {
    /// The rule.
    pub rule: &'static str,
    /// The mutant.
    pub name: &'static str,
    /// How often the rule was run, each time with another seed.
    pub times: u64,
    /// How often it detected the mutant.
    pub found: u64,
    /// The message of the last failure.
    pub message: String,
}

impl Kills {
    /// Runs the rule of each mutant this many times, a few at a time.
    pub fn of(mutants: &[Mutant], times: u64) -> Vec<Self> {
        /// Most rules wait most of the time.
        const AT_ONCE: usize = 6;
        let queue = Mutex::new(mutants.iter().enumerate());
        let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        let take = &take;
        let mut kills: Vec<(usize, Self)> = thread::scope(|scope| {
            let work = move || {
                let mut done = Vec::new();
                while let Some((place, mutant)) = take() {
                    done.push((place, Self::of_one(mutant, times)));
                }
                done
            };
            let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
            let joined = workers.into_iter().filter_map(|worker| worker.join().ok());
            joined.flatten().collect()
        });
        kills.sort_by_key(|(place, _)| *place);
        kills.into_iter().map(|(_, kills)| kills).collect()
    }

    fn of_one(mutant: &Mutant, times: u64) -> Self {
        let mut kills = Self {
            rule: mutant.rule,
            name: mutant.name,
            times,
            found: 0,
            message: String::new(),
        };
        for seed in 1..=times {
            let report = mutant.suite().seed(seed).only(mutant.rule).run();
            let owned = report.rules.into_iter().find(|rule| rule.id == mutant.rule);
            if let Some(Verdict::Failed(message)) = owned.map(|rule| rule.verdict) {
                kills.found += 1;
                kills.message = message;
            }
        }
        kills
    }

    /// Returns whether the rule detected the mutant each time, with a complete message.
    pub fn is_sure(&self) -> bool {
        let explained = self.message.contains(self.rule) && self.message.contains("found:");
        self.found == self.times && explained
    }

    /// Returns the rules without a mutant, which are not proven to detect anything.
    pub fn rules_without() -> Vec<String> {
        let owners: BTreeSet<&str> = all().iter().map(|mutant| mutant.rule).collect();
        let ids = rules().iter().map(crate::Rule::id);
        ids.filter(|id| !owners.contains(id.as_str())).collect()
    }
}

impl fmt::Display for Kills {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            rule,
            name,
            times,
            found,
            ..
        } = self;
        write!(f, "{found:>3} of {times}  {rule:58} {name}")
    }
}
