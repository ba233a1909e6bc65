//! Mutants about expiry during concurrent calls.

use std::time::Duration;

use tokio::task::yield_now;

use super::parallel::pause;
use crate::mutants::backend::{self, Backend};
use crate::mutants::mutant::{Mutant, wrong};
use crate::mutants::store::{Store, Value};

/// Writes the payload, which has the deadline of the previous value for a while, and then the
/// deadline.
fn in_two_steps(pausing: bool) -> Backend {
    let set = move |store: Store, key: String, value: Value| async move {
        let old = store.entry(&key).and_then(|(_, deadline)| deadline);
        store.write_until(&key, value.clone(), old);
        if pausing {
            pause().await;
        } else {
            yield_now().await;
        }
        backend::set(&store, &key, value)
    };
    Backend::right().async_set(set)
}

/// Whether the value expires soon.
fn is_about_to_expire(found: &Value) -> bool {
    let left = found.ttl().duration();
    left.is_some_and(|left| left < Duration::from_millis(30))
}

pub(super) fn races() -> Vec<Mutant> {
    vec![
        wrong(
            "races::histories_with_deadlines_are_linearizable",
            "reports a set with a TTL before it is applied",
            Backend::right().set(|store, key, value| {
                if value.ttl().duration().is_none() {
                    return backend::set(store, key, value);
                }
                let (store, key) = (store.clone(), key.to_owned());
                tokio::spawn(async move {
                    pause().await;
                    backend::set(&store, &key, value)
                });
                Ok(())
            }),
        ),
        wrong(
            "races::histories_with_deadlines_are_linearizable",
            "lets the second instance serve expired values for a minute",
            Backend::right().get(|store, key| {
                let found = store.read(key);
                if store.is_first() || found.is_some() {
                    return Ok(found);
                }
                let late = store.entry(key).filter(|(_, deadline)| {
                    deadline
                        .is_some_and(|deadline| store.now() < deadline + Duration::from_secs(60))
                });
                Ok(late.map(|(value, _)| value))
            }),
        ),
        wrong(
            "races::a_deadline_goes_with_its_payload",
            "sets the value before its deadline",
            in_two_steps(true),
        ),
        wrong(
            "races::a_deadline_goes_with_its_payload",
            "gives a value the deadline of another write",
            Backend::right().async_set(async |store: Store, key: String, value: Value| {
                let deadline = store.deadline(&value);
                let now = store.now();
                // One place for all callers.
                store.list().clear();
                if let Some(deadline) = deadline {
                    store.list().push((deadline, key.clone()));
                }
                pause().await;
                let kept = store.list().first().map(|(deadline, _)| *deadline);
                store.write_until(&key, value, kept.filter(|kept| *kept > now));
                Ok(())
            }),
        ),
        wrong(
            "races::a_dropped_set_leaves_no_mixture",
            "leaves a value with the old deadline when a set is dropped",
            in_two_steps(false),
        ),
        wrong(
            "races::a_set_at_the_deadline_stays",
            "finds an expired value, and removes its replacement a moment later",
            Backend::right().async_get(async |store: Store, key: String| {
                let found = store.read(&key);
                if found.is_none() && store.entry(&key).is_some() {
                    pause().await;
                    store.discard(&key);
                }
                Ok(found)
            }),
        ),
        wrong(
            "races::a_set_at_the_deadline_stays",
            "writes back a value that it read shortly before its deadline",
            Backend::right().async_get(write_back),
        ),
        wrong(
            "races::a_delete_at_the_deadline_stays",
            "writes back a value that was deleted during the read",
            Backend::right().async_get(write_back),
        ),
        wrong(
            "races::a_read_at_the_deadline_changes_nothing",
            "extends a value that is about to expire when it is read",
            Backend::right().get(|store, key| {
                let found = store.read(key);
                if let (Some(value), Some((entry, _))) = (&found, store.entry(key))
                    && is_about_to_expire(value)
                {
                    store.write(key, entry);
                }
                Ok(found)
            }),
        ),
    ]
}

/// Records in the entry that it was read.
async fn write_back(store: Store, key: String) -> cache_core::Result<Option<Value>> {
    let found = store.read(&key);
    if let (Some(value), Some((entry, deadline))) = (&found, store.entry(&key))
        && is_about_to_expire(value)
    {
        pause().await;
        store.write_until(&key, entry, deadline);
    }
    Ok(found)
}
