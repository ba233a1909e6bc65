//! What each wrapper adds to the backend below it.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use cache_core::{
    CacheBackend, CachedValue, Error, ErrorKind, Format, KeyMap, MissOnError, Result, Serialized,
};

/// Keeps bytes in a map, and fails for the keys it is told to.
#[derive(Default)]
struct Memory {
    values: Mutex<BTreeMap<String, CachedValue<Vec<u8>>>>,
    failing: Mutex<BTreeMap<String, ErrorKind>>,
}

impl Memory {
    fn with(entries: &[(&str, &str)]) -> Self {
        let memory = Self::default();
        for (key, payload) in entries {
            memory
                .values
                .lock()
                .unwrap()
                .insert((*key).into(), value(payload));
        }
        memory
    }

    fn failing(self, key: &str, kind: ErrorKind) -> Self {
        self.failing.lock().unwrap().insert(key.into(), kind);
        self
    }

    fn check(&self, key: &str) -> Result<()> {
        match self.failing.lock().unwrap().get(key) {
            None => self.check_key(key),
            Some(kind) => Err(Error::new(*kind, "memory", "as told").with_key(key)),
        }
    }
}

impl CacheBackend for Memory {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        self.check(key)?;
        Ok(self.values.lock().unwrap().get(key).cloned())
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        self.check(key)?;
        self.values.lock().unwrap().insert(key.into(), value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.check(key)?;
        self.values.lock().unwrap().remove(key);
        Ok(())
    }
}

fn value(payload: &str) -> CachedValue<Vec<u8>> {
    CachedValue::new(payload.as_bytes().to_vec())
}

struct Decimal;

impl Format<u64> for Decimal {
    fn encode(&self, value: &u64) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        if *value == 13 {
            return Err("unlucky".into());
        }
        Ok(value.to_string().into_bytes())
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64, Box<dyn std::error::Error + Send + Sync>> {
        Ok(std::str::from_utf8(bytes)?.parse()?)
    }
}

fn payloads<T>(found: Vec<Option<CachedValue<T>>>) -> Vec<Option<T>> {
    found
        .into_iter()
        .map(|found| found.map(CachedValue::into_payload))
        .collect()
}

#[tokio::test]
async fn key_map_names_keys_in_errors_as_the_caller_did() {
    let shout = |key: &str| Cow::Owned(key.to_uppercase());
    let memory = Memory::default().failing("B", ErrorKind::ValueTooLarge);
    let cache = KeyMap::new(memory, move |key| shout(key));
    for error in [
        cache.get("b").await.unwrap_err(),
        cache.set("b", value("1")).await.unwrap_err(),
        cache.delete("b").await.unwrap_err(),
        cache.get_multi(&["a", "b"]).await.unwrap_err(),
        cache.delete_multi(&["a", "b"]).await.unwrap_err(),
        cache
            .set_multi(vec![("a", value("1")), ("b", value("2"))])
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.keys(), ["b"], "{error}");
    }
    assert!(cache.get("a").await.unwrap().is_some());
}

#[tokio::test]
async fn namespaces_never_share_a_key() {
    let names = ["", "a", "a:", "a:b", ":", "%", "%3A", "a%3Ab", "é"];
    let keys = ["b:c", "c", ":c", "%3A", "3Ac"];
    let mut seen = HashSet::new();
    for name in names {
        let cache = KeyMap::namespace(Memory::default(), name);
        for key in keys {
            assert!(seen.insert(cache.mangle(key).into_owned()), "{name} {key}");
        }
    }
}

#[tokio::test]
async fn key_map_refuses_the_empty_key_whatever_it_is_mangled_to() {
    let cache = KeyMap::namespace(Memory::default(), "n");
    for error in [
        cache.get("").await.unwrap_err(),
        cache.get_multi(&["a", ""]).await.unwrap_err(),
        cache
            .set_multi(vec![("a", value("1")), ("", value("2"))])
            .await
            .unwrap_err(),
        cache.check_key("").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
    }
    // The whole call was refused.
    assert!(cache.get("a").await.unwrap().is_none());
}

