//! What each wrapper adds to its backend.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::error::Error as StdError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cache_core::{
    CacheBackend, CacheBackendExt, CachedValue, Call, Error, ErrorKind, Format, MapKeys, Observer,
    Operation, Result, Ttl,
};

/// Keeps bytes in a map, and fails for given keys.
#[derive(Clone, Default)]
struct Memory(Arc<Store>);

#[derive(Default)]
struct Store {
    values: Mutex<BTreeMap<String, CachedValue<Vec<u8>>>>,
    failing: Mutex<BTreeMap<String, ErrorKind>>,
    /// The number of calls of `get`.
    gets: AtomicUsize,
}

impl Memory {
    fn with(entries: &[(&str, &str)]) -> Self {
        let memory = Self::default();
        let mut values = memory.0.values.lock().unwrap();
        for (key, payload) in entries {
            values.insert((*key).into(), value(payload));
        }
        drop(values);
        memory
    }

    fn failing(self, key: &str, kind: ErrorKind) -> Self {
        self.0.failing.lock().unwrap().insert(key.into(), kind);
        self
    }

    fn check(&self, key: &str) -> Result<()> {
        match self.0.failing.lock().unwrap().get(key) {
            None => Ok(()),
            Some(kind) => Err(Error::new(*kind, "memory", "as told").with_key(key)),
        }
    }

    fn names(&self) -> Vec<String> {
        self.0.values.lock().unwrap().keys().cloned().collect()
    }
}

impl CacheBackend for Memory {
    type Value = Vec<u8>;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        self.0.gets.fetch_add(1, Ordering::Relaxed);
        self.check(key)?;
        Ok(self.0.values.lock().unwrap().get(key).cloned())
    }

    async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
        self.check(key)?;
        self.0.values.lock().unwrap().insert(key.into(), value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.check(key)?;
        self.0.values.lock().unwrap().remove(key);
        Ok(())
    }
}

fn value(payload: &str) -> CachedValue<Vec<u8>> {
    CachedValue::new(payload.as_bytes().to_vec())
}

/// Numbers below 100 except 13. It panics at `!`, as decoders may on unexpected bytes.
struct Decimal;

impl Format<u64> for Decimal {
    fn encode(&self, value: &u64) -> Result<Vec<u8>, Box<dyn StdError + Send + Sync>> {
        match value {
            13 => Err("unlucky".into()),
            100.. => panic!("a number that large"),
            _ => Ok(value.to_string().into_bytes()),
        }
    }

    fn decode(&self, bytes: &[u8]) -> Result<u64, Box<dyn StdError + Send + Sync>> {
        assert_ne!(bytes, b"!", "what is this");
        Ok(std::str::from_utf8(bytes)?.parse()?)
    }
}

/// Payloads, and the kinds of errors.
fn outcomes<T>(found: Vec<Result<Option<CachedValue<T>>>>) -> Vec<Result<Option<T>, ErrorKind>> {
    let found = found.into_iter();
    found
        .map(|found| match found {
            Ok(found) => Ok(found.map(CachedValue::into_payload)),
            Err(error) => Err(error.kind()),
        })
        .collect()
}

#[tokio::test]
async fn map_keys_renames_keys_in_errors() {
    let memory = Memory::default().failing("B", ErrorKind::ValueTooLarge);
    let cache = memory.map_keys(|key| Cow::Owned(key.to_uppercase()));
    let entries = || vec![("a", value("1")), ("b", value("2"))];
    let mut errors = vec![
        cache.get("b").await.unwrap_err(),
        cache.set("b", value("1")).await.unwrap_err(),
        cache.delete("b").await.unwrap_err(),
        cache.delete_multi(&["a", "b"]).await.unwrap_err(),
        cache.set_multi(entries()).await.unwrap_err(),
    ];
    errors.extend(
        cache
            .get_multi(&["a", "b"])
            .await
            .into_iter()
            .filter_map(Result::err),
    );
    assert_eq!(errors.len(), 6);
    for error in errors {
        assert_eq!(error.keys(), ["b"], "{error}");
        let source: Option<&Error> = error.source().and_then(|source| source.downcast_ref());
        assert_eq!(source.is_some(), error.kind() == ErrorKind::Partial);
        assert!(
            source.is_none_or(|source| source.keys() == ["b"]),
            "{error:?}"
        );
    }
    assert!(cache.get("a").await.unwrap().is_some());

    // Both names that the caller used for the key that failed.
    let error = cache.delete_multi(&["b", "a", "B"]).await.unwrap_err();
    assert_eq!(error.keys(), ["b", "B"]);
}

