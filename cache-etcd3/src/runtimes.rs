//! [`PerRuntime`]: the state of one Tokio runtime; [`Runtimes`]: one for each runtime.
//!
//! Connections and tasks end with the runtime that they were created in, and make no progress
//! while it is not driven. So a call does not depend on another runtime: it waits at most 3 s for a
//! lease that one has requested.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use tokio::net::UdpSocket;
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::NAME;
use crate::endpoints::Endpoints;
use crate::local::Local;
use crate::read_coalescer::Reading;
use crate::rounds::Rounds;
use crate::shared::Shared;
use crate::sync::lock;
use crate::write_coalescer::Writing;

/// The state of one runtime.
pub(crate) struct PerRuntime {
    pub(crate) local: Arc<Local>,
    pub(crate) reads: Rounds<Reading>,
    pub(crate) writes: Rounds<Writing>,
    /// Dropped with this, which ends the task that waits for it.
    _alive: oneshot::Sender<()>,
}

impl Drop for PerRuntime {
    fn drop(&mut self) {
        self.local.endpoints.end_background();
    }
}

/// The state of each runtime that calls were made in.
pub(crate) struct Runtimes {
    shared: Arc<Shared>,
    of: Mutex<HashMap<Id, Arc<PerRuntime>>>,
}

impl Runtimes {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            of: Mutex::new(HashMap::new()),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The state of the current runtime. An error outside a runtime, or if it lacks I/O or time.
    pub(crate) async fn current(self: &Arc<Self>) -> Result<Arc<PerRuntime>> {
        let runtime = Handle::try_current().map_err(|error| {
            let message = "the call was made outside a Tokio runtime; make it inside one, for \
                           example under #[tokio::main] or in Runtime::block_on";
            refuse(message).with_source(error)
        })?;
        if let Some(here) = lock(&self.of).get(&runtime.id()) {
            return Ok(Arc::clone(here));
        }
        check(&runtime).await?;
        Ok(self.insert(&runtime))
    }

    fn insert(self: &Arc<Self>, runtime: &Handle) -> Arc<PerRuntime> {
        let shared = &self.shared;
        let (alive, ended) = oneshot::channel();
        let id = runtime.id();
        let local = Arc::new(Local {
            shared: Arc::clone(shared),
            endpoints: Arc::new(Endpoints::new(
                &shared.settings,
                &shared.health,
                &shared.counters,
                runtime.clone(),
            )),
            runtime: runtime.clone(),
            refused: tokio::sync::Mutex::new(Instant::now()),
        });
        let here = Arc::new(PerRuntime {
            reads: Rounds::new(&local),
            writes: Rounds::new(&local),
            local,
            _alive: alive,
        });
        match lock(&self.of).entry(id) {
            // Another call was first.
            Entry::Occupied(faster) => return Arc::clone(faster.get()),
            Entry::Vacant(place) => place.insert(Arc::clone(&here)),
        };
        let resident = Resident {
            runtimes: Arc::downgrade(self),
            id,
        };
        runtime.spawn(async move {
            let _resident = resident;
            let _ = ended.await;
        });
        here
    }
}

/// Held by a task, so that it is dropped when the runtime shuts down.
struct Resident {
    runtimes: Weak<Runtimes>,
    id: Id,
}

impl Drop for Resident {
    fn drop(&mut self) {
        if let Some(runtimes) = self.runtimes.upgrade() {
            let here = lock(&runtimes.of).remove(&self.id);
            drop(here);
        }
    }
}

fn refuse(message: &str) -> Error {
    Error::new(ErrorKind::Backend, NAME, message)
}

/// Checks that the runtime has I/O and time. Tokio reports their absence only by a panic, so a
/// separate task uses both.
async fn check(runtime: &Handle) -> Result<()> {
    let tried = runtime.spawn(async {
        drop(tokio::time::sleep(Duration::ZERO));
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        drop(UdpSocket::bind(any_port).await);
    });
    match tried.await {
        Err(error) if error.is_panic() => {
            let message = "the Tokio runtime has no I/O or timer driver; build it with \
                           Builder::enable_all()";
            Err(refuse(message).with_source(error))
        }
        // Whether binding succeeded does not matter.
        _ => Ok(()),
    }
}
