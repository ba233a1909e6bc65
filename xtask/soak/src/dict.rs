//! cache-dict, which has no servers that could fail.

use std::time::Duration;

use anyhow::Result;
use cache_core::DynBackend;
use cache_dict::DictBackend;

use crate::judge::{Linearizable, Promises, now};
use crate::load::Space;
use crate::target::Target;

const DEFAULT_TTL: Duration = Duration::from_secs(30);

pub(crate) fn target() -> Result<Target> {
    let builder = || DictBackend::<Vec<u8>>::builder().expiration_time(DEFAULT_TTL);
    let whole = builder().build()?;
    let bounded = builder().max_entries(300).build()?;
    // Handles of one backend, as in the tasks of a service.
    let space = |backend: &DictBackend<Vec<u8>>| {
        let handles = (0..3).map(|_| DynBackend::new(backend.clone()));
        Space::new(now, handles.collect())
    };
    Ok(Target {
        spaces: vec![space(&whole), space(&bounded)],
        open: None,
        bounded: Some(1),
        promises: Promises {
            linearizable: Linearizable::Always,
            bound: Duration::from_secs(1),
            settle: Duration::ZERO,
            default_ttl: DEFAULT_TTL,
            largest: 256 * 1024,
        },
        clients: 64,
        rate: 1500.0,
        servers: None,
    })
}