/// The cause of a failure names the key, too.
#[tokio::test]
async fn map_keys_renames_keys_in_sources() {
    struct Tier(Memory);

    impl CacheBackend for Tier {
        type Value = Vec<u8>;

        async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
            self.0.get(key).await.map_err(|cause| {
                let message = format!("the second tier failed: {}", cause.message());
                let error = Error::new(ErrorKind::Unavailable, "tier", message);
                error.with_key(key).with_source(cause)
            })
        }

        async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
            self.0.set(key, value).await
        }

        async fn delete(&self, key: &str) -> Result<()> {
            self.0.delete(key).await
        }
    }

    let memory = Memory::default().failing("ns:b", ErrorKind::Backend);
    let cache = Tier(memory).namespace("ns");
    let mut errors = vec![cache.get("b").await.unwrap_err()];
    errors.extend(
        cache
            .get_multi(&["b"])
            .await
            .into_iter()
            .map(Result::unwrap_err),
    );
    for error in errors {
        assert_eq!(error.keys(), ["b"]);
        let source: &Error = error.source().unwrap().downcast_ref().unwrap();
        assert_eq!(source.keys(), ["b"]);
        assert!(!format!("{error:?}").contains("ns:b"), "{error:?}");
    }
}

#[tokio::test]
async fn many_keys_may_share_a_name_that_fails() {
    const KEYS: usize = 200_000;
    let memory = Memory::default().failing("one", ErrorKind::Unavailable);
    let cache = memory.map_keys(|_| Cow::Borrowed("one"));
    let keys: Vec<String> = (0..KEYS).map(|n| n.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let error = cache.delete_multi(&keys).await.unwrap_err();
    assert_eq!(error.keys(), keys);
}

#[tokio::test]
async fn namespaces_never_share_a_key() {
    let names = ["", "a", "a:", "a:b", ":", "%", "%3A", "a%3Ab", "é"];
    let keys = ["", "b:c", "c", ":c", "%3A", "3Ac"];
    let mut seen = HashSet::new();
    for name in names {
        let cache = MapKeys::namespace((), name);
        for key in keys {
            assert!(seen.insert(cache.map_key(key).into_owned()), "{name} {key}");
        }
    }
}

#[tokio::test]
async fn miss_on_error_swallows_and_counts() {
    let memory = Memory::with(&[("good", "1")])
        .failing("slow", ErrorKind::Timeout)
        .failing("down", ErrorKind::Unavailable)
        .failing("pickled", ErrorKind::Decode)
        .failing("large", ErrorKind::ValueTooLarge)
        .failing("bad", ErrorKind::InvalidKey);
    let cache = memory.miss_on_error();
    let swallowed = cache.swallowed();
    let cache = cache.into_dyn();

    assert!(cache.get("slow").await.unwrap().is_none());
    cache.set("slow", value("1")).await.unwrap();
    cache.delete("down").await.unwrap();
    let keys = ["good", "pickled", "large", "bad", "down"];
    assert_eq!(
        outcomes(cache.get_multi(&keys).await),
        [
            Ok(Some(b"1".to_vec())),
            Ok(None),
            Ok(None),
            Err(ErrorKind::InvalidKey),
            Ok(None)
        ]
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

    for (kind, count) in [
        (ErrorKind::Timeout, 2),
        (ErrorKind::Unavailable, 3),
        (ErrorKind::Decode, 1),
        (ErrorKind::ValueTooLarge, 1),
        (ErrorKind::Partial, 1),
        (ErrorKind::InvalidKey, 0),
        (ErrorKind::Backend, 0),
    ] {
        assert_eq!(swallowed.count(kind), count, "{kind}");
    }
    assert_eq!(swallowed.total(), 8);
    let json = serde_json::to_value(&swallowed).unwrap();
    assert_eq!(json["timed out"], swallowed.count(ErrorKind::Timeout));
    assert_eq!(json.get("invalid key"), None);
}

#[tokio::test]
async fn typed_passes_metadata_through() {
    let cache = Memory::default().typed(Decimal);
    let earlier = SystemTime::now() - Duration::from_secs(60);
    for ttl in [Ttl::Default, Ttl::Never, Ttl::For(Duration::from_secs(5))] {
        let value = CachedValue::new(7).with_cached_at(earlier).with_ttl(ttl);
        cache.set("k", value.clone()).await.unwrap();
        assert_eq!(cache.get("k").await.unwrap().as_ref(), Some(&value));
        let found: Result<Vec<_>> = cache.get_multi(&["k", "l"]).await.into_iter().collect();
        assert_eq!(found.unwrap(), [Some(value), None]);
    }
}

#[tokio::test]
async fn a_value_that_typed_cannot_decode_is_an_error_in_its_position() {
    let memory = Memory::with(&[("seven", "7"), ("word", "seven"), ("panic", "!")])
        .failing("pickled", ErrorKind::Decode);
    let keys = [
        "seven", "word", "pickled", "none", "panic", "pickled", "seven",
    ];
    let strict = memory.clone().typed(Decimal);
    let undecodable = Err(ErrorKind::Decode);
    assert_eq!(
        outcomes(strict.get_multi(&keys).await),
        [
            Ok(Some(7)),
            undecodable,
            undecodable,
            Ok(None),
            undecodable,
            undecodable,
            Ok(Some(7))
        ]
    );
    // Each key is requested, whatever the results of the others.
    assert_eq!(memory.0.gets.load(Ordering::Relaxed), keys.len());

    for key in ["word", "pickled", "panic"] {
        let error = strict.get(key).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.keys()),
            (ErrorKind::Decode, &[key.to_owned()][..])
        );
    }
    let error = strict.get("word").await.unwrap_err();
    assert!(error.message().contains("not a u64"), "{error}");
    assert!(error.message().contains("invalid digit"), "{error}");

    let lenient = strict.miss_on_error();
    let swallowed = lenient.swallowed();
    assert_eq!(
        outcomes(lenient.get_multi(&keys).await),
        [
            Ok(Some(7)),
            Ok(None),
            Ok(None),
            Ok(None),
            Ok(None),
            Ok(None),
            Ok(Some(7))
        ]
    );
    assert_eq!(swallowed.count(ErrorKind::Decode), 4);
}

