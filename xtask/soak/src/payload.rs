//! What is stored: a payload that says under which key, when and by whom it was written, and
//! whether it arrived whole.

use super::key::Key;

const MAGIC: u64 = 0x736f_616b_2d76_3031;

/// The words before the filling, and the checksum behind it.
const WORDS: usize = 8;
const WORD: usize = size_of::<u64>();

/// The smallest payload that is not empty.
const SMALLEST: usize = (WORDS + 1) * WORD;

/// What a payload says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) key: Key,
    /// Unique in the run: the cached time of the value in microseconds.
    pub(crate) version: u64,
    /// When the write began, by the clock that decides over expiry.
    pub(crate) clock: u64,
    /// The lifetime in nanoseconds, `u64::MAX` for none.
    pub(crate) ttl: u64,
}

/// A payload of `size` bytes, or of the nearest possible size: none, or [`SMALLEST`] and more.
pub(crate) fn encode(run: u64, note: &Note, size: usize) -> Vec<u8> {
    if size < SMALLEST / 2 {
        return Vec::new();
    }
    let filling = size.saturating_sub(SMALLEST);
    let words = [
        MAGIC,
        run,
        u64::from(note.key.space),
        u64::from(note.key.round) << 32 | u64::from(note.key.index),
        note.version,
        note.clock,
        note.ttl,
        u64::try_from(filling).unwrap_or(u64::MAX),
    ];
    let mut bytes = Vec::with_capacity(SMALLEST + filling);
    for word in words {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    // Differs from value to value, so that a mix of two is no whole one. Line ends are among it.
    let mut word = note.version | 1;
    while bytes.len() < WORDS * WORD + filling {
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(WORDS * WORD + filling);
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// Reads a payload: what it says, `None` if it is empty, or what is wrong with it.
pub(crate) fn decode(run: u64, bytes: &[u8]) -> Result<Option<Note>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (body, sum) = bytes
        .split_last_chunk::<WORD>()
        .filter(|(body, _)| body.len() >= WORDS * WORD)
        .ok_or_else(|| format!("{} bytes, which were never written", bytes.len()))?;
    if checksum(body) != u64::from_le_bytes(*sum) {
        return Err(format!(
            "{} bytes that are torn or mixed: the checksum is wrong",
            bytes.len()
        ));
    }
    let mut words = body
        .as_chunks::<WORD>()
        .0
        .iter()
        .map(|word| u64::from_le_bytes(*word));
    let mut next = || words.next().unwrap_or_default();
    if next() != MAGIC || next() != run {
        return Err("a value of another run".to_owned());
    }
    let space = next();
    let place = next();
    let half = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or_default();
    Ok(Some(Note {
        key: Key {
            space: half(space),
            round: half(place >> 32),
            index: half(place),
        },
        version: next(),
        clock: next(),
        ttl: next(),
    }))
}

fn checksum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<WORD>();
    let mut last = [0; WORD];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    words.iter().chain([&last]).fold(length, |sum, word| {
        (sum ^ u64::from_le_bytes(*word))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note() -> Note {
        Note {
            key: Key {
                space: 1,
                round: 2,
                index: 3,
            },
            version: 1_700_000_000_123_456,
            clock: 5,
            ttl: u64::MAX,
        }
    }

    #[test]
    fn says_what_it_was_told_at_any_size() {
        for size in [SMALLEST, SMALLEST + 1, 100, 1000, 65_537] {
            let bytes = encode(9, &note(), size);
            assert_eq!(bytes.len(), size);
            assert_eq!(decode(9, &bytes), Ok(Some(note())));
        }
        assert!(encode(9, &note(), 0).is_empty());
        assert_eq!(decode(9, &[]), Ok(None));
    }

    #[test]
    fn every_changed_missing_or_added_byte_is_found() {
        let bytes = encode(9, &note(), 200);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(decode(9, &changed).is_err(), "byte {at}");
            assert!(decode(9, &bytes[..at.max(1)]).is_err(), "first {at}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(decode(9, &longer).is_err());
        assert!(decode(8, &bytes).is_err());
    }

    #[test]
    fn the_half_of_one_and_the_half_of_another_is_no_value() {
        let other = Note {
            version: note().version + 1,
            ..note()
        };
        let mut mixed = encode(9, &note(), 400);
        mixed[200..].copy_from_slice(&encode(9, &other, 400)[200..]);
        assert!(decode(9, &mixed).is_err());
    }
}
