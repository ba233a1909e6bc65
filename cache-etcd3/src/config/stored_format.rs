//! [`StoredFormat`], and [`Format`], which encodes and decodes what is stored.

use std::time::SystemTime;

#[cfg(feature = "json")]
use cache_core::Error;
#[cfg(feature = "json")]
use cache_core::ErrorKind;
use cache_core::Result;
use cache_core::wire::{self, Metadata};
use serde::{Deserialize, Serialize};

use crate::NAME;

/// What is stored under a key.
///
/// ```
/// use cache_etcd3::{Etcd3Config, StoredFormat};
///
/// let mut config = Etcd3Config::default();
/// config.stored_format = StoredFormat::PythonJson; // "python-json" in a file
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum StoredFormat {
    /// The bytes of [`cache_core::wire`]: metadata, `|`, any payload.
    #[default]
    Envelope,
    /// The array `[payload, metadata]` of oslo.cache's etcd backend, for a cache that is shared
    /// with Python. Payloads must be JSON. Requires the feature `json`.
    PythonJson,
    /// The payload without metadata, for a cache that is shared with other programs.
    ///
    /// `cached_at` is then the time of the read, the TTL is
    /// [`Ttl::Never`](cache_core::Ttl::Never), and a value is served until etcd removes it, some
    /// time after its deadline. A set that arrives late may undo a delete, since a deleted key
    /// cannot be marked.
    Raw,
}

/// The [`StoredFormat`]s that are compiled in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    Envelope,
    #[cfg(feature = "json")]
    PythonJson,
    Raw,
}

impl Format {
    pub(crate) fn is_raw(self) -> bool {
        matches!(self, Self::Raw)
    }

    /// The bytes to store.
    #[cfg_attr(not(feature = "json"), expect(clippy::unnecessary_wraps))]
    pub(crate) fn encode(self, metadata: &Metadata, payload: &[u8]) -> Result<Vec<u8>> {
        let mut stored = Vec::new();
        match self {
            Self::Envelope => wire::encode(metadata, payload, &mut stored),
            #[cfg(feature = "json")]
            Self::PythonJson => {
                check_json(payload)?;
                stored.push(b'[');
                stored.extend_from_slice(payload);
                stored.extend_from_slice(b", ");
                metadata.write_json(&mut stored);
                stored.push(b']');
            }
            Self::Raw => stored.extend_from_slice(payload),
        }
        Ok(stored)
    }

    /// Splits a stored value into metadata and payload. `now` is the time of the read.
    pub(crate) fn decode(
        self,
        mut stored: Vec<u8>,
        now: SystemTime,
    ) -> Result<(Metadata, Vec<u8>)> {
        match self {
            Self::Envelope => {
                let (metadata, payload) = wire::decode(&stored, NAME)?;
                let start = stored.len() - payload.len();
                // Moving the payload to the front is cheaper than another allocation.
                stored.drain(..start);
                Ok((metadata, stored))
            }
            #[cfg(feature = "json")]
            Self::PythonJson => decode_python_json(&stored),
            // The time of the write is unknown.
            Self::Raw => Ok((Metadata::new(now, None), stored)),
        }
    }
}

#[cfg(feature = "json")]
fn check_json(payload: &[u8]) -> Result<()> {
    match serde_json::from_slice::<&serde_json::value::RawValue>(payload) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::new(
            ErrorKind::Encode,
            NAME,
            format!(
                "the payload is not JSON: {error}; `stored_format` \"python-json\" stores nothing \
                 else"
            ),
        )
        .with_source(error)),
    }
}

#[cfg(feature = "json")]
fn decode_python_json(stored: &[u8]) -> Result<(Metadata, Vec<u8>)> {
    use serde_json::value::RawValue;

    let (payload, metadata): (&RawValue, &RawValue) =
        serde_json::from_slice(stored).map_err(|error| {
            Error::new(
                ErrorKind::Decode,
                NAME,
                format!(
                    "the stored value is not a JSON array [payload, metadata]: {error}; it was \
                     written in another format than `stored_format` \"python-json\""
                ),
            )
            .with_source(error)
        })?;
    let metadata = Metadata::read_json(metadata.get().as_bytes(), NAME)?;
    Ok((metadata, payload.get().as_bytes().to_vec()))
}