/// An error that names no key concerns all keys that were sent.
#[tokio::test]
async fn typed_names_all_keys_if_the_backend_names_none() {
    struct Nameless;

    impl CacheBackend for Nameless {
        type Value = Vec<u8>;

        async fn get(&self, _: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
            Ok(None)
        }

        async fn set(&self, _: &str, _: CachedValue<Vec<u8>>) -> Result<()> {
            Ok(())
        }

        async fn delete(&self, _: &str) -> Result<()> {
            Ok(())
        }

        async fn set_multi(&self, _: Vec<(&str, CachedValue<Vec<u8>>)>) -> Result<()> {
            Err(Error::new(ErrorKind::Timeout, "nameless", "no response"))
        }
    }

    let cache = Nameless.typed(Decimal);
    let entries = vec![("a", CachedValue::new(1)), ("b", CachedValue::new(2))];
    let error = cache.set_multi(entries).await.unwrap_err();
    assert_eq!((error.kind(), error.keys().len()), (ErrorKind::Timeout, 2));
    let entries = vec![("a", CachedValue::new(1)), ("b", CachedValue::new(13))];
    let error = cache.set_multi(entries).await.unwrap_err();
    assert_eq!((error.kind(), error.keys().len()), (ErrorKind::Timeout, 2));
}

#[tokio::test]
async fn typed_passes_other_errors_through() {
    let cache = Memory::default()
        .failing("down", ErrorKind::Unavailable)
        .typed(Decimal);
    let error = cache.get("down").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let found = outcomes(cache.get_multi(&["a", "down"]).await);
    assert_eq!(found, [Ok(None), Err(ErrorKind::Unavailable)]);
}

#[tokio::test]
async fn a_value_that_cannot_be_encoded_fails_alone() {
    let memory = Memory::default().failing("large", ErrorKind::ValueTooLarge);
    let cache = memory.typed(Decimal);
    let number = CachedValue::new;
    let entries = vec![("a", number(1)), ("b", number(13)), ("c", number(100))];
    let error = cache.set_multi(entries).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Partial);
    assert_eq!(error.keys(), ["b", "c"]);
    assert!(error.message().contains("u64: unlucky"), "{error}");
    assert!(cache.get("a").await.unwrap().is_some());

    // Some fail here and some in the wrapped backend: all of them are named.
    let entries = vec![("a", number(1)), ("b", number(13)), ("large", number(2))];
    let error = cache.set_multi(entries).await.unwrap_err();
    assert_eq!((error.kind(), error.keys().len()), (ErrorKind::Partial, 2));
    assert!(
        ["b", "large"]
            .iter()
            .all(|key| error.keys().contains(&(*key).to_owned()))
    );

    // Only the last value of a repeated key counts.
    cache
        .set_multi(vec![("b", number(13)), ("b", number(2))])
        .await
        .unwrap();
    let error = cache
        .set_multi(vec![("b", number(2)), ("b", number(13))])
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.keys()),
        (ErrorKind::Encode, &["b".to_owned()][..])
    );
    let error = cache.set("b", number(100)).await.unwrap_err();
    assert!(error.message().contains("panicked"), "{error}");
}

