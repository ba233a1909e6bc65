//! What makes it a cache at all.

use crate::context::{Context, Outcome};
use crate::rule::{Rule, rule};

use super::source::{MISSES, WRITES};
use super::tasks::interleaved;

pub(crate) const RULES: &[Rule] = &[
    rule!(
        "basic",
        an_absent_key_is_a_miss,
        MISSES,
        "`get` of a key that was never set is `Ok(None)`."
    ),
    rule!(
        "basic",
        a_set_value_is_found,
        WRITES,
        "`get` finds the payload that was set."
    ),
    rule!(
        "basic",
        reading_does_not_consume,
        WRITES,
        "A value is still there after it was read."
    ),
    rule!(
        "basic",
        set_replaces,
        WRITES,
        "A second `set` replaces the payload of the first."
    ),
    rule!(
        "basic",
        delete_removes,
        WRITES,
        "After `delete` the key is a miss."
    ),
    rule!(
        "basic",
        deleting_an_absent_key_succeeds,
        WRITES,
        "`delete` of a key that is not there is no error, the first time and the second."
    ),
    rule!(
        "basic",
        a_deleted_key_can_be_set_again,
        WRITES,
        "`set` after `delete` is as any other `set`."
    ),
    rule!(
        "basic",
        set_touches_its_key_only,
        WRITES,
        "`set` leaves all other keys alone."
    ),
    rule!(
        "basic",
        delete_touches_its_key_only,
        WRITES,
        "`delete` leaves all other keys alone, those too that begin with the deleted one."
    ),
    rule!(
        "basic",
        many_keys_are_kept,
        WRITES,
        "A few hundred values are all found again."
    ),
];

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
    let keys = context.keys(300);
    let cache = &cache;
    // Some at a time, since a server may be far away.
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