#[cfg(all(test, feature = "json"))]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    /// Generated with oslo.cache.
    const VECTORS: &str = include_str!("../../tests/data/oslo-etcd3gw.json");

    #[derive(serde::Deserialize)]
    struct Vectors {
        cases: Vec<Case>,
        malformed: Vec<Malformed>,
    }

    #[derive(serde::Deserialize)]
    struct Case {
        payload_json: String,
        cached_at_epoch_seconds: f64,
        stored: String,
    }

    #[derive(serde::Deserialize)]
    struct Malformed {
        stored: String,
        why: String,
    }

    fn decode(stored: Vec<u8>) -> Result<(Metadata, Vec<u8>)> {
        Format::PythonJson.decode(stored, UNIX_EPOCH)
    }

    #[test]
    fn raw_payloads_are_stored_as_they_are() {
        let now = UNIX_EPOCH + Duration::from_secs(9);
        let metadata = Metadata::new(UNIX_EPOCH, Some(now));
        for payload in [&b""[..], b"a|b", b"\x80\x04N."] {
            let stored = Format::Raw.encode(&metadata, payload).unwrap();
            assert_eq!(stored, payload);
            let read = Format::Raw.decode(stored, now).unwrap();
            assert_eq!(read, (Metadata::new(now, None), payload.to_vec()));
        }
    }

    #[test]
    fn values_from_python_round_trip_byte_for_byte() {
        let vectors: Vectors = serde_json::from_str(VECTORS).unwrap();
        assert!(vectors.cases.len() >= 16);
        for case in vectors.cases {
            let stored = case.stored.into_bytes();
            let (metadata, payload) = decode(stored.clone()).unwrap();
            assert_eq!(payload, case.payload_json.as_bytes());
            let cached_at = UNIX_EPOCH + Duration::from_secs_f64(case.cached_at_epoch_seconds);
            assert_eq!(metadata.cached_at, cached_at);
            assert_eq!(metadata.deadline, None);
            assert_eq!(
                Format::PythonJson.encode(&metadata, &payload).unwrap(),
                stored
            );
        }
    }

    #[test]
    fn malformed_values_are_refused() {
        let vectors: Vectors = serde_json::from_str(VECTORS).unwrap();
        assert!(vectors.malformed.len() >= 9);
        for Malformed { stored, why } in vectors.malformed {
            let error = decode(stored.into_bytes());
            let error = error.expect_err(&why);
            assert_eq!(error.kind(), ErrorKind::Decode, "{why}: {error}");
        }
    }

    #[test]
    fn the_deadline_is_part_of_the_metadata() {
        let metadata = Metadata::new(
            UNIX_EPOCH + Duration::from_secs(7),
            Some(UNIX_EPOCH + Duration::from_millis(8500)),
        );
        let stored = Format::PythonJson.encode(&metadata, b"1").unwrap();
        assert_eq!(stored, br#"[1, {"ct": 7.0, "v": 2, "exp": 8.5}]"#);
        let read = decode(stored).unwrap();
        assert_eq!(read, (metadata, b"1".to_vec()));
    }

    #[test]
    fn a_payload_that_is_not_json_is_refused() {
        let metadata = Metadata::new(UNIX_EPOCH, None);
        for payload in [
            &b""[..],
            b"hello",
            b"1 2",
            b"1], [2",
            b"\"\xff\"",
            b"\xff",
            b"{\"a\": }",
        ] {
            let error = Format::PythonJson.encode(&metadata, payload).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encode, "{error}");
        }
    }

    #[test]
    fn invalid_metadata_is_refused() {
        for metadata in [
            "{}",
            "[]",
            "null",
            "\"ct\"",
            r#"{"v": 2}"#,
            r#"{"ct": -1, "v": 2}"#,
            r#"{"ct": "1", "v": 2}"#,
            r#"{"ct": null, "v": 2}"#,
            r#"{"ct": NaN, "v": 2}"#,
            r#"{"ct": Infinity, "v": 2}"#,
            r#"{"ct": 1e11, "v": 2}"#,
            r#"{"ct": 1.5, "exp": "x"}"#,
        ] {
            let stored = format!("[1, {metadata}]");
            let error = decode(stored.into_bytes());
            let error = error.expect_err(metadata);
            assert_eq!(error.kind(), ErrorKind::Decode, "{metadata}: {error}");
        }
    }

    proptest! {
        #[test]
        fn encoded_values_are_decoded(
            payload in r#"-?[1-9][0-9]{0,30}|"[a-z|\[\], é😀]*"|\[("[{}|]*")?\]|\{"ct": 1\}|null"#,
            cached_at in 0..4_000_000_000_000_000_u64,
            deadline in proptest::option::of(0..4_000_000_000_000_000_u64),
        ) {
            let micros = |micros| UNIX_EPOCH + Duration::from_micros(micros);
            let metadata = Metadata::new(micros(cached_at), deadline.map(micros));
            let stored = Format::PythonJson.encode(&metadata, payload.as_bytes()).unwrap();
            let (read, rest) = decode(stored.clone()).unwrap();
            prop_assert_eq!(&rest, payload.as_bytes());
            // Encoding again yields the same bytes.
            prop_assert_eq!(&Format::PythonJson.encode(&read, &rest).unwrap(), &stored);
            // A truncated value is refused.
            for len in 0..stored.len() {
                prop_assert!(decode(stored[..len].to_vec()).is_err());
            }
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(stored: Vec<u8>, text in r#"[\[\]{}:,"\\0-9.eE+\-a-zé ]{0,64}"#) {
            let _ = decode(stored);
            let _ = decode(text.clone().into_bytes());
            let _ = decode(format!("[{text}]").into_bytes());
            let _ = decode(format!("[1, {{{text}}}]").into_bytes());
        }
    }
}
