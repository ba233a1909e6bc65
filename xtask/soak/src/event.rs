//! What a client did and saw, key by key.

use serde::{Deserialize, Serialize};

use super::key::Key;
use super::time::Stamp;

/// One call, as far as it concerns one key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) key: Key,
    /// The process and the task.
    pub(crate) client: u32,
    pub(crate) start: Stamp,
    pub(crate) end: Stamp,
    pub(crate) what: What,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum What {
    Write {
        version: u64,
        /// In nanoseconds, `u64::MAX` for none.
        ttl: u64,
        size: usize,
        outcome: Outcome,
    },
    Delete(Outcome),
    Hit {
        version: u64,
        /// The lifetime that the value says it has left.
        left: Option<u64>,
    },
    Miss,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Done,
    /// Failed or dropped: it may have been applied, may still be, or never.
    Unknown,
}

/// The six operations, and what the soak does besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Operation {
    Get,
    Set,
    Delete,
    GetMulti,
    SetMulti,
    DeleteMulti,
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::GetMulti => "get_multi",
            Self::SetMulti => "set_multi",
            Self::DeleteMulti => "delete_multi",
        })
    }
}

/// How a call came to its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum End {
    Answered,
    /// Its future was dropped, on purpose.
    Dropped,
    /// The kind of the error, whether it is transient, and all of it in words.
    Failed {
        kind: String,
        transient: bool,
        text: String,
    },
    /// It did not come to an end.
    Never,
}

/// What clients report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// One call and all that it says of keys.
    Call {
        operation: Operation,
        client: u32,
        start: u64,
        end: u64,
        how: End,
        events: Vec<Event>,
    },
    /// Something that is wrong whatever else happened.
    Wrong {
        rule: String,
        key: Option<Key>,
        at: u64,
        text: String,
    },
}
