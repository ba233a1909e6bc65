//! Property tests: the responses do not depend on how the bytes are split.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::time::Instant;

use super::pipeline::Pipeline;
use super::queue::Pending;
use crate::config::Timeouts;
use crate::protocol::{Decoder, Dialect, Expected, Outgoing, StoredFormat, Violation, encode_get};

/// The largest accepted value.
pub(super) const LIMIT: usize = 100_000;

/// A request and its response.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Hit(usize),
    Pickled(usize),
    Miss,
    Stored,
    Failed,
    Many(Vec<Option<usize>>),
    Quiet { commands: usize, fails: bool },
    Values(Vec<Option<usize>>),
    Lines(usize),
}

fn answer() -> impl Strategy<Value = Answer> {
    let len =
        || prop_oneof![4 => 0..200_usize, 1 => 10_000..20_000_usize, 1 => 90_000..130_000_usize];
    let found = || vec(proptest::option::of(len()), 1..6);
    prop_oneof![
        len().prop_map(Answer::Hit),
        len().prop_map(Answer::Pickled),
        Just(Answer::Miss),
        Just(Answer::Stored),
        Just(Answer::Failed),
        found().prop_map(Answer::Many),
        (1..9_usize, any::<bool>()).prop_map(|(commands, fails)| Answer::Quiet { commands, fails }),
        found().prop_map(Answer::Values),
        (1..9_usize).prop_map(Answer::Lines),
    ]
}

pub(super) fn value(len: usize) -> Vec<u8> {
    let mut value = br#"{"ct": 1700000000.5, "v": 2}|"#.to_vec();
    value.resize(value.len() + len, b'v');
    value
}

impl Answer {
    fn expected(&self) -> Expected {
        match self {
            Self::Hit(_) | Self::Pickled(_) | Self::Miss | Self::Stored | Self::Failed => {
                Expected::One { tag: 7 }
            }
            Self::Many(found) => Expected::many(7, found.len()),
            Self::Quiet { commands, .. } => Expected::quiet(*commands),
            Self::Values(found) => {
                let keys: Vec<String> = (0..found.len()).map(|n| format!("k{n}")).collect();
                let keys = keys.iter().map(String::as_str);
                encode_get(keys, &mut Outgoing::new(Dialect::Classic))
            }
            Self::Lines(commands) => Expected::lines(*commands),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let mut value_line = |line: String, value: &[u8]| {
            out.extend_from_slice(line.as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        };
        match self {
            Self::Hit(len) => {
                let value = value(*len);
                value_line(format!("VA {} f0 O7\r\n", value.len()), &value);
            }
            Self::Pickled(len) => {
                let value = vec![0x80; *len];
                value_line(format!("VA {len} f1 O7\r\n"), &value);
            }
            Self::Miss => out.extend_from_slice(b"EN\r\n"),
            Self::Stored => out.extend_from_slice(b"HD O7\r\n"),
            Self::Failed => out.extend_from_slice(b"SERVER_ERROR out of memory\r\n"),
            Self::Many(found) => {
                for (n, found) in found.iter().enumerate() {
                    match found {
                        None => out.extend_from_slice(b"EN\r\n"),
                        Some(len) => {
                            let value = value(*len);
                            let line = format!("VA {} f0 O{}\r\n", value.len(), 7 + n);
                            out.extend_from_slice(line.as_bytes());
                            out.extend_from_slice(&value);
                            out.extend_from_slice(b"\r\n");
                        }
                    }
                }
            }
            Self::Quiet { fails, .. } => {
                if *fails {
                    out.extend_from_slice(b"NS O8\r\n");
                }
                out.extend_from_slice(b"MN\r\n");
            }
            Self::Values(found) => {
                for (n, found) in found.iter().enumerate() {
                    if let Some(len) = found {
                        let value = value(*len);
                        let line = format!("VALUE k{n} 0 {}\r\n", value.len());
                        out.extend_from_slice(line.as_bytes());
                        out.extend_from_slice(&value);
                        out.extend_from_slice(b"\r\n");
                    }
                }
                out.extend_from_slice(b"END\r\n");
            }
            Self::Lines(commands) => {
                for _ in 0..*commands {
                    out.extend_from_slice(b"STORED\r\n");
                }
            }
        }
    }
}

/// Decodes `bytes` in pieces that end at `cuts`. Returns the responses with their callers, and the
/// violation if there is one.
pub(super) fn read(
    answers: &[Answer],
    bytes: &[u8],
    mut cuts: Vec<usize>,
) -> (Vec<String>, Option<Violation>) {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let timeouts = Timeouts {
        socket: second,
        unused: second,
    };
    let decoder = Decoder::new(LIMIT, StoredFormat::Envelope);
    let mut pipeline = Pipeline::new(now, timeouts, decoder);
    for (caller, answer) in answers.iter().enumerate() {
        let request = Pending {
            expected: answer.expected(),
            has_mark: false,
            caller: Some(caller),
            weight: 1,
            due: now + second,
        };
        pipeline.on_sent(now, std::iter::once(request));
    }
    for cut in &mut cuts {
        *cut %= bytes.len() + 1;
    }
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let (mut responses, mut done, mut at) = (Vec::new(), Vec::new(), 0);
    for cut in cuts {
        while at < cut {
            let (buffer, most) = pipeline.read_buffer();
            let n = most.min(cut - at);
            buffer.extend_from_slice(&bytes[at..at + n]);
            at += n;
            let outcome = pipeline.on_bytes(now, n, &mut done);
            for (caller, response) in done.drain(..) {
                responses.push(format!("{caller}: {response:?}"));
            }
            assert!(pipeline.held() <= LIMIT + 64 * 1024, "{}", pipeline.held());
            if let Err(violation) = outcome {
                return (responses, Some(violation));
            }
        }
    }
    (responses, None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn valid_responses_do_not_depend_on_the_split(
        answers in vec(answer(), 1..8),
        cuts in vec(any::<usize>(), 0..40),
    ) {
        let mut bytes = Vec::new();
        for answer in &answers {
            answer.write(&mut bytes);
        }
        let (responses, violation) = read(&answers, &bytes, Vec::new());
        prop_assert_eq!(violation, None);
        prop_assert_eq!(responses.len(), answers.len());
        prop_assert_eq!(read(&answers, &bytes, cuts).0, responses);
    }

    #[test]
    fn corrupt_responses_do_not_depend_on_the_split(
        answers in vec(answer(), 1..6),
        cuts in vec(any::<usize>(), 0..40),
        spoiled in vec((any::<usize>(), any::<u8>()), 1..4),
        cut_off in any::<usize>(),
    ) {
        let mut bytes = Vec::new();
        for answer in &answers {
            answer.write(&mut bytes);
        }
        // There are more lines near the beginning than in the middle of values.
        for (position, byte) in spoiled {
            let within = if byte % 2 == 0 { bytes.len() } else { bytes.len().min(40) };
            bytes[position % within.max(1)] = byte;
        }
        bytes.truncate(bytes.len() - cut_off % 3);
        let whole = read(&answers, &bytes, Vec::new());
        prop_assert_eq!(read(&answers, &bytes, cuts), whole);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(
        answers in vec(answer(), 0..4),
        bytes in vec(prop_oneof![Just(b'\n'), Just(b' '), Just(b'O'), b'0'..=b'9', any::<u8>()], 0..500),
        cuts in vec(any::<usize>(), 0..40),
    ) {
        let whole = read(&answers, &bytes, Vec::new());
        prop_assert_eq!(read(&answers, &bytes, cuts), whole);
    }
}
