//! [`Key`], a stored key, and [`KeyRef`], a key to look up.

/// How many bytes are stored in place.
const INLINE: usize = 30;

/// A key in 32 bytes. Short keys are stored in place, because following a pointer costs another
/// access to memory.
///
/// Longer keys are packed, if possible:
/// - In texts of up to 40 characters of which none is in upper case, as in
///   `tenant:7:user:profile:00000042`, a character takes six bits. So do the digests that
///   oslo.cache and others make from keys: 32 (MD5) or 40 (SHA-1) lower-case hexadecimal digits.
/// - Longer digests, of 48 or 56 digits, take half a byte for each.
pub(crate) enum Key {
    Inline { form: Form, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

/// A key in its stored form, so that comparing it needs no conversion.
pub(crate) enum KeyRef<'k> {
    Text(&'k [u8]),
    Packed { form: Form, bytes: [u8; INLINE] },
}

/// How the bytes of a key are stored in place, and the length of the key: up to [`INLINE`], the
/// text itself; up to [`MOST_DIGITS`], a digest; with the bit [`SIX_BITS`], six bits a character.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form(u8);

const MOST_DIGITS: usize = 2 * INLINE;
/// The most characters of six bits.
const MOST_PACKED: usize = INLINE * 8 / 6;
const SIX_BITS: u8 = 1 << 7;

impl Form {
    /// The number of bytes in use.
    #[inline]
    fn used(self) -> usize {
        let len = usize::from(self.0);
        if len <= INLINE {
            len
        } else if len <= MOST_DIGITS {
            len / 2
        } else {
            INLINE
        }
    }
}

impl<'k> KeyRef<'k> {
    #[inline]
    pub(crate) fn new(key: &'k str) -> Self {
        let text = key.as_bytes();
        if text.len() <= INLINE || text.len() > MOST_DIGITS {
            return Self::Text(text);
        }
        let packed = if text.len() <= MOST_PACKED {
            Self::six_bits(text)
        } else {
            Self::digest(text)
        };
        packed.unwrap_or(Self::Text(text))
    }

    fn digest(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; INLINE];
        let (words, rest) = text.as_chunks::<8>();
        if !rest.is_empty() {
            return None;
        }
        let (places, _) = bytes.as_chunks_mut::<4>();
        for (word, place) in words.iter().zip(places) {
            *place = packed_digits(u64::from_le_bytes(*word))?.to_le_bytes();
        }
        let form = Form(u8::try_from(text.len()).ok()?);
        Some(Self::Packed { form, bytes })
    }

    /// Of a text longer than [`INLINE`].
    fn six_bits(text: &[u8]) -> Option<Self> {
        // These overlap unless the key is as long as possible. The form has the length, so two
        // keys with the same bytes are the same.
        let (start, end) = (text.first_chunk::<24>()?, text.last_chunk::<16>()?);
        // All are examined before the first decision, so that the processor does it at once.
        let mut others = 0;
        let mut codes_of = |word: &[u8; 8]| {
            let (codes, others_here) = codes(u64::from_le_bytes(*word));
            others |= others_here;
            codes
        };
        let (in_place, joined, filling) = match (start.as_chunks(), end.as_chunks()) {
            (([first, second, third], _), ([fourth, last], _)) => (
                [codes_of(first), codes_of(second), codes_of(third)],
                joined(codes_of(fourth)),
                codes_of(last),
            ),
            _ => return None,
        };
        if others != 0 {
            return None;
        }
        // The codes of the last word fill the two upper bits of each byte in the first three.
        let filling = [
            (filling & (EACH * 0x03)) << 6,
            (filling & (EACH * 0x0c)) << 4,
            (filling & (EACH * 0x30)) << 2,
        ];
        let mut bytes = [0; INLINE];
        let (places, _) = bytes.as_chunks_mut();
        for (place, (codes, filling)) in places.iter_mut().zip(in_place.into_iter().zip(filling)) {
            *place = (codes | filling).to_le_bytes();
        }
        *bytes.last_chunk_mut()? = *joined.to_le_bytes().first_chunk::<6>()?;
        let form = Form(u8::try_from(text.len()).ok()? | SIX_BITS);
        Some(Self::Packed { form, bytes })
    }

    /// The bytes to compare and hash, together with [`code`](Self::code).
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text,
            Self::Packed { form, bytes } => inline(*form, bytes),
        }
    }

    /// Keys with the same bytes differ in this.
    #[inline]
    pub(crate) fn code(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Packed { form, .. } => u64::from(form.0) | 1 << 63,
        }
    }
}

