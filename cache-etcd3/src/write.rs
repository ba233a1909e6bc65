//! [`Write`]: a write of one key; [`Ready`]: the same with its lease.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache_core::wire::Metadata;
use cache_core::{CachedValue, ErrorKind};
use etcd_client::{DeleteOptions, PutOptions, TxnOp};

use crate::config::Format;
use crate::failure::{Failure, Next};
use crate::leases::{LeaseId, TtlClass};
use crate::limits::OVERHEAD;

/// In the message of a value that is too large if its old value could not be deleted.
pub(crate) const OLD_REMAINS: &str = "the old value could not be removed";

/// A write of one key.
#[derive(Debug)]
pub(crate) struct Write {
    /// The key with its prefix.
    pub(crate) name: Vec<u8>,
    pub(crate) hash: u64,
    /// The value to store; `None` deletes the key.
    pub(crate) put: Option<Put>,
    /// Whether it may need a mark, see [`as_mark`](Self::as_mark).
    pub(crate) mark: Mark,
}

/// Whether a write is sent in a form that protects its key from a late set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mark {
    /// If its key is in doubt.
    #[default]
    IfNeeded,
    /// It stores a mark instead of a delete.
    OfDelete,
    /// The server is full: it cannot store a mark.
    Impossible,
}

#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) stored: Vec<u8>,
    /// `None`: no expiry.
    pub(crate) class: Option<TtlClass>,
}

impl Write {
    pub(crate) fn class(&self) -> Option<TtlClass> {
        self.put.as_ref()?.class
    }

    /// Its size in a request. The name counts twice, since its revision is compared.
    pub(crate) fn bytes(&self) -> usize {
        let stored = self.put.as_ref().map_or(0, |put| put.stored.len());
        OVERHEAD + 2 * self.name.len() + stored
    }
}

/// The shortest lifetime of a value that protects its key from a late set.
const ENDURES: Duration = Duration::from_secs(60);

impl Write {
    /// Whether the stored value protects its key from a late set.
    pub(crate) fn endures(&self) -> bool {
        let put = self.put.as_ref();
        put.is_some_and(|put| put.class.is_none_or(|class| class.lifetime() >= ENDURES))
    }

    /// This write in a form that protects its key from a late set: a delete becomes an expired
    /// value, and a short-lived value stays in the store longer than it is served.
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
            mark: match &self.put {
                Some(_) => Mark::IfNeeded,
                None => Mark::OfDelete,
            },
        })
    }

    /// A delete of the same key.
    pub(crate) fn removal(&self) -> Self {
        Self {
            name: self.name.clone(),
            hash: self.hash,
            put: None,
            mark: Mark::IfNeeded,
        }
    }

    /// The delete that this stores a mark for, if it is one. A late set may undo it.
    pub(crate) fn without_mark(&self) -> Option<Self> {
        (self.mark == Mark::OfDelete).then(|| Self {
            mark: Mark::Impossible,
            ..self.removal()
        })
    }
}

/// A write with its lease.
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
