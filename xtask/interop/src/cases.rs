//! What is written and read: kinds of values, and operations.

use serde_json::json;

use super::sides::{Format, Payload};

const MIB: usize = 1024 * 1024;

/// So many keys that each of three servers gets some.
const KEYS: usize = 12;

/// A kind of value, or of key.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    payload: fn(usize) -> Payload,
    key: &'static str,
    count: usize,
}

pub(crate) const KINDS: &[Kind] = &[
    Kind {
        name: "text",
        payload: |i| Payload::Json(json!(format!("text {i} é € 😀 \u{0} \r\n END"))),
        ..PLAIN
    },
    Kind {
        name: "object",
        payload: |i| {
            Payload::Json(json!({"a": i, "b": [true, null, -1.5, i64::MIN], "é": {"ü€": "😀"}}))
        },
        ..PLAIN
    },
    Kind {
        name: "bytes",
        payload: |i| Payload::Bytes((0..=u8::MAX).cycle().skip(i).take(256).collect()),
        ..PLAIN
    },
    Kind {
        name: "empty",
        payload: |_| Payload::Bytes(Vec::new()),
        ..PLAIN
    },
    Kind {
        name: "1 MiB",
        // Less a little: the limit of memcached includes key, metadata and its own header.
        payload: |i| Payload::Json(json!(format!("{i}{}", "x".repeat(MIB - 1024)))),
        count: 2,
        ..PLAIN
    },
    Kind {
        name: "a|b",
        payload: |i| Payload::Json(json!(format!("|{i}|{{\"ct\": 1.5, \"v\": 2}}||"))),
        ..PLAIN
    },
    Kind {
        name: "unicode keys",
        payload: |i| Payload::Json(json!(i)),
        key: "ключ/é/e\u{301}/鍵/😀/",
        count: KEYS,
    },
];

/// The kind that the others are variations of.
const PLAIN: Kind = Kind {
    name: "",
    payload: |i| Payload::Json(json!(i)),
    key: "",
    count: KEYS,
};

/// Keys and payloads of one kind.
pub(crate) struct Entries {
    pub(crate) format: Format,
    pub(crate) first: (String, Payload),
    /// The first among them.
    pub(crate) all: Vec<(String, Payload)>,
}

impl Kind {
    /// Keys in `namespace`, and what is to be cached under them.
    pub(crate) fn entries(&self, namespace: &str, holds_bytes: bool) -> Entries {
        let entry = |i| {
            let key = format!("{namespace}/{}{i}", self.key);
            match (self.payload)(i) {
                // The shortest that JSON has.
                Payload::Bytes(bytes) if bytes.is_empty() && !holds_bytes => {
                    (key, Payload::Json(json!("")))
                }
                payload => (key, payload),
            }
        };
        let first = entry(0);
        Entries {
            format: first.1.format(),
            first,
            all: (0..self.count).map(entry).collect(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Set,
    SetMulti,
    Delete,
    Expiry,
}

impl Operation {
    pub(crate) const ALL: [Self; 4] = [Self::Set, Self::SetMulti, Self::Delete, Self::Expiry];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::SetMulti => "set_multi",
            Self::Delete => "delete",
            Self::Expiry => "expiry",
        }
    }
}