impl Key {
    pub(crate) fn new(key: &KeyRef<'_>) -> Self {
        match key {
            KeyRef::Packed { form, bytes } => Self::Inline {
                form: *form,
                bytes: *bytes,
            },
            KeyRef::Text(text) => {
                let mut bytes = [0; INLINE];
                match (bytes.get_mut(..text.len()), u8::try_from(text.len())) {
                    (Some(place), Ok(len)) => {
                        place.copy_from_slice(text);
                        let form = Form(len);
                        Self::Inline { form, bytes }
                    }
                    _ => Self::Heap((*text).into()),
                }
            }
        }
    }

    #[inline]
    pub(crate) fn is(&self, sought: &KeyRef<'_>) -> bool {
        match (self, sought) {
            (Self::Inline { form, bytes }, KeyRef::Text(text)) => {
                usize::from(form.0) == text.len()
                    && bytes.get(..text.len()).is_some_and(|own| equal(own, text))
            }
            (Self::Inline { form, bytes }, KeyRef::Packed { form: f, bytes: b }) => {
                form == f && bytes == b
            }
            (Self::Heap(bytes), KeyRef::Text(text)) => **text == **bytes,
            (Self::Heap(_), KeyRef::Packed { .. }) => false,
        }
    }

    pub(crate) fn as_ref(&self) -> KeyRef<'_> {
        match self {
            Self::Inline { form, bytes } if usize::from(form.0) > INLINE => KeyRef::Packed {
                form: *form,
                bytes: *bytes,
            },
            Self::Inline { form, bytes } => KeyRef::Text(inline(*form, bytes)),
            Self::Heap(bytes) => KeyRef::Text(bytes),
        }
    }
}

/// The bytes in use.
#[inline]
fn inline(form: Form, bytes: &[u8; INLINE]) -> &[u8] {
    bytes.get(..form.used()).unwrap_or_default()
}

/// Compares up to [`INLINE`] bytes: both ends, which overlap. Without loops, this is faster than
/// `memcmp`.
#[inline]
fn equal(a: &[u8], b: &[u8]) -> bool {
    const { assert!(INLINE <= 2 * 16) }
    a.len() == b.len()
        && same_ends::<16>(a, b)
            .or_else(|| same_ends::<8>(a, b))
            .or_else(|| same_ends::<4>(a, b))
            .unwrap_or_else(|| a.iter().zip(b).all(|(a, b)| a == b))
}

/// Whether the first and the last `N` bytes are the same; `None` if there are fewer.
#[inline]
fn same_ends<const N: usize>(a: &[u8], b: &[u8]) -> Option<bool> {
    let (a_first, a_last) = (a.first_chunk::<N>()?, a.last_chunk::<N>()?);
    let (b_first, b_last) = (b.first_chunk::<N>()?, b.last_chunk::<N>()?);
    Some(a_first == b_first && a_last == b_last)
}

/// One in each byte.
const EACH: u64 = u64::from_le_bytes([1; 8]);

