//! The stored format, with bytes from dogpile.cache and arbitrary ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_core::wire::{self, Metadata};
use cache_core::{CachedValue, ErrorKind};
use proptest::prelude::*;

#[derive(serde::Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

/// The bytes that dogpile.cache stored for a payload.
#[derive(serde::Deserialize)]
struct Case {
    payload_hex: String,
    cached_at_epoch_seconds: f64,
    bytes_hex: String,
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).expect("hex"))
        .collect()
}

fn encoded(metadata: &Metadata, payload: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    wire::encode(metadata, payload, &mut stored);
    stored
}

fn at(seconds: f64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs_f64(seconds)
}

#[test]
fn dogpile_vectors_are_written_and_read_byte_for_byte() {
    let vectors: Vectors =
        serde_json::from_str(include_str!("../data/dogpile-serialized.json")).expect("vectors");
    assert_eq!(vectors.cases.len(), 22);
    for case in vectors.cases {
        let payload = unhex(&case.payload_hex);
        let stored = unhex(&case.bytes_hex);
        let metadata = Metadata::new(at(case.cached_at_epoch_seconds), None);
        assert_eq!(encoded(&metadata, &payload), stored);
        let read = wire::decode(&stored, "test").expect("an envelope");
        assert_eq!(read, (metadata, payload.as_slice()));
    }
}

#[derive(serde::Deserialize)]
struct NotSerialized {
    cases: Vec<Foreign>,
}

/// Bytes that Python stored in another format.
#[derive(serde::Deserialize)]
struct Foreign {
    written_by: String,
    bytes_hex: String,
    says: String,
}

#[test]
fn other_python_formats_are_named_in_the_error() {
    let vectors: NotSerialized =
        serde_json::from_str(include_str!("../data/python-not-serialized.json")).expect("vectors");
    assert_eq!(vectors.cases.len(), 9);
    for case in vectors.cases {
        let stored = unhex(&case.bytes_hex);
        let error = wire::decode(&stored, "test").expect_err(&case.written_by);
        assert_eq!(error.kind(), ErrorKind::Decode);
        let message = error.message();
        assert!(
            message.contains(&case.says),
            "{}: {message}",
            case.written_by
        );
    }
}

#[test]
fn a_cached_time_in_the_far_future_is_kept_if_it_can_be_represented() {
    let stored = br#"{"ct": 18446744073.0, "v": 2}|x"#;
    let (metadata, payload) = wire::decode(stored, "test").expect("an envelope");
    let value = metadata
        .attach(payload, SystemTime::now())
        .expect("no deadline");
    assert_eq!(value.cached_at(), at(18_446_744_073.0));
    assert_eq!(value.age(), Duration::ZERO);
    // The latest one, to which later ones are clamped.
    let value = CachedValue::new("x").with_cached_at(UNIX_EPOCH + Duration::from_secs(1 << 40));
    let stored = encoded(&Metadata::of(&value, Duration::ZERO, UNIX_EPOCH), b"x");
    let (metadata, payload) = wire::decode(&stored, "test").expect("an envelope");
    let found = metadata.attach(payload, UNIX_EPOCH).expect("no deadline");
    assert_eq!(found.cached_at(), value.cached_at());
    for ct in ["18446744074.0", "1e18", "1e308", "1e999"] {
        let stored = format!("{{\"ct\": {ct}}}|x");
        let error = wire::decode(stored.as_bytes(), "test").expect_err(ct);
        assert_eq!(error.kind(), ErrorKind::Decode, "{ct}");
    }
}

#[test]
fn the_deadline_follows_the_fields_that_python_knows() {
    let value = CachedValue::new(b"x".to_vec())
        .with_cached_at(at(1_700_000_000.25))
        .with_ttl(Duration::from_secs(60));
    let metadata = Metadata::of(&value, Duration::ZERO, at(1_700_000_100.5));
    assert_eq!(
        encoded(&metadata, value.payload()),
        br#"{"ct": 1700000000.25, "v": 2, "exp": 1700000160.5}|x"#
    );
}

proptest! {
    #[test]
    fn written_values_are_read_back(
        payload: Vec<u8>,
        cached_at: u64,
        ttl in proptest::option::of(1_u64..10_000_000_000_000_000_000),
    ) {
        let cached_at = UNIX_EPOCH + Duration::from_nanos(cached_at);
        let deadline = ttl.map(|ttl| UNIX_EPOCH + Duration::from_nanos(ttl));
        let stored = encoded(&Metadata::new(cached_at, deadline), &payload);
        let (read, read_payload) = wire::decode(&stored, "test").expect("an envelope");
        prop_assert_eq!(read_payload, payload.as_slice());
        // In this century, seconds in a float have a resolution below a microsecond.
        let apart = |a: SystemTime, b: SystemTime| a.duration_since(b).or_else(|_| b.duration_since(a));
        prop_assert!(apart(read.cached_at, cached_at).expect("either way") < Duration::from_micros(2));
        prop_assert_eq!(read.deadline.is_some(), deadline.is_some());
        // Writing what was read gives the same bytes.
        prop_assert_eq!(encoded(&read, read_payload), stored);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(stored: Vec<u8>) {
        let _ = wire::decode(&stored, "test");
    }

    #[test]
    fn json_like_text_does_not_panic(json in r#"[ \t\n{}\[\]:,"\\|0-9.eE+\-a-zé]{0,64}"#) {
        let _ = wire::decode(json.as_bytes(), "test");
        let _ = Metadata::read_json(json.as_bytes(), "test");
    }

    #[test]
    fn a_broken_envelope_is_refused_or_read_as_a_prefix(
        payload: Vec<u8>,
        cut in 0_usize..64,
        flip in 0_usize..64,
        bit in 0_u8..8,
    ) {
        let metadata = Metadata::new(at(1_700_000_000.5), None);
        let whole = encoded(&metadata, &payload);
        let cut = whole.get(..cut.min(whole.len())).expect("in range");
        if let Ok((read, rest)) = wire::decode(cut, "test") {
            prop_assert_eq!(read, metadata);
            prop_assert!(payload.starts_with(rest));
        }
        let mut flipped = whole.clone();
        if let Some(byte) = flipped.get_mut(flip) {
            *byte ^= 1 << bit;
        }
        let _ = wire::decode(&flipped, "test");
    }

    /// The scanner finds the cached time among any other JSON.
    #[test]
    fn unknown_fields_are_skipped(
        before in json(),
        after in json(),
        cached_at in 0.0_f64..4e9,
    ) {
        let object = format!(
            "{{\"before\": {before}, \"ct\": {cached_at:?}, \"after\": {after}}}",
        );
        prop_assume!(!object.contains('|'));
        let metadata = Metadata::read_json(object.as_bytes(), "test").expect("metadata");
        prop_assert_eq!(metadata.cached_at, at(cached_at));
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::Value;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
