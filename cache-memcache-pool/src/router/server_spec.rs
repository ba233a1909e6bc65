//! [`ServerSpec`], what a routing knows of a server.

/// The name and weight of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerSpec {
    /// `host:port`, `[v6]:port`, or `unix:/path`.
    pub(crate) name: String,
    /// Its share of the keys relative to the others. A server with weight 0 gets none.
    pub(crate) weight: u32,
}
