//! The basic operations.

use std::time::{Duration, Instant};

use crate::context::{Context, Outcome};
use crate::failure::Failure;
use crate::rule::{Rule, rules};

use super::source::{BOUNDS, MISSES, WRITES};
use super::tasks::interleaved;

rules! {
    ($) basic, __rules_of_basic, WRITES, Rule::as_listed;

    the_backend_can_be_reached:
        "The backend opens, and a first `set`, `get` and `delete` end without a transient error.",
        source(BOUNDS);
    an_absent_key_is_a_miss: "`get` of a key that was never set is `Ok(None)`.", source(MISSES);
    a_set_value_is_found: "`get` returns the payload that was set.";
    reading_does_not_consume: "A value is still there after it was read.";
    set_replaces: "A second `set` replaces the payload of the first.";
    delete_removes: "After `delete` the key is a miss.";
    deleting_an_absent_key_succeeds:
        "`delete` of an absent key succeeds, however often it is repeated.";
    a_deleted_key_can_be_set_again: "`set` after `delete` works as for a new key.";
    set_touches_its_key_only: "`set` does not affect other keys.";
    delete_touches_its_key_only:
        "`delete` does not affect other keys, even those that start with the deleted key.";
    many_keys_are_kept: "A few hundred values are all found.";
}

async fn the_backend_can_be_reached(context: Context) -> Outcome {
    pace(context).await.map(drop)
}

/// How long a call takes, if the backend can be used at all.
pub(crate) async fn pace(context: Context) -> Outcome<Duration> {
    const ROUNDS: u32 = 3;
    let cache = context.open().await?;
    let key = context.key("first");
    let value = || cache_core::CachedValue::new(b"value".to_vec());
    // The first may have to connect.
    let mut shortest = Duration::MAX;
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let calls = [
            cache.try_set(&key, value()).await?.err(),
            cache.try_get(&key).await?.err(),
            cache.try_delete(&key).await?.err(),
        ];
        shortest = shortest.min(began.elapsed() / 3);
        if let Some(error) = calls
            .into_iter()
            .flatten()
            .find(cache_core::Error::is_transient)
        {
            return Err(Failure::unopened(format!(
                "the backend cannot be reached: expected set, get and delete of {key:?} to \
                 succeed, got the error \"{error}\""
            )));
        }
    }
    Ok(shortest)
}

async fn an_absent_key_is_a_miss(context: Context) -> Outcome {
    let cache = context.open().await?;
    cache.miss(&context.key("never-set")).await
}

async fn a_set_value_is_found(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    cache.put(&key, "value").await?;
    cache.hit(&key, "value").await?;
    Ok(())
}

async fn reading_does_not_consume(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    cache.put(&key, "value").await?;
    for _ in 0..3 {
        cache.hit(&key, "value").await?;
        cache
            .answers(&[&key, &key], &[Some(b"value"), Some(b"value")])
            .await?;
    }
    Ok(())
}

async fn set_replaces(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    for payload in ["first", "second", "third"] {
        cache.put(&key, payload).await?;
        cache.hit(&key, payload).await?;
    }
    Ok(())
}

async fn delete_removes(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    cache.put(&key, "value").await?;
    cache.hit(&key, "value").await?;
    cache.delete(&key).await?;
    cache.miss(&key).await?;
    cache.miss(&key).await
}

async fn deleting_an_absent_key_succeeds(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    cache.delete(&key).await?;
    cache.put(&key, "value").await?;
    cache.delete(&key).await?;
    cache.delete(&key).await
}

async fn a_deleted_key_can_be_set_again(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    for payload in ["first", "second", "third"] {
        cache.put(&key, payload).await?;
        cache.hit(&key, payload).await?;
        cache.delete(&key).await?;
        cache.miss(&key).await?;
    }
    cache.put(&key, "last").await?;
    cache.hit(&key, "last").await?;
    Ok(())
}

async fn set_touches_its_key_only(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = ["k", "k1", "k10", "j", "kk"].map(|name| context.key(name));
    for key in &keys {
        cache.put(key, format!("of {key}")).await?;
    }
    let [first, others @ ..] = &keys;
    cache.put(first, "replaced").await?;
    for key in others {
        cache.hit(key, format!("of {key}")).await?;
    }
    cache.miss(&context.key("k2")).await
}

async fn delete_touches_its_key_only(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = ["k", "k1", "k10", "k:1", "k/1", "j", "kk"].map(|name| context.key(name));
    for key in &keys {
        cache.put(key, format!("of {key}")).await?;
    }
    let [first, others @ ..] = &keys;
    cache.delete(first).await?;
    cache.miss(first).await?;
    for key in others {
        cache.hit(key, format!("of {key}")).await?;
    }
    Ok(())
}

async fn many_keys_are_kept(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = context.keys(context.within_capacity(300));
    let cache = &cache;
    // In groups, because a server may be far away.
    for keys in keys.chunks(30) {
        let puts = keys.iter().map(|key| cache.put(key, format!("of {key}")));
        interleaved(puts).await?;
    }
    for keys in keys.chunks(30) {
        let hits = keys.iter().map(|key| async move {
            cache.hit(key, format!("of {key}")).await?;
            Ok(())
        });
        interleaved(hits).await?;
    }
    Ok(())
}