/// The reports of `Observed`, as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Observer for Log {
    fn observe(&self, call: &Call<'_>) {
        let Call {
            operation,
            keys,
            hits,
            misses,
            error,
            cancelled,
            ..
        } = call;
        let kind = error.map_or("ok".to_owned(), |error| error.kind().to_string());
        let end = if *cancelled { "cancelled" } else { &kind };
        assert_eq!(call.duration.is_some(), *operation != Operation::Delete);
        let line = format!("{} {keys:?} {hits} {misses} {end}", operation.as_str());
        self.0.lock().unwrap().push(line);
    }

    fn wants_duration(&self, operation: Operation) -> bool {
        operation != Operation::Delete
    }
}

#[tokio::test]
async fn an_observer_sees_every_call() {
    let log = Log::default();
    let memory = Memory::with(&[("a", "1")]).failing("down", ErrorKind::Unavailable);
    let cache = memory.observed(log.clone());
    cache.get("a").await.unwrap();
    cache.get("b").await.unwrap();
    cache.get("down").await.unwrap_err();
    cache.set("b", value("1")).await.unwrap();
    cache.delete("b").await.unwrap();
    cache.get_multi(&["a", "b", "down"]).await;
    cache
        .set_multi(vec![("a", value("1")), ("down", value("1"))])
        .await
        .unwrap_err();
    cache.delete_multi(&["a"]).await.unwrap();
    drop(cache.get("never polled"));
    assert_eq!(
        *log.0.lock().unwrap(),
        [
            r#"get ["a"] 1 0 ok"#,
            r#"get ["b"] 0 1 ok"#,
            r#"get ["down"] 0 0 unavailable"#,
            r#"set ["b"] 0 0 ok"#,
            r#"delete ["b"] 0 0 ok"#,
            r#"get_multi ["a", "b", "down"] 1 1 unavailable"#,
            r#"set_multi ["a", "down"] 0 0 partially applied"#,
            r#"delete_multi ["a"] 0 0 ok"#,
        ]
    );
}

/// Never responds.
struct Silent;

impl CacheBackend for Silent {
    type Value = Vec<u8>;

    async fn get(&self, _: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
        std::future::pending().await
    }

    async fn set(&self, _: &str, _: CachedValue<Vec<u8>>) -> Result<()> {
        std::future::pending().await
    }

