//! What is called how, and what is stored: a payload that says under which key and when it was
//! written, and whether it arrived whole.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};

use serde::{Deserialize, Serialize};

/// A key of the soak. Each round of some seconds has its own keys, so that their histories are
/// short and can be judged whole once the round is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    /// Which of the stores that know nothing of each other.
    pub(crate) space: u32,
    pub(crate) round: u32,
    /// 0 is the one used most.
    pub(crate) index: u32,
}

impl Key {
    /// What it is called in the store. Some names are what a careless protocol chokes on.
    pub(crate) fn name(self, run: u64) -> String {
        let Self {
            space,
            round,
            index,
        } = self;
        let name = format!("soak-{run:x}/{space}/{round}/{index}");
        match index % 16 {
            3 => format!("{name} with spaces"),
            5 => format!("{name}\r\nset injected 0 0 1\r\n"),
            7 => format!("{name}/żółć/日本"),
            9 => format!("{name}/{}", "long".repeat(40)),
            11 => format!("{name}\0\t\u{7f}"),
            _ => name,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            space,
            round,
            index,
        } = self;
        write!(f, "key {index} of round {round} in space {space}")
    }
}

/// What a payload says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) run: u64,
    pub(crate) key: Key,
    /// Unique in the run: the cached time of the value in microseconds.
    pub(crate) version: u64,
    /// When the write began, by the clock that decides over expiry.
    pub(crate) clock: u64,
    /// The lifetime in nanoseconds.
    pub(crate) ttl: u64,
}

/// The checksum, in hexadecimal.
const SUM: usize = 16;

/// A payload of about `size` bytes, or an empty one: a checksum, the note, and a filling that
/// differs from value to value, so that a mix of two is found. Line ends are among it.
pub(crate) fn encode(note: &Note, size: usize) -> Vec<u8> {
    let Ok(text) = serde_json::to_string(note) else {
        return Vec::new();
    };
    if size < SUM + text.len() {
        return Vec::new();
    }
    let mut body = format!("{text}\n").into_bytes();
    let mut filling = fastrand::Rng::with_seed(note.version);
    body.extend((SUM + body.len()..size).map(|_| filling.u8(..)));
    let mut bytes = checksum(&body).into_bytes();
    bytes.append(&mut body);
    bytes
}

/// Reads a payload: what it says, `None` if it is empty, or what is wrong with it.
pub(crate) fn decode(run: u64, bytes: &[u8]) -> Result<Option<Note>, String> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let whole = bytes
        .split_at_checked(SUM)
        .filter(|(sum, body)| checksum(body).as_bytes() == *sum);
    let Some((_, body)) = whole else {
        return Err(format!(
            "{} bytes that are torn, mixed or foreign",
            bytes.len()
        ));
    };
    let text = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let note: Note = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if note.run != run {
        return Err("a value of another run".to_owned());
    }
    Ok(Some(note))
}

fn checksum(bytes: &[u8]) -> String {
    // Its keys are the same in each process.
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn note(version: u64) -> Note {
        Note {
            run: 9,
            key: Key {
                space: 1,
                round: 2,
                index: 3,
            },
            version,
            clock: 5,
            ttl: u64::MAX,
        }
    }

    #[test]
    fn no_two_keys_share_a_name() {
        let mut names = HashSet::new();
        for (space, round, index) in (0..8000).map(|n| (n % 2, n / 2 % 20, n / 40)) {
            let key = Key {
                space,
                round,
                index,
            };
            assert!(names.insert(key.name(1)), "{key}");
        }
    }

    #[test]
    fn a_payload_says_what_it_was_told() {
        for size in [300, 1000, 65_537] {
            let bytes = encode(&note(7), size);
            assert_eq!(bytes.len(), size);
            assert_eq!(decode(9, &bytes), Ok(Some(note(7))));
            assert!(decode(8, &bytes).is_err());
        }
        assert!(encode(&note(7), 0).is_empty());
        assert_eq!(decode(9, &[]), Ok(None));
    }

    #[test]
    fn every_changed_missing_or_added_byte_is_found() {
        let bytes = encode(&note(7), 300);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(decode(9, &changed).is_err(), "byte {at}");
            assert!(decode(9, &bytes[..at.max(1)]).is_err(), "first {at}");
        }
        let mut mixed = bytes.clone();
        mixed[200..].copy_from_slice(&encode(&note(8), 300)[200..]);
        assert!(decode(9, &mixed).is_err());
        mixed.push(0);
        assert!(decode(9, &mixed).is_err());
    }
}
