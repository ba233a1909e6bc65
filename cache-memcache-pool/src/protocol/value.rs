//! Stored values: the envelope around the payload, and the client flags.

use cache_core::wire::{self, Metadata};
use cache_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::zlib;
use crate::NAME;

/// What is stored under a key.
///
/// ```
/// use cache_memcache_pool::{MemcachePoolConfig, StoredFormat};
///
/// let mut config = MemcachePoolConfig::default();
/// config.stored_format = StoredFormat::Raw; // "raw" in a file
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StoredFormat {
    /// The bytes of [`cache_core::wire`]: metadata, `|`, the payload.
    #[default]
    Envelope,
    /// The payload without metadata, for a cache that is shared with other programs. Client flags
    /// are ignored on reading.
    ///
    /// `cached_at` is then the time of the read, the TTL is
    /// [`Ttl::Never`](cache_core::Ttl::Never), and a value is served until memcached removes it, up
    /// to three seconds after its deadline.
    Raw,
}

/// A stored value.
#[derive(Debug)]
pub(crate) struct Stored {
    /// `None` if the format has no metadata.
    pub(crate) metadata: Option<Metadata>,
    pub(crate) payload: Vec<u8>,
}

/// The client flag of Python's clients for values compressed with zlib.
pub(crate) const COMPRESSED: u32 = 8;

impl Stored {
    /// Decodes `stored`, which has the client flags `flags` and at most `limit` bytes once
    /// decompressed.
    #[inline]
    pub(super) fn decode(
        format: StoredFormat,
        flags: u32,
        stored: &[u8],
        limit: usize,
    ) -> Result<Self> {
        if format == StoredFormat::Raw || flags & COMPRESSED != 0 {
            return Self::decode_owned(format, flags, stored.to_vec(), limit);
        }
        check_flags(flags)?;
        let (metadata, payload) = wire::decode(stored, NAME)?;
        Ok(Self {
            metadata: Some(metadata),
            payload: payload.to_vec(),
        })
    }

    /// The same for a value in its own buffer, which becomes the payload.
    pub(super) fn decode_owned(
        format: StoredFormat,
        flags: u32,
        mut stored: Vec<u8>,
        limit: usize,
    ) -> Result<Self> {
        if format == StoredFormat::Raw {
            return Ok(Self {
                metadata: None,
                payload: stored,
            });
        }
        check_flags(flags)?;
        if flags & COMPRESSED != 0 {
            stored = zlib::decompress(&stored, limit)?;
        }
        let (metadata, payload) = wire::decode(&stored, NAME)?;
        let head = stored.len() - payload.len();
        stored.drain(..head);
        Ok(Self {
            metadata: Some(metadata),
            payload: stored,
        })
    }

    /// Decodes only the metadata, from the JSON before the bar.
    pub(super) fn decode_metadata(flags: u32, json: &[u8]) -> Result<Metadata> {
        check_flags(flags)?;
        Metadata::read_json(json, NAME)
    }
}

/// Checks the client flags, by which Python records the encoding of a value. 16 is text for
/// python-memcached and pymemcache and bytes for bmemcached, 0 the reverse; the stored bytes are
/// the same.
fn check_flags(flags: u32) -> Result<()> {
    let is = match flags {
        0 | 16 => return Ok(()),
        8 | 24 if cfg!(feature = "zlib") => return Ok(()),
        8 | 24 => {
            "compressed, which requires the feature `zlib` of cache-memcache-pool; enable it, or \
             remove min_compress_len from the arguments of the dogpile.cache region"
        }
        flags if flags & 1 != 0 => {
            "pickled by Python, which Rust cannot read; give the dogpile.cache region a serializer \
             that returns bytes, such as lambda value: json.dumps(value).encode(), and a \
             deserializer, such as json.loads"
        }
        2 | 4 | 18 => "a number that Python stored outside a cache region",
        _ => "in an unknown encoding",
    };
    let message = format!("the stored value has the client flags {flags}: it is {is}");
    Err(Error::new(ErrorKind::Decode, NAME, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "zlib")]
    #[test]
    fn compressed_values_are_decompressed() {
        let head = br#"{"ct": 7.5, "v": 2}|"#;
        let compressed = zlib::compress(head, &[b'x'; 500]).unwrap();
        let envelope = StoredFormat::Envelope;
        let found = Stored::decode(envelope, 8, &compressed, 1000).unwrap();
        assert_eq!(found.payload, [b'x'; 500]);
        let found = Stored::decode_owned(envelope, 8, compressed.clone(), 1000).unwrap();
        assert_eq!(found.payload, [b'x'; 500]);
        // Without the flag they are not, and without the format flags mean nothing.
        assert!(Stored::decode(envelope, 0, &compressed, 1000).is_err());
        let found = Stored::decode(StoredFormat::Raw, 8, &compressed, 1000).unwrap();
        assert_eq!(found.payload, compressed);
    }

    #[test]
    fn client_flags_of_other_values_than_bytes_are_explained() {
        for (flags, words) in [
            (1, "pickled by Python"),
            (5, "pickled by Python"),
            (9, "pickled by Python"),
            (2, "a number"),
            (4, "a number"),
            (18, "a number"),
            (32, "an unknown encoding"),
            (6, "an unknown encoding"),
        ] {
            let error = check_flags(flags).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode);
            let message = error.message();
            assert!(message.contains(&format!("flags {flags}:")), "{message}");
            assert!(message.contains(words), "{message}");
        }
        assert!(check_flags(0).is_ok() && check_flags(16).is_ok());
        for flags in [8, 24] {
            assert_eq!(check_flags(flags).is_ok(), cfg!(feature = "zlib"));
        }
    }
}
