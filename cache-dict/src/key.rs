//! [`Key`], a key as it is stored.

/// How long a key may be to be stored in place.
const INLINE: usize = 30;

/// A key in 32 bytes. Short ones are stored in place: a lookup that follows a pointer to each
/// key waits once more for memory.
pub(crate) enum Key {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl Key {
    pub(crate) fn new(key: &str) -> Self {
        let key = key.as_bytes();
        let mut bytes = [0; INLINE];
        match (bytes.get_mut(..key.len()), u8::try_from(key.len())) {
            (Some(place), Ok(len)) => {
                place.copy_from_slice(key);
                Self::Inline { len, bytes }
            }
            _ => Self::Heap(key.into()),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Heap(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_all_lengths_are_kept() {
        for len in 0..600 {
            let key = "x".repeat(len);
            let stored = Key::new(&key);
            assert_eq!(stored.as_bytes(), key.as_bytes());
            assert_eq!(matches!(stored, Key::Inline { .. }), len <= INLINE);
        }
        assert_eq!(size_of::<Key>(), 32);
    }
}
