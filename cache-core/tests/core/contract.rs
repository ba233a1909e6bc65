//! The guarantees of the types, most of which are checked at compile time.

use std::collections::HashMap;
use std::error::Error as _;
use std::fmt::{Debug, Display};
use std::sync::{Arc, Mutex};

use cache_core::wire::Metadata;
use cache_core::{
    CacheBackend, CacheBackendExt, CachedValue, Call, DynBackend, Error, ErrorKind, MapKeys,
    MissOnError, Observed, Operation, Result, ServerEvent, SwallowedErrors, Ttl, Typed,
};

/// Implements only the three required methods. Keys that begin with `down` or `large` fail.
#[derive(Clone, Default)]
struct Three(Arc<Mutex<HashMap<String, CachedValue<String>>>>);

fn fails(key: &str) -> Result<()> {
    let kind = match key.split_once(' ') {
        Some(("down", _)) => ErrorKind::Unavailable,
        Some(("large", _)) => ErrorKind::ValueTooLarge,
        _ => return Ok(()),
    };
    Err(Error::new(kind, "three", "it fails on demand").with_key(key))
}

impl CacheBackend for Three {
    type Value = String;

    async fn get(&self, key: &str) -> Result<Option<CachedValue<String>>> {
        fails(key)?;
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    async fn set(&self, key: &str, value: CachedValue<String>) -> Result<()> {
        fails(key)?;
        self.0.lock().unwrap().insert(key.to_owned(), value);
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<()> {
        fails(key)?;
        self.0.lock().unwrap().remove(key);
        Ok(())
    }
}

fn value(payload: &str) -> CachedValue<String> {
    CachedValue::new(payload.to_owned())
}

/// Generic code in its own task: every future must be `Send` for any backend, without an explicit
/// bound.
async fn in_a_task<B>(backend: B) -> Result<Vec<Option<String>>>
where
    B: CacheBackend<Value = String> + Clone + 'static,
{
    let task = tokio::spawn(async move {
        backend.set("a", value("1")).await?;
        backend.set_multi(vec![("b", value("2"))]).await?;
        backend.get("a").await?;
        backend.delete("c").await?;
        let found = backend.get_multi(&["b", "c", "a"]).await;
        let found: Vec<_> = found.into_iter().collect::<Result<_>>()?;
        backend.delete_multi(&["a", "b"]).await?;
        let found = found.into_iter();
        Ok(found
            .map(|found| found.map(CachedValue::into_payload))
            .collect())
    });
    task.await.unwrap()
}

#[tokio::test]
async fn generic_code_can_be_spawned_with_any_backend() {
    let expected = vec![Some("2".to_owned()), None, Some("1".to_owned())];
    let leaked: &'static Three = Box::leak(Box::default());
    assert_eq!(in_a_task(Three::default()).await.unwrap(), expected);
    assert_eq!(in_a_task(leaked).await.unwrap(), expected);
    assert_eq!(
        in_a_task(Box::new(Three::default())).await.unwrap(),
        expected
    );
    assert_eq!(
        in_a_task(Arc::new(Three::default())).await.unwrap(),
        expected
    );
    assert_eq!(
        in_a_task(DynBackend::new(Three::default())).await.unwrap(),
        expected
    );
    let wrapped = Three::default()
        .miss_on_error()
        .namespace("ns")
        .observed(|_: &Call<'_>| ());
    assert_eq!(in_a_task(wrapped).await.unwrap(), expected);
    assert_eq!(in_a_task(Some(Three::default())).await.unwrap(), expected);
    let nothing = vec![None, None, None];
    assert_eq!(in_a_task(None::<Three>).await.unwrap(), nothing);
}

/// The handle hides the type and is itself a backend, so that another handle can wrap it.
#[tokio::test]
async fn backends_of_different_types_fit_in_one_list() {
    let one = Three::default();
    let backends: Vec<DynBackend<String>> = vec![
        DynBackend::new(one.clone()),
        one.clone().namespace("ns").into_dyn(),
        DynBackend::new(DynBackend::new(Arc::new(one.clone()))),
    ];
    for (number, backend) in backends.iter().enumerate() {
        let name = number.to_string();
        backend.set(&name, value(&name)).await.unwrap();
        assert_eq!(*backend.get(&name).await.unwrap().unwrap().payload(), name);
    }
    assert_eq!(one.0.lock().unwrap().len(), 3);
    assert!(one.0.lock().unwrap().contains_key("ns:1"));
}

#[test]
fn public_types_implement_the_common_traits() {
    fn is_shared<T: Clone + Debug + Send + Sync>() {}
    fn is_plain<T: Clone + Eq + std::hash::Hash + Debug + Send + Sync + Unpin + 'static>() {}
    fn is_error<T: std::error::Error + Debug + Display + Clone + Send + Sync + 'static>() {}
    is_shared::<DynBackend<String>>();
    is_shared::<MapKeys<DynBackend<String>>>();
    is_shared::<MissOnError<DynBackend<String>>>();
    is_shared::<Observed<DynBackend<String>>>();
    is_shared::<Typed<String, DynBackend<Vec<u8>>>>();
    #[cfg(feature = "blocking")]
    is_shared::<cache_core::Blocking<DynBackend<String>>>();
    #[cfg(feature = "json")]
    is_shared::<cache_core::Json>();
    is_shared::<SwallowedErrors>();
    is_shared::<ServerEvent>();
    is_shared::<Call<'_>>();
    is_plain::<CachedValue<u8>>();
    is_plain::<ErrorKind>();
    is_plain::<Metadata>();
    is_plain::<Operation>();
    is_plain::<Ttl>();
    is_error::<Error>();
}

#[tokio::test]
async fn the_default_multi_operations_are_correct() {
    let backend = Three::default();
    let entries = vec![("a", value("1")), ("b", value("2")), ("a", value("3"))];
    backend.set_multi(entries).await.unwrap();
    let found = backend.get_multi(&["b", "x", "a", "b"]).await;
    let payloads: Vec<_> = found
        .iter()
        .map(|found| found.as_ref().unwrap().as_ref().map(CachedValue::payload))
        .collect();
    let (two, three) = ("2".to_owned(), "3".to_owned());
    assert_eq!(payloads, [Some(&two), None, Some(&three), Some(&two)]);
    backend.delete_multi(&["x", "a", "a"]).await.unwrap();
    assert_eq!(backend.0.lock().unwrap().len(), 1);
    assert!(backend.get_multi(&[]).await.is_empty());
    backend.set_multi(Vec::new()).await.unwrap();
    backend.delete_multi(&[]).await.unwrap();
}

#[tokio::test]
async fn get_multi_returns_a_result_for_each_key() {
    let backend = Three::default();
    for key in ["a", "b"] {
        backend.set(key, value(key)).await.unwrap();
    }
    // A permanent error: the remaining keys are still requested.
    let found = backend.get_multi(&["a", "large 1", "x", "b"]).await;
    assert!(found[0].as_ref().unwrap().is_some());
    let error = found[1].as_ref().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
    assert_eq!(error.keys(), ["large 1"]);
    assert!(found[2].as_ref().unwrap().is_none());
    assert!(found[3].as_ref().unwrap().is_some());

    // A transient error: the remaining keys are not requested, and fail too.
    let found = backend.get_multi(&["a", "down 1", "b"]).await;
    assert!(found[0].as_ref().unwrap().is_some());
    for (found, key) in found[1..].iter().zip(["down 1", "b"]) {
        let error = found.as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.keys(), [key]);
    }
}

#[tokio::test]
async fn only_the_last_value_of_a_repeated_key_counts() {
    /// Refuses payloads of more than one byte.
    struct Narrow(Three);

    impl CacheBackend for Narrow {
        type Value = String;

        async fn get(&self, key: &str) -> Result<Option<CachedValue<String>>> {
            self.0.get(key).await
        }

        async fn set(&self, key: &str, value: CachedValue<String>) -> Result<()> {
            if value.payload().len() > 1 {
                self.0.delete(key).await?;
                let error = Error::new(ErrorKind::ValueTooLarge, "narrow", "1 byte at most");
                return Err(error.with_key(key));
            }
            self.0.set(key, value).await
        }

        async fn delete(&self, key: &str) -> Result<()> {
            self.0.delete(key).await
        }
    }

    let narrow = Narrow(Three::default());
    let too_large_first = vec![("a", value("22")), ("b", value("1")), ("a", value("3"))];
    narrow.set_multi(too_large_first).await.unwrap();
    let found = narrow.get("a").await.unwrap().unwrap();
    assert_eq!(found.payload(), "3");

    let too_large_last = vec![("a", value("4")), ("b", value("1")), ("a", value("22"))];
    let error = narrow.set_multi(too_large_last).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.keys()),
        (ErrorKind::Partial, &["a".to_owned()][..])
    );
    assert!(narrow.get("a").await.unwrap().is_none());
}