#[tokio::test]
async fn miss_on_error_swallows_and_counts_what_is_transient_only() {
    let memory = Memory::with(&[("good", "1")])
        .failing("slow", ErrorKind::Timeout)
        .failing("down", ErrorKind::Unavailable)
        .failing("large", ErrorKind::ValueTooLarge);
    let cache = MissOnError::new(memory);
    assert!(cache.get("slow").await.unwrap().is_none());
    cache.set("slow", value("1")).await.unwrap();
    cache.delete("down").await.unwrap();
    assert_eq!(
        payloads(cache.get_multi(&["good", "down"]).await.unwrap()),
        [None, None]
    );
    // One key written, the other not: a Partial error with a transient cause.
    let entries = vec![("good", value("2")), ("slow", value("2"))];
    cache.set_multi(entries).await.unwrap();
    cache.delete_multi(&["down"]).await.unwrap();

    let error = cache.set("large", value("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
    let entries = vec![("good", value("2")), ("large", value("2"))];
    let error = cache.set_multi(entries).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Partial);

    assert_eq!(cache.swallowed(ErrorKind::Timeout), 2);
    assert_eq!(cache.swallowed(ErrorKind::Unavailable), 3);
    assert_eq!(cache.swallowed(ErrorKind::Partial), 1);
    assert_eq!(cache.swallowed(ErrorKind::ValueTooLarge), 0);
}

#[tokio::test]
async fn serialized_passes_metadata_through() {
    let cache = Serialized::<u64, _, _>::new(Memory::default(), Decimal);
    let earlier = SystemTime::now() - Duration::from_secs(60);
    let value = CachedValue::new(7)
        .with_cached_at(earlier)
        .with_ttl(Duration::from_secs(5));
    cache.set("k", value).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap(), Some(value));
    assert_eq!(
        cache.get_multi(&["k", "l"]).await.unwrap(),
        [Some(value), None]
    );
}

#[tokio::test]
async fn what_serialized_cannot_decode_is_a_miss_or_by_choice_an_error() {
    let memory = || {
        Memory::with(&[("seven", "7"), ("word", "seven")])
            .failing("pickled", ErrorKind::Decode)
            .failing("pickled too", ErrorKind::Decode)
    };
    let keys = [
        "seven",
        "word",
        "pickled",
        "none",
        "pickled",
        "pickled too",
        "seven",
    ];

    let lenient = Serialized::<u64, _, _>::new(memory(), Decimal);
    assert!(lenient.get("word").await.unwrap().is_none());
    assert!(lenient.get("pickled").await.unwrap().is_none());
    assert_eq!(
        payloads(lenient.get_multi(&keys).await.unwrap()),
        [Some(7), None, None, None, None, None, Some(7)]
    );

    let strict = Serialized::<u64, _, _>::new(memory(), Decimal).decode_errors(true);
    for key in ["word", "pickled"] {
        let error = strict.get(key).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.keys()),
            (ErrorKind::Decode, &[key.to_owned()][..])
        );
        let error = strict.get_multi(&["seven", key]).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.keys()),
            (ErrorKind::Decode, &[key.to_owned()][..])
        );
    }
    let error = strict.get("word").await.unwrap_err();
    assert!(error.message().contains("no u64"), "{error}");
    assert!(error.message().contains("invalid digit"), "{error}");
}

#[tokio::test]
async fn serialized_lets_other_errors_through() {
    let memory = Memory::default().failing("down", ErrorKind::Unavailable);
    let cache = Serialized::<u64, _, _>::new(memory, Decimal);
    let error = cache.get("down").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = cache.get_multi(&["a", "down"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_value_that_cannot_be_encoded_refuses_the_whole_call() {
    let cache = Serialized::<u64, _, _>::new(Memory::default(), Decimal);
    let entries = vec![("a", CachedValue::new(1)), ("b", CachedValue::new(13))];
    let error = cache.set_multi(entries).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.keys()),
        (ErrorKind::Encode, &["b".to_owned()][..])
    );
    assert!(error.message().contains("u64: unlucky"), "{error}");
    assert!(cache.get("a").await.unwrap().is_none());
}

#[cfg(feature = "sha1")]
#[test]
fn sha1_names_are_those_of_python() {
    let cache = KeyMap::sha1(Memory::default());
    // hashlib.sha1("ключ".encode("utf-8")).hexdigest()
    assert_eq!(
        cache.mangle("ключ"),
        "b36af61a5d76b466e25a17dd979530303417c16f"
    );
    assert_eq!(
        cache.mangle("abc"),
        "a9993e364706816aba3e25717850c26c9cd0d89d"
    );
}
