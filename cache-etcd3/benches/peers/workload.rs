//! What all lines have in common: keys, values and load.

use std::time::Duration;

use comparison::load::{Keys, Load, Work};

/// Value size in bytes.
pub(crate) const VALUE: usize = 100;

pub(crate) fn load(work: Work, tasks: usize, length: Duration) -> Load {
    Load {
        work,
        tasks,
        size: VALUE,
        length,
        servers: Vec::new(),
    }
}

pub(crate) fn keys(prefix: &str) -> Keys {
    (0..10_000).map(|n| format!("{prefix}/{n}")).collect()
}
