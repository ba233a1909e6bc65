//! Backends that are wrong, each in one way, with the rule that has to find it.

mod expiry;
mod keys;
mod operations;
mod parallel;
mod servers;
mod values;

use std::sync::Arc;

use crate::support::mutant::Mutant;
use crate::support::store::Value;

pub(crate) struct Wrong {
    /// The rule that owns it.
    pub(crate) owner: &'static str,
    /// What is wrong with it.
    pub(crate) name: &'static str,
    pub(crate) mutant: Arc<Mutant>,
}

fn wrong(owner: &'static str, name: &'static str, mutant: Mutant) -> Wrong {
    Wrong {
        owner,
        name,
        mutant: Arc::new(mutant),
    }
}

fn value(payload: impl Into<Vec<u8>>) -> Value {
    Value::new(payload.into())
}

pub(crate) fn all() -> Vec<Wrong> {
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
    all.extend(servers::faults());
    all.extend(servers::bounds());
    all.extend(servers::model());
    all
}
