//! [`Cluster`]: the servers of a backend.

mod breaker;
mod call;
mod mark;
mod pool;
mod send;
mod server;
mod within;

use std::sync::{Arc, PoisonError};

use crossbeam_utils::sync::ShardedLock;
use tokio::sync::watch;

use crate::config::{Address, Settings};
use crate::router::{Router, Routing, kept};
use crate::stats::{MemcachePoolStats, ServerStats};

pub(crate) use call::Call;
pub(crate) use mark::MARK;
pub(crate) use pool::current_runtime;
pub(crate) use send::Sending;
pub(crate) use server::Server;

/// The servers of a backend. They can be replaced while it is in use.
pub(crate) struct Cluster {
    pub(crate) settings: Arc<Settings>,
    farm: ShardedLock<Arc<Farm>>,
    /// Each farm has a receiver, so it is known when no call uses one any longer.
    in_use: watch::Sender<()>,
}

/// The servers at one time. A call uses the farm that was current when it began.
pub(crate) struct Farm {
    members: Vec<Arc<Member>>,
    router: Router,
    /// `None`: the backend was closed.
    in_use: Option<watch::Receiver<()>>,
}

/// A server that belongs to a farm in use.
struct Member(Arc<Server>);

impl Drop for Member {
    fn drop(&mut self) {
        self.0.shut_down();
    }
}

impl Farm {
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn server(&self, index: usize) -> Option<&Arc<Server>> {
        self.members.get(index).map(|member| &member.0)
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = &Arc<Server>> {
        self.members.iter().map(|member| &member.0)
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    fn is_closed(&self) -> bool {
        self.in_use.is_none()
    }
}

impl Cluster {
    pub(crate) fn new(addresses: Vec<Address>, router: Router, settings: Arc<Settings>) -> Self {
        let members = addresses
            .into_iter()
            .map(|address| {
                Arc::new(Member(Arc::new(Server::new(
                    address,
                    Arc::clone(&settings),
                ))))
            })
            .collect();
        let (in_use, receiver) = watch::channel(());
        Self {
            settings,
            farm: ShardedLock::new(Arc::new(Farm {
                members,
                router,
                in_use: Some(receiver),
            })),
            in_use,
        }
    }

    /// The current servers.
    #[inline]
    pub(crate) fn farm(&self) -> Arc<Farm> {
        Arc::clone(&self.farm.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the servers. Those that remain keep their connections; those that are removed are
    /// closed when the calls that use them have ended.
    pub(crate) fn set_servers(&self, addresses: Vec<Address>, router: Router) {
        let mut farm = self.farm.write().unwrap_or_else(PoisonError::into_inner);
        if farm.is_closed() {
            return;
        }
        let names: Vec<String> = addresses.iter().map(Address::to_string).collect();
        let kept = kept(farm.servers().map(|server| server.name.as_str()), &names);
        let members = addresses.into_iter().zip(kept).map(|(address, kept)| {
            let kept = kept.and_then(|position| farm.members.get(position));
            // `inet:` or `inet6:` before the same name is another address.
            match kept.filter(|member| *member.0.address() == address) {
                Some(member) => Arc::clone(member),
                None => {
                    let settings = Arc::clone(&self.settings);
                    Arc::new(Member(Arc::new(Server::new(address, settings))))
                }
            }
        });
        let next = Farm {
            members: members.collect(),
            router,
            in_use: Some(self.in_use.subscribe()),
        };
        let before = std::mem::replace(&mut *farm, Arc::new(next));
        // Dropping it may close connections.
        drop(farm);
        drop(before);
    }

    /// Refuses further calls. Waits until those in flight have ended, also those to servers that
    /// were replaced, and until the connections of this runtime are closed. It needs no runtime to
    /// wait.
    pub(crate) async fn close(&self) {
        let servers = self.refuse_calls();
        self.in_use.closed().await;
        for server in servers {
            server.disconnected().await;
        }
    }

    /// Returns the previous servers. The last call in flight closes their connections.
    fn refuse_calls(&self) -> Vec<Arc<Server>> {
        let closed = Farm {
            members: Vec::new(),
            router: Router::new(Routing::default(), &[]),
            in_use: None,
        };
        let mut farm = self.farm.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *farm, Arc::new(closed));
        drop(farm);
        before.servers().map(Arc::clone).collect()
    }

    pub(crate) fn stats(&self) -> MemcachePoolStats {
        MemcachePoolStats {
            servers: self
                .farm()
                .servers()
                .map(|server| server.stats())
                .collect::<Vec<ServerStats>>(),
        }
    }
}
