//! How operations change deadlines, and how deadlines affect operations.

use std::time::{Duration, Instant, SystemTime};

use crate::context::{Cache, Context, Outcome};
use crate::rule::{Rule, rules};
use crate::rules::source::LIFETIMES;

use cache_core::CachedValue;

use super::value;
use crate::rules::keys::{kept_values, set_kept};
use crate::rules::life::{LONG, Life, short};

rules! {
    ($) expiry, __rules_of_expiry_deadlines, LIFETIMES, Rule::needs_ttl;

    a_longer_ttl_replaces_the_deadline: "`set` with a longer TTL postpones the deadline.";
    a_shorter_ttl_replaces_the_deadline: "`set` with a shorter TTL brings the deadline forward.";
    set_without_ttl_removes_the_deadline: "`set` without a TTL removes the deadline of the previous value.";
    delete_removes_the_deadline:
        "The deadline of a deleted value does not affect a value set under its key afterwards.";
    reading_does_not_extend:
        "`get` and `get_multi` do not change the deadline, however often they are called.";
    get_multi_misses_the_expired:
        "`get_multi` returns a miss at the position of an expired value, even if its key is repeated.";
    set_multi_keeps_each_ttl:
        "`set_multi` gives each value its own TTL, and the others the default.";
    set_multi_applies_the_default: "`set_multi` applies the default TTL to values without one.";
    the_last_of_repeated_keys_sets_the_deadline:
        "A key that is repeated in `set_multi` has the deadline of its last value.";
    an_expired_key_can_be_set_again: "`set` after expiry works like any other `set`.";
    deleting_an_expired_value_succeeds: "`delete` and `delete_multi` of an expired value succeed.";
    the_clock_starts_at_set: "A TTL counts from `set`, not from the cached time.";
    every_value_expires:
        "Values of any length, under any key that is kept, are misses from their deadline on.";
    many_expire_together:
        "Hundreds of values with the same deadline are all served before it, and none after.";
    expired_values_stay_expired:
        "An expired value does not reappear, whatever happens to other keys.";
}

async fn a_longer_ttl_replaces_the_deadline(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = context.keys(2);
    let ttl = short(&context);
    for key in &keys {
        cache.set(key, value().with_ttl(ttl)).await?;
    }
    let [one, two] = keys.as_slice() else {
        return Ok(());
    };
    let longer = || value().with_ttl(LONG);
    let life = Life::starts(&context, LONG, cache.set(one, longer())).await?;
    cache.set_multi(vec![(two, longer())]).await?;
    context.wait(ttl + Duration::from_millis(50)).await;
    life.check(&context, &cache, one).await?;
    life.check(&context, &cache, two).await
}

async fn a_shorter_ttl_replaces_the_deadline(context: Context) -> Outcome {
    let cache = context.open().await?;
    let (one, two) = (context.key("one"), context.key("two"));
    cache.set(&one, value().with_ttl(LONG)).await?;
    cache.put(&two, "for ever").await?;
    let ttl = short(&context);
    let shorter = || value().with_ttl(ttl);
    let life = Life::starts(&context, ttl, async {
        cache.set(&one, shorter()).await?;
        cache.set_multi(vec![(&two, shorter())]).await
    })
    .await?;
    life.ends(&context, &cache, &one).await?;
    cache.answers(&[&one, &two], &[None; 2]).await
}

async fn set_without_ttl_removes_the_deadline(context: Context) -> Outcome {
    let cache = context.open().await?;
    let (one, two) = (context.key("one"), context.key("two"));
    let ttl = short(&context);
    for key in [&one, &two] {
        cache.set(key, value().with_ttl(ttl)).await?;
    }
    cache.put(&one, "stays").await?;
    cache.put_multi(&[(&two, b"stays")]).await?;
    context.wait(ttl + Duration::from_millis(50)).await;
    cache
        .answers(&[&one, &two], &[Some(&b"stays"[..]); 2])
        .await
}