/// Packs eight hexadecimal digits, the first in the lowest byte, into four bytes. Returns `None`
/// if a byte is not a lower-case hexadecimal digit.
fn packed_digits(digits: u64) -> Option<u32> {
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

/// The codes of eight characters, six bits in each byte, and a number that is zero if all have
/// one: lower-case letters, digits, `_`, and the other ASCII characters whose bit 0x20 is set, which
/// are the space and all punctuation but ``@[\]^``.
#[inline]
fn codes(text: u64) -> (u64, u64) {
    const TOP: u64 = EACH << 7;
    // `_` takes the code of DEL, from which it differs in the bit 0x20.
    let with_bit = text | (EACH * 0x20);
    // The top bit of each byte that was or has become DEL. No sum exceeds its byte unless the top
    // bit was set before.
    let deletes = with_bit.wrapping_add(EACH);
    let had_no_bit = !text << 2;
    let others = ((deletes ^ had_no_bit) | text) & TOP;
    let codes = with_bit & (EACH * 0x1f) | with_bit >> 1 & (EACH * 0x20);
    (codes, others)
}

/// Joins eight times six bits to 48.
#[inline]
fn joined(codes: u64) -> u64 {
    let twelve = codes & 0x003f_003f_003f_003f | (codes & 0x3f00_3f00_3f00_3f00) >> 2;
    let most = twelve & 0x0000_0fff_0000_0fff | (twelve & 0x0fff_0000_0fff_0000) >> 4;
    most & 0x00ff_ffff | (most >> 32) << 24
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::tests::cases;

    fn is_inline(key: &Key) -> bool {
        matches!(key, Key::Inline { .. })
    }

    #[test]
    fn keys_of_all_lengths_are_kept_and_distinguished() {
        for letter in ["x", "a", "0"] {
            for len in 0..600 {
                let text = letter.repeat(len);
                let stored = Key::new(&KeyRef::new(&text));
                assert!(stored.is(&KeyRef::new(&text)));
                assert!(stored.is(&stored.as_ref()));
                let digest = letter != "x" && [32, 40, 48, 56].contains(&len);
                assert_eq!(is_inline(&stored), len <= 40 || digest, "{len}");
                for at in 0..len {
                    for other in [
                        "y", "b", "1", "A", "@", "`", "g", "/", ":", "\0", " ", "_", "\x7f",
                    ] {
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
    fn only_lowercase_hex_digits_are_packed() {
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
    fn a_digest_differs_from_the_text_of_its_bytes() {
        let digest = "61".repeat(24);
        let text = "a".repeat(24);
        assert_eq!(KeyRef::new(&digest).bytes(), KeyRef::new(&text).bytes());
        assert!(!Key::new(&KeyRef::new(&digest)).is(&KeyRef::new(&text)));
        assert!(!Key::new(&KeyRef::new(&text)).is(&KeyRef::new(&digest)));
    }

    #[test]
    fn characters_are_packed_if_six_bits_distinguish_them() {
        for len in 31..=40 {
            for at in 0..len {
                let mut seen = HashSet::new();
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'7'; len];
                    text[at] = byte;
                    let can = byte == b'_' || byte & 0xa0 == 0x20 && byte != 0x7f;
                    let packed = KeyRef::six_bits(&text);
                    assert_eq!(packed.is_some(), can, "{byte:#x} at {at} of {len}");
                    assert!(packed.is_none_or(|packed| seen.insert(packed.bytes().to_vec())));
                }
                assert_eq!(seen.len(), 64);
            }
        }
        let packed = |text: &str| KeyRef::six_bits(text.as_bytes()).map(|key| key.bytes().to_vec());
        assert_eq!(packed(&" ".repeat(40)), Some(vec![0; INLINE]));
        assert_eq!(packed(&"_".repeat(40)), Some(vec![0xff; INLINE]));
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn different_texts_are_packed_differently(
            a in "[ -?_`-~]{31,40}", edits in proptest::collection::vec((0_usize..40, "[ -?_`-~]"), 1..4),
        ) {
            let mut b = a.clone();
            for (at, to) in edits {
                let at = at % b.len();
                b.replace_range(at..=at, &to);
            }
            let (key_a, key_b) = (KeyRef::new(&a), KeyRef::new(&b));
            prop_assert!(is_inline(&Key::new(&key_a)) && is_inline(&Key::new(&key_b)));
            prop_assert_eq!(a == b, Key::new(&key_a).is(&key_b));
        }
    }

    #[test]
    fn texts_of_different_lengths_are_distinguished() {
        let keys: Vec<String> = (31..=42).map(|len| " ".repeat(len)).collect();
        for a in &keys {
            for b in &keys {
                assert_eq!(Key::new(&KeyRef::new(a)).is(&KeyRef::new(b)), a == b);
            }
        }
    }
}
