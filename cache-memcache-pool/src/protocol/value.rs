//! Stored values: the envelope around the payload, and the client flags that say who wrote it.

use cache_core::wire::{self, Metadata};
use cache_core::{Error, ErrorKind, Result};

use crate::NAME;

/// A stored value.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) metadata: Metadata,
    pub(crate) payload: Vec<u8>,
}

impl Stored {
    /// The value in `stored`, written with the client flags `flags`.
    pub(super) fn decode(flags: u32, stored: &[u8]) -> Result<Self> {
        check_flags(flags)?;
        let (metadata, payload) = wire::decode(stored, NAME)?;
        Ok(Self {
            metadata,
            payload: payload.to_vec(),
        })
    }

    /// The same for a value that has a buffer of its own, which becomes the payload.
    pub(super) fn decode_owned(flags: u32, mut stored: Vec<u8>) -> Result<Self> {
        check_flags(flags)?;
        let (metadata, payload) = wire::decode(&stored, NAME)?;
        let head = stored.len() - payload.len();
        stored.drain(..head);
        Ok(Self {
            metadata,
            payload: stored,
        })
    }

    /// The metadata alone, from the JSON before the bar.
    pub(super) fn decode_metadata(flags: u32, json: &[u8]) -> Result<Metadata> {
        check_flags(flags)?;
        Metadata::read_json(json, NAME)
    }
}

/// The client flags with which Python says how a value is encoded. Text (16) has the same
/// bytes as what is written here with 0.
fn check_flags(flags: u32) -> Result<()> {
    let is = match flags {
        0 | 16 => return Ok(()),
        flags if flags & 8 != 0 => {
            "compressed, which Rust does not read; take min_compress_len out of the arguments of \
             the dogpile.cache region"
        }
        1 => {
            "pickled by Python, which Rust cannot read; give the dogpile.cache region a serializer \
             that returns bytes, such as lambda value: json.dumps(value).encode(), and a \
             deserializer, such as json.loads"
        }
        2 | 4 => "a number that Python stored outside of any cache region",
        _ => "in an encoding of its writer's own",
    };
    let message = format!("the stored value has the client flags {flags}: it is {is}");
    Err(Error::new(ErrorKind::Decode, NAME, message))
}
