//! Base64 of keys, as memcached decodes it: the standard alphabet, with padding.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The length of the encoded form of `len` bytes.
pub(super) fn encoded_len(len: usize) -> usize {
    len.div_ceil(3) * 4
}

/// Appends `bytes` in base64.
pub(super) fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    for group in bytes.chunks(3) {
        let byte = |n| u32::from(group.get(n).copied().unwrap_or_default());
        let bits = (byte(0) << 16) + (byte(1) << 8) + byte(2);
        for n in 0..4 {
            let index = bits >> (18 - 6 * n) & 63;
            let digit = ALPHABET.get(index as usize).filter(|_| n <= group.len());
            out.push(*digit.unwrap_or(&b'='));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_vectors_of_rfc_4648() {
        for (bytes, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("\u{3ef}\u{3ff}", "z6/Pvw=="),
        ] {
            let mut out = Vec::new();
            encode(bytes.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), encoded);
            assert_eq!(encoded.len(), encoded_len(bytes.len()));
        }
    }
}
