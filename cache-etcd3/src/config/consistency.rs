//! [`Consistency`], what a read is guaranteed to see.

use serde::{Deserialize, Serialize};

/// The consistency of reads.
///
/// ```
/// use cache_etcd3::{Consistency, Etcd3Config};
///
/// let mut config = Etcd3Config::default();
/// config.consistency = Consistency::Serializable; // "serializable" in a file
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Consistency {
    /// A read sees every write that was acknowledged before it began. It requires a leader.
    #[default]
    Linearizable,
    /// A read is served by one member from its local state. It is faster and works without a
    /// leader, but may return a stale or deleted value.
    Serializable,
}
