//! [`Key`], a stored key, and [`KeyRef`], a key to look up.

/// How many bytes are stored in place.
const INLINE: usize = 30;

/// A key in 32 bytes. Short keys are stored in place, because following a pointer costs another
/// access to memory.
///
/// Digests, as oslo.cache and others make them from keys, are stored in place too: 32 (MD5), 40
/// (SHA-1), 48 or 56 lower-case hexadecimal digits are packed two to a byte.
pub(crate) enum Key {
    /// A text, or a digest if `len` is greater than [`INLINE`].
    Inline {
        len: u8,
        bytes: [u8; INLINE],
    },
    Heap(Box<[u8]>),
}

/// A key in its stored form, so that comparing it needs no conversion.
pub(crate) enum KeyRef<'k> {
    Text(&'k [u8]),
    Digest { digits: u8, packed: [u8; INLINE] },
}

impl<'k> KeyRef<'k> {
    #[inline]
    pub(crate) fn new(key: &'k str) -> Self {
        let text = key.as_bytes();
        if text.len() <= INLINE || text.len() > 2 * INLINE {
            return Self::Text(text);
        }
        Self::digest(text).unwrap_or(Self::Text(text))
    }

    fn digest(text: &[u8]) -> Option<Self> {
        let mut packed = [0; INLINE];
        let (words, rest) = text.as_chunks::<8>();
        if !rest.is_empty() {
            return None;
        }
        let (places, _) = packed.as_chunks_mut::<4>();
        for (word, place) in words.iter().zip(places) {
            *place = packed_digits(u64::from_le_bytes(*word))?.to_le_bytes();
        }
        let digits = u8::try_from(text.len()).ok()?;
        Some(Self::Digest { digits, packed })
    }

    /// The bytes to compare and hash, together with [`len`](Self::len).
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text,
            Self::Digest { digits, packed } => inline(*digits, packed),
        }
    }

    /// The length of the text.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Digest { digits, .. } => usize::from(*digits),
        }
    }
}

impl Key {
    pub(crate) fn new(key: &KeyRef<'_>) -> Self {
        match key {
            KeyRef::Digest { digits, packed } => Self::Inline {
                len: *digits,
                bytes: *packed,
            },
            KeyRef::Text(text) => {
                let mut bytes = [0; INLINE];
                match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
                    (Some(place), Ok(len)) => {
                        place.copy_from_slice(text);
                        Self::Inline { len, bytes }
                    }
                    _ => Self::Heap((*text).into()),
                }
            }
        }
    }

    #[inline]
    pub(crate) fn is(&self, sought: &KeyRef<'_>) -> bool {
        match self {
            Self::Inline { len, bytes } => {
                usize::from(*len) == sought.len() && equal(inline(*len, bytes), sought.bytes())
            }
            Self::Heap(bytes) => matches!(sought, KeyRef::Text(text) if **text == **bytes),
        }
    }

    pub(crate) fn as_ref(&self) -> KeyRef<'_> {
        match self {
            Self::Inline { len, bytes } if usize::from(*len) > INLINE => KeyRef::Digest {
                digits: *len,
                packed: *bytes,
            },
            Self::Inline { len, bytes } => KeyRef::Text(inline(*len, bytes)),
            Self::Heap(bytes) => KeyRef::Text(bytes),
        }
    }
}

/// The bytes in use.
#[inline]
fn inline(len: u8, bytes: &[u8; INLINE]) -> &[u8] {
    let len = usize::from(len);
    let used = if len > INLINE { len / 2 } else { len };
    bytes.get(..used).unwrap_or_default()
}

/// Compares eight bytes at a time, which is faster than `memcmp` for short keys.
#[inline]
fn equal(a: &[u8], b: &[u8]) -> bool {
    let ((a_words, a_rest), (b_words, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let same = |(a, b): (&[u8; 8], &[u8; 8])| u64::from_le_bytes(*a) == u64::from_le_bytes(*b);
    a.len() == b.len()
        && a_words.iter().zip(b_words).all(same)
        && match (a.last_chunk::<8>(), b.last_chunk::<8>()) {
            (Some(a_last), Some(b_last)) => same((a_last, b_last)),
            _ => a_rest.iter().zip(b_rest).all(|(a, b)| a == b),
        }
}

/// Packs eight hexadecimal digits, the first in the lowest byte, into four bytes. Returns `None`
/// if a byte is not a lower-case hexadecimal digit.
fn packed_digits(digits: u64) -> Option<u32> {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    // Letters have this bit, decimal digits do not.
    let letters = digits >> 6 & EACH;
    let values = (digits & (EACH * 0x0f)) + letters * 9;
    let ten_or_more = (values + EACH * (0x80 - 10)) >> 7 & EACH;
    let too_many = (values + EACH * (0x80 - 16)) >> 7 & EACH;
    let again = values + EACH * u64::from(b'0') + letters * u64::from(b'a' - 10 - b'0');
    if again != digits || ten_or_more != letters || too_many != 0 {
        return None;
    }
    // The first of two digits is the upper half of the byte.
    let pairs = (values << 4 | values >> 8) & 0x00ff_00ff_00ff_00ff;
    let pairs = (pairs | pairs >> 8) & 0x0000_ffff_0000_ffff;
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    Some((pairs | pairs >> 16) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_inline(key: &Key) -> bool {
        matches!(key, Key::Inline { .. })
    }

    #[test]
    fn keys_of_all_lengths_are_kept_and_told_apart() {
        for letter in ["x", "a", "0"] {
            for len in 0..600 {
                let text = letter.repeat(len);
                let stored = Key::new(&KeyRef::new(&text));
                assert!(stored.is(&KeyRef::new(&text)));
                assert!(stored.is(&stored.as_ref()));
                assert_eq!(stored.as_ref().len(), len);
                let digest = letter != "x" && [32, 40, 48, 56].contains(&len);
                assert_eq!(is_inline(&stored), len <= INLINE || digest, "{len}");
                for at in 0..len {
                    for other in ["y", "b", "1", "A", "@", "`", "g", "/", ":", "\0"] {
                        let mut changed = text.clone();
                        changed.replace_range(at..=at, other);
                        assert!(!stored.is(&KeyRef::new(&changed)), "{changed}");
                    }
                    if len > 64 {
                        break;
                    }
                }
                assert!(!stored.is(&KeyRef::new(&format!("{text}{letter}"))));
            }
        }
        assert_eq!(size_of::<Key>(), 32);
    }

    #[test]
    fn digits_are_packed_and_nothing_else_is() {
        let packed = |text: &[u8; 8]| packed_digits(u64::from_le_bytes(*text));
        assert_eq!(
            packed(b"0123abef"),
            Some(u32::from_le_bytes([0x01, 0x23, 0xab, 0xef]))
        );
        for byte in 0..=u8::MAX {
            for at in 0..8 {
                let mut text = *b"77777777";
                text[at] = byte;
                let is_digit = matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                assert_eq!(packed(&text).is_some(), is_digit, "{byte:#x} at {at}");
            }
        }
    }

    #[test]
    fn a_digest_is_not_the_text_of_its_bytes() {
        let digest = "61".repeat(20);
        let text = "a".repeat(20);
        assert_eq!(KeyRef::new(&digest).bytes(), KeyRef::new(&text).bytes());
        assert!(!Key::new(&KeyRef::new(&digest)).is(&KeyRef::new(&text)));
        assert!(!Key::new(&KeyRef::new(&text)).is(&KeyRef::new(&digest)));
    }
}
