//! Compression of values, compatible with Python's clients.

use cache_core::{Error, ErrorKind, Result};

use crate::NAME;

/// Decompresses a value of at most `limit` bytes.
#[cfg(feature = "zlib")]
pub(super) fn decompress(compressed: &[u8], limit: usize) -> Result<Vec<u8>> {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    // One more byte distinguishes a value that is too large from one that just fits.
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let decoder = flate2::read::ZlibDecoder::new(compressed);
    decoder
        .take(most)
        .read_to_end(&mut bytes)
        .map_err(|error| {
            let message =
                format!("cannot decompress the stored value: {error}; set or delete the key");
            Error::new(ErrorKind::Decode, NAME, message).with_source(error)
        })?;
    if bytes.len() > limit {
        let message = format!(
            "the stored value has more than {limit} bytes (`server_max_value_length`) once \
             decompressed; raise it to read this value"
        );
        return Err(Error::new(ErrorKind::ValueTooLarge, NAME, message));
    }
    Ok(bytes)
}

/// Unreachable: the client flags of compressed values are refused before.
#[cfg(not(feature = "zlib"))]
pub(super) fn decompress(_: &[u8], _: usize) -> Result<Vec<u8>> {
    let message = "the stored value is compressed";
    Err(Error::new(ErrorKind::Decode, NAME, message))
}

/// Compresses `head` and `payload` together; `None` if that is not shorter.
#[cfg(feature = "zlib")]
pub(crate) fn compress(head: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::ZlibEncoder;

    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(head).ok()?;
    encoder.write_all(payload).ok()?;
    let compressed = encoder.finish().ok()?;
    (compressed.len() < head.len() + payload.len()).then_some(compressed)
}

/// Unreachable: `min_compress_len` is refused without the feature.
#[cfg(not(feature = "zlib"))]
pub(crate) fn compress(_: &[u8], _: &[u8]) -> Option<Vec<u8>> {
    None
}

#[cfg(all(test, feature = "zlib"))]
mod tests {
    use super::*;

    #[test]
    fn compressed_values_are_decompressed_up_to_the_limit() {
        let compressed = compress(b"head|", &[b'x'; 1000]).unwrap();
        let bytes = decompress(&compressed, 1005).unwrap();
        assert_eq!(bytes.len(), 1005);
        assert!(bytes.starts_with(b"head|xxx"));
        let error = decompress(&compressed, 1004).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
        for len in 0..compressed.len() {
            let error = decompress(&compressed[..len], 1005).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode, "{len} bytes");
        }
    }

    #[test]
    fn values_that_would_not_shrink_are_not_compressed() {
        assert_eq!(compress(b"", b"short"), None);
        assert_eq!(compress(b"0123456789", b"abcdefghij"), None);
    }
}
