//! [`Write`], what is to be stored under one key, and [`Ready`], the same with its lease.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache_core::wire::Metadata;
use cache_core::{CachedValue, ErrorKind};
use etcd_client::{DeleteOptions, PutOptions, TxnOp};

use crate::config::Format;
use crate::failure::{Failure, Next};
use crate::leases::{LeaseId, TtlClass};
use crate::limits::OVERHEAD;

/// A key to write.
#[derive(Debug)]
pub(crate) struct Write {
    /// As the server calls it.
    pub(crate) name: Vec<u8>,
    pub(crate) hash: u64,
    /// What to store; `None`: the key is to be removed.
    pub(crate) put: Option<Put>,
}

#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) stored: Vec<u8>,
    /// `None`: until it is deleted.
    pub(crate) class: Option<TtlClass>,
}

impl Write {
    pub(crate) fn class(&self) -> Option<TtlClass> {
        self.put.as_ref()?.class
    }

    /// What it takes of a request: its name twice, since the newest revision is compared.
    pub(crate) fn bytes(&self) -> usize {
        let stored = self.put.as_ref().map_or(0, |put| put.stored.len());
        OVERHEAD + 2 * self.name.len() + stored
    }
}

/// For how long what is written keeps out a set that may arrive late.
const ENDURES: Duration = Duration::from_secs(60);

impl Write {
    /// Whether what it leaves in the store keeps out a set that arrives late.
    pub(crate) fn endures(&self) -> bool {
        let put = self.put.as_ref();
        put.is_some_and(|put| put.class.is_none_or(|class| class.lifetime() >= ENDURES))
    }

    /// The same for a key that is in doubt: a set of it may arrive late, and nothing is not enough
    /// to keep it out. In place of nothing it is an empty value that expired long ago; and a value
    /// that expires soon stays in the store for longer than it is served.
    pub(crate) fn as_mark(&self, format: Format) -> Result<Self, Failure> {
        let stored = match &self.put {
            Some(put) => put.stored.clone(),
            None => {
                let epoch = SystemTime::UNIX_EPOCH;
                let expired = CachedValue::new(()).with_cached_at(epoch);
                let expired = expired.with_ttl(Duration::ZERO);
                let metadata = Metadata::of(&expired, Duration::ZERO, epoch);
                let stored = format.encode(&metadata, b"null");
                stored.map_err(|error| {
                    Failure::new(Next::Nothing(ErrorKind::Backend), error.message())
                })?
            }
        };
        Ok(Self {
            name: self.name.clone(),
            hash: self.hash,
            put: Some(Put {
                stored,
                class: TtlClass::of(ENDURES),
            }),
        })
    }
}

/// A write and what it rides on.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) write: Arc<Write>,
    pub(crate) lease: Option<LeaseId>,
}

impl Ready {
    pub(crate) fn operation(&self) -> TxnOp {
        let name = self.write.name.clone();
        match &self.write.put {
            Some(put) => TxnOp::put(name, put.stored.clone(), self.options()),
            None => TxnOp::delete(name, None::<DeleteOptions>),
        }
    }

    pub(crate) fn options(&self) -> Option<PutOptions> {
        self.lease.map(|lease| PutOptions::new().with_lease(lease))
    }
}
