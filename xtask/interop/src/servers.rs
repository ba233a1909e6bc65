//! The servers shared by all checks.

use anyhow::Result;
use test_servers::{Etcd, Memcached};

pub(crate) struct Servers {
    memcached: Vec<Memcached>,
    /// Killed, so that nothing listens on its port.
    dead: Memcached,
    etcd: Etcd,
}

impl Servers {
    pub(crate) fn start() -> Result<Self> {
        let mut dead = Memcached::start()?;
        let memcached = vec![
            Memcached::start()?,
            Memcached::start()?,
            Memcached::start()?,
        ];
        dead.kill()?;
        Ok(Self {
            memcached,
            dead,
            etcd: Etcd::start()?,
        })
    }

    /// The addresses of three memcached servers.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.memcached.iter().map(Memcached::url).collect()
    }

    /// The addresses of three memcached servers, the second of which is dead.
    pub(crate) fn urls_one_dead(&self) -> Vec<String> {
        let mut urls = self.urls();
        if let Some(second) = urls.get_mut(1) {
            *second = self.dead.url();
        }
        urls
    }

    /// The address of the etcd server.
    pub(crate) fn etcd(&self) -> String {
        self.etcd.endpoint()
    }
}
