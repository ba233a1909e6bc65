//! [`Cache`], the backend as rules use it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cache_core::{CacheBackend, CachedValue, DynBackend, Error};

use crate::failure::{Failure, Trace, fail};
use crate::harness::{Opened, Options};
use crate::show;

pub(crate) type Outcome<T = ()> = Result<T, Failure>;
pub(crate) type Value = CachedValue<Vec<u8>>;
pub(crate) type Found = cache_core::Result<Option<Value>>;

/// The keys that a rule has written, to be removed when it ends.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written(Arc<Mutex<HashSet<String>>>);

impl Written {
    pub(crate) fn note(&self, key: &str) {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !keys.contains(key) {
            keys.insert(key.to_owned());
        }
    }

    pub(crate) fn take(&self) -> HashSet<String> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A backend whose operations are recorded and limited in time, and whose errors fail the rule. The
/// methods named `try_…` return errors to the rule.
#[derive(Clone)]
pub(crate) struct Cache {
    pub(super) opened: Arc<Opened>,
    pub(super) options: Options,
    pub(super) limit: Duration,
    pub(super) trace: Trace,
    pub(super) written: Written,
}

impl Cache {
    /// The backend itself, for wrappers. Its calls are neither limited nor recorded.
    pub(crate) fn raw(&self) -> &DynBackend<Vec<u8>> {
        &self.opened.backend
    }

    /// How many values the backend holds for calls that have not ended.
    pub(crate) fn values_held(&self) -> Outcome<usize> {
        match self.opened.values_held() {
            Some(held) => Ok(held),
            None => fail!(
                "the harness declares `no_values_left`, but does not override `Harness::values_held`"
            ),
        }
    }

    /// The operations of the backend that do not end at their first poll.
    pub(crate) fn pending_at_first_poll(&self, key: &str) -> Vec<&'static str> {
        self.opened.pending_at_first_poll(key)
    }

    /// The same backend, with keys in a namespace. They are not removed at the end.
    pub(crate) fn in_namespace(&self, namespace: &str) -> Self {
        Self {
            opened: Arc::new(self.opened.in_namespace(namespace)),
            written: Written::default(),
            ..self.clone()
        }
    }

    /// Removes this key when the rule ends, even if it is written without this type.
    pub(crate) fn will_write(&self, key: &str) {
        self.written.note(key);
    }

    /// Runs a call, records it, and fails the rule if it does not end.
    pub(crate) async fn call<T>(
        &self,
        what: String,
        call: impl Future<Output = T>,
        show: impl FnOnce(&T) -> String,
    ) -> Outcome<T> {
        let running = self.trace.begin(what.clone());
        let began = Instant::now();
        let answer = tokio::time::timeout(self.limit, call).await;
        running.end(&match &answer {
            Ok(answer) => format!(" -> {}", show(answer)),
            Err(_) => " -> no result".to_owned(),
        });
        match answer {
            // The task was woken by the timer and not by the response.
            Ok(answer) if began.elapsed() < self.limit => Ok(answer),
            _ => {
                let limit = self.limit;
                Err(Failure::hung(format!(
                    "{what} did not end within the call_limit of {limit:?}"
                )))
            }
        }
    }

    pub(crate) async fn try_get(&self, key: &str) -> Outcome<Found> {
        let call = self.raw().get(key);
        self.call(format!("get {}", show::key(key)), call, show::answer)
            .await
    }

    pub(crate) async fn try_set(&self, key: &str, value: Value) -> Outcome<cache_core::Result<()>> {
        self.will_write(key);
        let what = format!("set {} = {}", show::key(key), show::value(&value));
        let call = self.raw().set(key, value);
        self.call(what, call, done).await
    }

    pub(crate) async fn try_delete(&self, key: &str) -> Outcome<cache_core::Result<()>> {
        let call = self.raw().delete(key);
        self.call(format!("delete {}", show::key(key)), call, done)
            .await
    }

    /// One result for each key; any other number fails the rule.
    pub(crate) async fn try_get_multi(&self, keys: &[&str]) -> Outcome<Vec<Found>> {
        let what = format!("get_multi {}", show::keys(keys));
        let call = self.raw().get_multi(keys);
        let found = self.call(what, call, |found| show::answers(found)).await?;
        if found.len() != keys.len() {
            fail!(
                "get_multi {}: expected {} results, one for each key, got {}",
                show::keys(keys),
                keys.len(),
                found.len()
            );
        }
        Ok(found)
    }