    async fn delete(&self, _: &str) -> Result<()> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_sees_cancelled_calls() {
    let log = Log::default();
    let cache = Silent.observed(log.clone());
    let given_up = tokio::time::timeout(Duration::from_secs(1), cache.get("a")).await;
    assert!(given_up.is_err());
    assert_eq!(*log.0.lock().unwrap(), [r#"get ["a"] 0 0 cancelled"#]);
}

#[tokio::test]
async fn an_observer_may_panic_and_may_use_the_cache() {
    let memory = Memory::with(&[("a", "1")]);
    let inner = memory.clone();
    let cache = memory.observed(move |call: &Call<'_>| {
        // A map in memory is ready at once; no lock is held here.
        let mut set = std::pin::pin!(inner.set("seen", value("1")));
        let waker = std::task::Waker::noop();
        assert!(
            set.as_mut()
                .poll(&mut std::task::Context::from_waker(waker))
                .is_ready()
        );
        assert_ne!(call.keys, ["a"], "the observer fails");
    });
    assert!(cache.get("a").await.unwrap().is_some());
    assert!(cache.get("b").await.unwrap().is_none());
    assert_eq!(cache.get_ref().names(), ["a", "seen"]);
}

#[tokio::test]
async fn wrappers_give_access_to_the_wrapped_backend() {
    let cache = Memory::default()
        .namespace("users")
        .typed::<u64>(Decimal)
        .miss_on_error()
        .observed(|_: &Call<'_>| ());
    cache.set("42", CachedValue::new(7)).await.unwrap();
    let names = |memory: &Memory| memory.names();
    assert_eq!(
        names(cache.get_ref().get_ref().get_ref().get_ref()),
        ["users:42"]
    );
    let memory = cache.into_inner().into_inner().into_inner().into_inner();
    assert_eq!(names(&memory), ["users:42"]);
}

#[cfg(feature = "blocking")]
mod blocking {
    use super::*;

    /// Needs a runtime, as backends with servers do.
    #[derive(Clone)]
    struct Sleepy(Memory);

    impl CacheBackend for Sleepy {
        type Value = Vec<u8>;

        async fn get(&self, key: &str) -> Result<Option<CachedValue<Vec<u8>>>> {
            tokio::time::sleep(Duration::from_millis(1)).await;
            self.0.get(key).await
        }

        async fn set(&self, key: &str, value: CachedValue<Vec<u8>>) -> Result<()> {
            tokio::spawn(tokio::time::sleep(Duration::from_millis(1)))
                .await
                .unwrap();
            self.0.set(key, value).await
        }

        async fn delete(&self, key: &str) -> Result<()> {
            self.0.delete(key).await
        }
    }

    fn all_six() {
        let cache = Sleepy(Memory::default()).blocking().unwrap();
        cache.set("a", value("1")).unwrap();
        assert!(cache.get("a").unwrap().is_some());
        cache.delete("a").unwrap();
        cache.set_multi(vec![("b", value("2"))]).unwrap();
        let found = outcomes(cache.get_multi(&["a", "b"]));
        assert_eq!(found, [Ok(None), Ok(Some(b"2".to_vec()))]);
        cache.delete_multi(&["b"]).unwrap();
        assert!(cache.get_ref().0.names().is_empty());
    }

    #[test]
    fn works_without_a_runtime() {
        all_six();
    }

    #[tokio::test]
    async fn works_within_a_single_threaded_runtime() {
        all_six();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn works_within_a_multi_threaded_runtime() {
        tokio::spawn(async { all_six() }).await.unwrap();
    }

    #[test]
    fn works_in_the_destructor_of_a_thread_local() {
        struct AtEnd(cache_core::Blocking<Sleepy>, std::sync::mpsc::Sender<bool>);

        impl Drop for AtEnd {
            fn drop(&mut self) {
                let _ = self.1.send(self.0.get("a").is_ok());
            }
        }

        thread_local! {
            static AT_END: std::cell::RefCell<Option<AtEnd>> = const { std::cell::RefCell::new(None) };
        }

        let cache = Sleepy(Memory::default()).blocking().unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            AT_END.with_borrow_mut(|at_end| *at_end = Some(AtEnd(cache.clone(), sender)));
            // Tokio's thread-local variables are dropped before it.
            cache.get("a").unwrap();
        });
        thread.join().unwrap();
        assert_eq!(receiver.recv(), Ok(true));
    }

    #[test]
    fn threads_can_share_a_backend() {
        let cache = Arc::new(Sleepy(Memory::default()).blocking().unwrap());
        let threads = (0..8).map(|n| {
            let cache = Arc::clone(&cache);
            std::thread::spawn(move || {
                let key = n.to_string();
                cache.set(&key, value("1")).unwrap();
                assert!(cache.get(&key).unwrap().is_some());
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().unwrap();
        }
    }
}

#[cfg(feature = "sha1")]
#[test]
fn sha1_names_match_python() {
    let cache = MapKeys::sha1(());
    // hashlib.sha1("ключ".encode("utf-8")).hexdigest()
    assert_eq!(
        cache.map_key("ключ"),
        "b36af61a5d76b466e25a17dd979530303417c16f"
    );
    assert_eq!(
        cache.map_key("abc"),
        "a9993e364706816aba3e25717850c26c9cd0d89d"
    );
}

#[tokio::test]
async fn a_million_failed_keys_yield_a_million_errors() {
    let keys: Vec<String> = (0..1_000_000).map(|n| n.to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let memory = Memory::default().failing("0", ErrorKind::Unavailable);
    let cache = memory.namespace("n").map_keys(|key| Cow::Borrowed(key));
    let inner = cache.get_ref().get_ref().clone();
    inner.failing("n:0", ErrorKind::Unavailable);
    let found = cache.get_multi(&keys).await;
    assert_eq!(found.len(), keys.len());
    for (found, key) in found.iter().zip(&keys) {
        assert_eq!(found.as_ref().unwrap_err().keys(), [*key]);
    }
}
