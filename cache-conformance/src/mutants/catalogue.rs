//! Faulty backends with one bug each, and the rules that must detect them.
#![allow(clippy::too_many_lines, clippy::unnecessary_wraps)] // Long lists; operations may fail.

mod expiry;
mod history;
mod keys;
mod operations;
mod parallel;
mod races;
mod servers;
mod values;

use super::mutant::Mutant;

/// Returns all mutants. Each rule has at least one.
pub fn all() -> Vec<Mutant> {
    let mut all = Vec::new();
    all.extend(operations::basic());
    all.extend(operations::multi());
    all.extend(keys::keys());
    all.extend(keys::errors());
    all.extend(values::values());
    all.extend(values::limits());
    all.extend(values::metadata());
    all.extend(expiry::expiry());
    all.extend(parallel::sharing());
    all.extend(parallel::concurrency());
    all.extend(parallel::cancellation());
    all.extend(races::races());
    all.extend(servers::faults());
    all.extend(servers::outages());
    all.extend(servers::bounds());
    all.extend(servers::promises());
    all.extend(servers::model());
    all.extend(history::history());
    all
}