    pub(crate) async fn try_set_multi(
        &self,
        entries: Vec<(&str, Value)>,
    ) -> Outcome<cache_core::Result<()>> {
        let shown: Vec<String> = entries.iter().take(show::SHOWN).map(show::entry).collect();
        let what = format!(
            "set_multi {{{}; {} in all}}",
            shown.join("; "),
            entries.len()
        );
        for (key, _) in &entries {
            self.will_write(key);
        }
        let call = self.raw().set_multi(entries);
        self.call(what, call, done).await
    }

    pub(crate) async fn try_delete_multi(&self, keys: &[&str]) -> Outcome<cache_core::Result<()>> {
        let call = self.raw().delete_multi(keys);
        self.call(format!("delete_multi {}", show::keys(keys)), call, done)
            .await
    }

    pub(crate) async fn get(&self, key: &str) -> Outcome<Option<Value>> {
        let found = self.try_get(key).await?;
        found.map_err(|error| failed(&format!("get {}", show::key(key)), &error))
    }

    pub(crate) async fn set(&self, key: &str, value: Value) -> Outcome {
        let done = self.try_set(key, value).await?;
        done.map_err(|error| failed(&format!("set {}", show::key(key)), &error))
    }

    /// `set` of a payload, cached now.
    pub(crate) async fn put(&self, key: &str, payload: impl Into<Vec<u8>>) -> Outcome {
        self.set(key, CachedValue::new(payload.into())).await
    }

    pub(crate) async fn delete(&self, key: &str) -> Outcome {
        let done = self.try_delete(key).await?;
        done.map_err(|error| failed(&format!("delete {}", show::key(key)), &error))
    }

    pub(crate) async fn get_multi(&self, keys: &[&str]) -> Outcome<Vec<Option<Value>>> {
        let found = self.try_get_multi(keys).await?;
        let found = found.into_iter().zip(keys).map(|(found, key)| {
            found.map_err(|error| failed(&format!("get_multi, at {}", show::key(key)), &error))
        });
        found.collect()
    }

    pub(crate) async fn set_multi(&self, entries: Vec<(&str, Value)>) -> Outcome {
        let what = format!("set_multi of {} keys", entries.len());
        let done = self.try_set_multi(entries).await?;
        done.map_err(|error| failed(&what, &error))
    }

    /// `set_multi` of payloads, cached now.
    pub(crate) async fn put_multi(&self, entries: &[(&str, &[u8])]) -> Outcome {
        let entries = entries
            .iter()
            .map(|(key, payload)| (*key, CachedValue::new(payload.to_vec())))
            .collect();
        self.set_multi(entries).await
    }

    pub(crate) async fn delete_multi(&self, keys: &[&str]) -> Outcome {
        let done = self.try_delete_multi(keys).await?;
        done.map_err(|error| failed(&format!("delete_multi {}", show::keys(keys)), &error))
    }

    /// `get` must return this payload.
    pub(crate) async fn hit(&self, key: &str, payload: impl AsRef<[u8]>) -> Outcome<Value> {
        let payload = payload.as_ref();
        match self.get(key).await? {
            Some(found) if found.payload() == payload => Ok(found),
            found => fail!(
                "get {}: {}",
                show::key(key),
                show::expected_payload(Some(payload), found.as_ref())
            ),
        }
    }

    /// `get` must miss.
    pub(crate) async fn miss(&self, key: &str) -> Outcome {
        match self.get(key).await? {
            None => Ok(()),
            found => fail!(
                "get {}: {}",
                show::key(key),
                show::expected_payload(None, found.as_ref())
            ),
        }
    }

    /// `get_multi` must return exactly these payloads.
    pub(crate) async fn answers(&self, keys: &[&str], expected: &[Option<&[u8]>]) -> Outcome {
        let found = self.get_multi(keys).await?;
        for (position, (key, (found, expected))) in
            keys.iter().zip(found.iter().zip(expected)).enumerate()
        {
            if found.as_ref().map(|found| found.payload().as_slice()) != *expected {
                fail!(
                    "get_multi, position {position}, {}: {}",
                    show::key(key),
                    show::expected_payload(*expected, found.as_ref())
                );
            }
        }
        Ok(())
    }
}

pub(crate) fn failed(what: &str, error: &Error) -> Failure {
    Failure::new(format!(
        "{what}: expected success, got the error \"{error}\""
    ))
}

pub(crate) fn done(done: &cache_core::Result<()>) -> String {
    match done {
        Ok(()) => "done".to_owned(),
        Err(error) => format!("the error \"{error}\""),
    }
}