async fn delete_removes_the_deadline(context: Context) -> Outcome {
    let cache = context.open().await?;
    let (one, two) = (context.key("one"), context.key("two"));
    let ttl = short(&context);
    for key in [&one, &two] {
        cache.set(key, value().with_ttl(ttl)).await?;
    }
    cache.delete(&one).await?;
    cache.delete_multi(&[&two]).await?;
    for key in [&one, &two] {
        cache.put(key, "stays").await?;
    }
    context.wait(ttl + Duration::from_millis(50)).await;
    // Backends remove expired values when something else is set.
    cache.put(&context.key("other"), "other").await?;
    cache
        .answers(&[&one, &two], &[Some(&b"stays"[..]); 2])
        .await
}

async fn reading_does_not_extend(context: Context) -> Outcome {
    const READS: u32 = 20;
    let ttl = short(&context);
    let cache = context.open_with(ttl).await?;
    let (own, default) = (context.key("own"), context.key("default"));
    let life = Life::starts(&context, ttl, async {
        cache.set(&own, value().with_ttl(ttl)).await?;
        cache.set(&default, value()).await
    })
    .await?;
    for read in 1..=READS {
        for key in [&own, &default] {
            cache.get(key).await?;
            cache.get_multi(&[key, key]).await?;
        }
        context.wait_until(life.before + ttl * read / READS).await;
    }
    context.wait_until(life.over).await;
    cache.answers(&[&own, &default], &[None; 2]).await
}

async fn get_multi_misses_the_expired(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [stays, goes] = ["stays", "goes"].map(|name| context.key(name));
    cache.put(&stays, "value").await?;
    let ttl = short(&context);
    let life = Life::starts(&context, ttl, cache.set(&goes, value().with_ttl(ttl))).await?;
    context.wait_until(life.over).await;
    // Without a `get` before, which might remove the expired value.
    let hit: Option<&[u8]> = Some(b"value");
    cache
        .answers(&[&goes, &stays, &goes, &stays], &[None, hit, None, hit])
        .await
}

async fn set_multi_keeps_each_ttl(context: Context) -> Outcome {
    let cache = context.open_with(LONG).await?;
    let [brief, longer, default] = ["brief", "longer", "default"].map(|name| context.key(name));
    let ttl = short(&context);
    let life = Life::starts(&context, ttl, async {
        let entries = vec![
            (default.as_str(), value()),
            (brief.as_str(), value().with_ttl(ttl)),
            (longer.as_str(), value().with_ttl(2 * LONG)),
        ];
        cache.set_multi(entries).await
    })
    .await?;
    life.runs(&context, &cache, &brief).await?;
    let hit: Option<&[u8]> = Some(b"value");
    cache
        .answers(&[&brief, &longer, &default], &[None, hit, hit])
        .await
}

async fn set_multi_applies_the_default(context: Context) -> Outcome {
    let ttl = short(&context);
    let cache = context.open_with(ttl).await?;
    let (one, two) = (context.key("one"), context.key("two"));
    let entries: [(&str, &[u8]); 2] = [(&one, b"value"), (&two, b"value")];
    let life = Life::starts(&context, ttl, cache.put_multi(&entries)).await?;
    life.runs(&context, &cache, &one).await?;
    cache.answers(&[&one, &two], &[None; 2]).await
}

async fn the_last_of_repeated_keys_sets_the_deadline(context: Context) -> Outcome {
    let cache = context.open().await?;
    let (stays, goes) = (context.key("stays"), context.key("goes"));
    let ttl = short(&context);
    let brief = || value().with_ttl(ttl);
    let life = Life::starts(&context, ttl, async {
        let entries = vec![
            (stays.as_str(), brief()),
            (goes.as_str(), value()),
            (stays.as_str(), value()),
            (goes.as_str(), brief()),
        ];
        cache.set_multi(entries).await
    })
    .await?;
    life.ends(&context, &cache, &goes).await?;
    cache
        .answers(&[&goes, &stays], &[None, Some(b"value")])
        .await
}

