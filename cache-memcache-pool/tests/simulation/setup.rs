//! What single cases are made of: servers with a few faults, and a backend on them.

use std::sync::Arc;
use std::time::Duration;

use cache_memcache_pool::{MemcachePoolBackend, MemcachePoolBuilder};
use tokio::time::Instant;

use crate::network::{Fault, Kind, Link, Timeline};
use crate::rng::Rng;
use crate::server::{Farm, fast};

/// The `socket_timeout` of the backend.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(500);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A fault of the first server.
pub(crate) fn fault(kind: Kind, from: Duration, to: Duration) -> Fault {
    Fault {
        server: 0,
        kind,
        from,
        to,
    }
}

/// One or more servers, the first of which has these faults.
pub(crate) fn farm(servers: usize, faults: &[Fault], change: impl Fn(&mut Link)) -> Farm {
    let start = Instant::now();
    let link = |server: usize| {
        let mut link = fast(start);
        let own = if server == 0 {
            faults.to_vec()
        } else {
            Vec::new()
        };
        link.timeline = Arc::new(Timeline::new(start, own));
        change(&mut link);
        link
    };
    Farm::start(
        (0..servers).map(link).collect(),
        faults,
        start,
        &mut Rng::new(7),
    )
}

/// A backend on these servers.
pub(crate) fn builder(farm: &Farm) -> MemcachePoolBuilder {
    let net = farm.clone();
    MemcachePoolBackend::builder()
        .url(farm.urls())
        .socket_timeout(TIMEOUT)
        .jitter_seed(1)
        .connect_with(move |address| net.clone().connect(address.to_owned()))
}
