//! [`Local`], what belongs to one tokio runtime, and [`Locals`], one for each.
//!
//! Connections and tasks live and die with the runtime that they were made in, and rest while it
//! is not driven. So nothing that one runtime drives is waited for in another.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use tokio::net::UdpSocket;
use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;

use crate::NAME;
use crate::backend::Shared;
use crate::endpoints::Endpoints;
use crate::read_coalescer::Reading;
use crate::rounds::Rounds;
use crate::sync::lock;
use crate::write_coalescer::Writing;

/// What belongs to one runtime.
pub(crate) struct Local {
    pub(crate) shared: Arc<Shared>,
    pub(crate) runtime: Handle,
    pub(crate) endpoints: Arc<Endpoints>,
    pub(crate) reads: Rounds<Reading>,
    pub(crate) writes: Rounds<Writing>,
    /// Dropped with this: the task that waits for it ends.
    _alive: oneshot::Sender<()>,
}

/// What belongs to each runtime that calls were made in.
pub(crate) struct Locals {
    shared: Arc<Shared>,
    of: Mutex<HashMap<Id, Arc<Local>>>,
}

impl Locals {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            of: Mutex::new(HashMap::new()),
        }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// What belongs to the runtime that this is called in. An error unless calls can be made
    /// there: in a runtime that has I/O and time.
    pub(crate) async fn current(self: &Arc<Self>) -> Result<Arc<Local>> {
        let runtime = Handle::try_current().map_err(|error| {
            let message = "a call was made outside of a tokio runtime; make it in one, for \
                           example below #[tokio::main] or in Runtime::block_on";
            refuse(message).with_source(error)
        })?;
        if let Some(local) = lock(&self.of).get(&runtime.id()) {
            return Ok(Arc::clone(local));
        }
        check(&runtime).await?;
        Ok(self.insert(&runtime))
    }

    fn insert(self: &Arc<Self>, runtime: &Handle) -> Arc<Local> {
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
            reads: Rounds::default(),
            writes: Rounds::default(),
            _alive: alive,
        });
        match lock(&self.of).entry(id) {
            // Another call was faster.
            Entry::Occupied(faster) => return Arc::clone(faster.get()),
            Entry::Vacant(place) => place.insert(Arc::clone(&local)),
        };
        let resident = Resident {
            locals: Arc::downgrade(self),
            id,
        };
        runtime.spawn(async move {
            let _resident = resident;
            let _ = ended.await;
        });
        local
    }
}

/// Something in a runtime's care, which is dropped when the runtime shuts down.
struct Resident {
    locals: Weak<Locals>,
    id: Id,
}

impl Drop for Resident {
    fn drop(&mut self) {
        if let Some(locals) = self.locals.upgrade() {
            let local = lock(&locals.of).remove(&self.id);
            drop(local);
        }
    }
}

fn refuse(message: &str) -> Error {
    Error::new(ErrorKind::Backend, NAME, message)
}

/// tokio says that a runtime lacks I/O or time by a panic, and not otherwise: so a task of its
/// own is made to use both.
async fn check(runtime: &Handle) -> Result<()> {
    let tried = runtime.spawn(async {
        drop(tokio::time::sleep(Duration::ZERO));
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        drop(UdpSocket::bind(any_port).await);
    });
    match tried.await {
        Err(error) if error.is_panic() => {
            let message = "the tokio runtime lacks I/O or time; build it with \
                           Builder::enable_all()";
            Err(refuse(message).with_source(error))
        }
        // Whether a socket was to be had is not the question.
        _ => Ok(()),
    }
}