/// A handle accepts an immediate backend that does wait, and calls any other exactly once.
#[tokio::test]
async fn immediate_is_a_hint() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Claims {
        waits: bool,
        gets: AtomicUsize,
    }

    impl CacheBackend for Claims {
        type Value = String;

        const IMMEDIATE: bool = true;

        async fn get(&self, _: &str) -> Result<Option<CachedValue<String>>> {
            self.gets.fetch_add(1, Ordering::Relaxed);
            if self.waits {
                tokio::task::yield_now().await;
            }
            Ok(Some(value("found")))
        }

        async fn set(&self, _: &str, _: CachedValue<String>) -> Result<()> {
            Ok(())
        }

        async fn delete(&self, _: &str) -> Result<()> {
            Ok(())
        }
    }

    for waits in [false, true] {
        let claims = Arc::new(Claims {
            waits,
            ..Claims::default()
        });
        let handle = DynBackend::new(Arc::clone(&claims));
        assert!(handle.get("k").await.unwrap().is_some());
        assert_eq!(claims.gets.load(Ordering::Relaxed), 1 + usize::from(waits));
    }
}

#[tokio::test]
async fn a_partial_write_names_every_key_that_failed() {
    let backend = Three::default();
    // A permanent error: the remaining keys are still set.
    let keys = ["a", "large 1", "b", "large 2"];
    let entries = keys.map(|key| (key, value(key))).to_vec();
    let partial = backend.set_multi(entries).await.unwrap_err();
    assert_eq!(partial.kind(), ErrorKind::Partial);
    assert_eq!(partial.keys(), ["large 1", "large 2"]);
    assert!(!partial.is_transient());
    let cause: &Error = partial.source().unwrap().downcast_ref().unwrap();
    assert_eq!(cause.kind(), ErrorKind::ValueTooLarge);
    assert_eq!(backend.0.lock().unwrap().len(), 2);

    // A transient error: the remaining keys are not tried, and count as failed.
    let partial = backend
        .delete_multi(&["a", "down 1", "b"])
        .await
        .unwrap_err();
    assert_eq!(partial.kind(), ErrorKind::Partial);
    assert_eq!(partial.keys(), ["down 1", "b"]);
    assert!(partial.is_transient());
    assert_eq!(backend.0.lock().unwrap().len(), 1);

    // If all keys fail, the result is the error itself.
    let keys = ["down 1", "b"];
    let entries = keys.map(|key| (key, value(key))).to_vec();
    let all = backend.set_multi(entries).await.unwrap_err();
    assert_eq!(all.kind(), ErrorKind::Unavailable);
    assert_eq!(all.keys(), keys);
}