async fn an_expired_key_can_be_set_again(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    let ttl = short(&context);
    for _ in 0..2 {
        let life = Life::starts(&context, ttl, cache.set(&key, value().with_ttl(ttl))).await?;
        life.check(&context, &cache, &key).await?;
        life.ends(&context, &cache, &key).await?;
    }
    cache.put(&key, "stays").await?;
    cache.hit(&key, "stays").await?;
    Ok(())
}

async fn deleting_an_expired_value_succeeds(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [one, two, stays] = ["one", "two", "stays"].map(|name| context.key(name));
    cache.put(&stays, "value").await?;
    let ttl = short(&context);
    let life = Life::starts(&context, ttl, async {
        cache.set(&one, value().with_ttl(ttl)).await?;
        cache.set(&two, value().with_ttl(ttl)).await
    })
    .await?;
    context.wait_until(life.over).await;
    cache.delete(&one).await?;
    cache.delete_multi(&[&one, &two]).await?;
    cache
        .answers(&[&one, &two, &stays], &[None, None, Some(b"value")])
        .await
}

async fn the_clock_starts_at_set(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [past, future] = ["past", "future"].map(|name| context.key(name));
    let now = SystemTime::now();
    let ttl = short(&context);
    let old = value().with_cached_at(now - 2 * LONG).with_ttl(LONG);
    cache.set(&past, old).await?;
    cache.hit(&past, "value").await?;
    let early = value().with_cached_at(now + LONG).with_ttl(ttl);
    let life = Life::starts(&context, ttl, cache.set(&future, early)).await?;
    life.ends(&context, &cache, &future).await?;
    cache.hit(&past, "value").await?;
    Ok(())
}

/// Judges what one `get_multi` finds at this moment.
async fn judge_all(
    context: &Context,
    cache: &Cache,
    life: &Life,
    keys: &[&str],
    moment: Instant,
) -> Outcome {
    context.wait_until(moment).await;
    let began = context.now();
    let found = cache.get_multi(keys).await?;
    let read = (began, context.now());
    for (key, found) in keys.iter().zip(&found) {
        life.judge(key, read, found.as_ref())?;
    }
    Ok(())
}

async fn every_value_expires(context: Context) -> Outcome {
    let cache = context.open().await?;
    let kept = kept_values(&context, &cache).await?;
    let keys: Vec<&str> = kept.iter().map(|(key, _)| key.as_str()).collect();
    let ttl = short(&context);
    let value = |payload: &[u8]| CachedValue::new(payload.to_vec()).with_ttl(ttl);
    for in_one_call in [false, true] {
        let set = set_kept(&cache, &kept, value, in_one_call);
        let life = Life::starts(&context, ttl, set).await?;
        for moment in [life.after, life.over] {
            judge_all(&context, &cache, &life, &keys, moment).await?;
        }
        for key in &keys {
            cache.miss(key).await?;
        }
    }
    Ok(())
}

async fn many_expire_together(context: Context) -> Outcome {
    /// More than a batch, unless calls are slow.
    const MOST: usize = 1_200;
    const LEAST: usize = 400;
    let cache = context.open().await?;
    let ttl = short(&context) * 3;
    let keys = context.keys(context.within_capacity(context.scaled(MOST, LEAST)));
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let life = Life::starts(&context, ttl, async {
        let entries = keys.iter().map(|key| (*key, value().with_ttl(ttl)));
        cache.set_multi(entries.collect()).await
    })
    .await?;
    for moment in [life.after, life.before + ttl / 2, life.over] {
        judge_all(&context, &cache, &life, &keys, moment).await?;
    }
    Ok(())
}

async fn expired_values_stay_expired(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    let ttl = short(&context);
    cache.put(&key, "older").await?;
    let life = Life::starts(&context, ttl, cache.set(&key, value().with_ttl(ttl))).await?;
    life.ends(&context, &cache, &key).await?;
    let others = context.keys(20);
    for other in &others {
        cache.put(other, "other").await?;
    }
    cache.delete(&context.key("k0")).await?;
    for _ in 0..2 {
        cache.miss(&key).await?;
        context.wait(ttl / 2).await;
    }
    cache.miss(&key).await
}
