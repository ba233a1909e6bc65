//! Keys and values above the declared size are refused, and nothing else is affected.

use cache_core::{CachedValue, ErrorKind};

use crate::context::{Cache, Context, Outcome};
use crate::failure::{ensure, fail};
use crate::rule::{Requirement, Rule, rules};
use crate::show;

use super::keys::refuses;
use super::source::{KEYS, VALUES};

rules! {
    ($) limits, __rules_of_limits, VALUES, Rule::as_listed;

    the_longest_key_is_kept:
        "A key of the declared length is kept; a key that is one byte longer is refused.",
        source(KEYS), requires(&[Requirement::MaxKey]);
    too_large_is_an_error:
        "A payload of twice the declared size is refused with `ValueTooLarge` and the key.",
        requires(&[Requirement::MaxValue]);
    too_large_removes_the_old_value:
        "After a payload was refused as too large, the value that the key had before is gone.",
        requires(&[Requirement::MaxValue]);
    too_large_leaves_the_connection_usable:
        "After a payload was refused as too large, the next calls get their own results.",
        requires(&[Requirement::MaxValue]);
    too_large_fails_its_key_only:
        "In `set_multi`, payloads that are too large are a `Partial` error with their keys, wherever \
         they are; the rest is set.", requires(&[Requirement::MaxValue]);
    a_repeated_key_is_as_large_as_its_last_value:
        "In `set_multi`, only the last value of a repeated key decides whether it is too large.",
        requires(&[Requirement::MaxValue]);
    the_largest_payload_is_kept:
        "A payload of the declared size is kept.", requires(&[Requirement::MaxValue]);
}

async fn the_longest_key_is_kept(context: Context) -> Outcome {
    let cache = context.open().await?;
    let Some(max) = context.capabilities().max_key else {
        return Ok(());
    };
    let long = context.key(&"x".repeat(max));
    let longest = long.get(..max).unwrap_or_default();
    ensure!(
        !refuses(&cache, longest).await?,
        "a key of {max} bytes was refused, but the backend declares this length"
    );
    cache.hit(longest, "probe").await?;
    let too_long = long.get(..=max).unwrap_or_default();
    ensure!(
        refuses(&cache, too_long).await?,
        "a key of {} bytes was accepted, but the backend declares {max} as the maximum",
        max + 1
    );
    Ok(())
}

/// A value that must be refused.
fn too_large(context: &Context) -> CachedValue<Vec<u8>> {
    let max = context.capabilities().max_value.unwrap_or_default();
    CachedValue::new(context.rng().bytes(2 * max + 1))
}

async fn too_large_is_an_error(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    match cache.try_set(&key, too_large(&context)).await? {
        Err(error) if error.kind() == ErrorKind::ValueTooLarge => {
            if error.keys() != [key.as_str()] {
                fail!(
                    "set {key:?} of a payload that is too large: expected an error that names the \
                     key, got one that names {}",
                    show::keys(error.keys())
                );
            }
        }
        Err(error) => fail!("set {key:?}: expected ValueTooLarge, got {error}"),
        Ok(()) => fail!("set {key:?}: expected ValueTooLarge, got success"),
    }
    match cache
        .try_set_multi(vec![(&key, too_large(&context))])
        .await?
    {
        Err(error) if error.kind() == ErrorKind::ValueTooLarge => Ok(()),
        Err(error) => fail!("set_multi of that one key: expected ValueTooLarge, got {error}"),
        Ok(()) => fail!("set_multi of that one key: expected ValueTooLarge, got success"),
    }
}

async fn too_large_removes_the_old_value(context: Context) -> Outcome {
    let cache = context.open().await?;
    let (one, two) = (context.key("one"), context.key("two"));
    cache.put_multi(&[(&one, b"old"), (&two, b"old")]).await?;
    let _ = cache.try_set(&one, too_large(&context)).await?;
    cache.miss(&one).await?;
    let value = CachedValue::new(b"new".to_vec());
    let entries = vec![(one.as_str(), value), (two.as_str(), too_large(&context))];
    let _ = cache.try_set_multi(entries).await?;
    cache.answers(&[&two, &one], &[None, Some(b"new")]).await
}

async fn too_large_leaves_the_connection_usable(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = context.keys(8);
    let large = context.key("large");
    for round in 0..4 {
        for key in &keys {
            cache.put(key, format!("{round} of {key}")).await?;
        }
        let _ = cache.try_set(&large, too_large(&context)).await?;
        for key in &keys {
            cache.hit(key, format!("{round} of {key}")).await?;
        }
    }
    Ok(())
}

async fn too_large_fails_its_key_only(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = context.keys(5);
    let large = context.key("large");
    let mut entries: Vec<(&str, CachedValue<Vec<u8>>)> = keys
        .iter()
        .map(|key| (key.as_str(), CachedValue::new(b"small".to_vec())))
        .collect();
    entries.insert(2, (&large, too_large(&context)));
    match cache.try_set_multi(entries).await? {
        Err(error) if error.kind() == ErrorKind::Partial => {
            if error.keys() != [large.as_str()] {
                fail!(
                    "set_multi: expected an error that names {large:?}, which alone is too large, \
                     got one that names {}",
                    show::keys(error.keys())
                );
            }
        }
        Err(error) => fail!("set_multi with {large:?} too large: expected Partial, got {error}"),
        Ok(()) => fail!("set_multi with {large:?} too large: expected Partial, got success"),
    }
    for key in &keys {
        cache.hit(key, "small").await?;
    }
    cache.miss(&large).await?;
    several_fail_alone(&context, &cache).await
}

/// Two payloads that are too large, far apart, and a key that is too long, if there is a limit.
async fn several_fail_alone(context: &Context, cache: &Cache) -> Outcome {
    let small = || CachedValue::new(b"small".to_vec());
    let keys = context.keys(context.within_capacity(300));
    let mut keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let [early, late] = ["early", "late"].map(|name| context.key(name));
    let too_long = context.capabilities().max_key.map(|max| {
        let mut key = context.key(&"x".repeat(max));
        key.truncate(max + 1);
        key
    });
    cache
        .put_multi(&[(&early, b"old"), (&late, b"old")])
        .await?;
    let valid = keys.clone();
    let mut failing = vec![early.as_str(), late.as_str()];
    keys.insert(2, &early);
    keys.insert(keys.len() - 20, &late);
    if let Some(key) = &too_long {
        failing.push(key);
        keys.insert(keys.len() / 2, key);
    }
    let entries = keys.iter().map(|key| match *key {
        key if key == early || key == late => (key, too_large(context)),
        key => (key, small()),
    });
    let done = cache.try_set_multi(entries.collect()).await?;
    let named = match &done {
        Err(error) if error.kind() == ErrorKind::Partial => error.keys(),
        _ => &[],
    };
    let is_named = |key: &&str| named.iter().any(|named| named == key);
    ensure!(
        named.len() == failing.len() && failing.iter().all(is_named),
        "set_multi of {} keys: expected a Partial error that names {}, got {}",
        keys.len(),
        show::keys(&failing),
        crate::cache::done(&done)
    );
    cache.answers(&[&early, &late], &[None; 2]).await?;
    cache
        .answers(&valid, &vec![Some(&b"small"[..]); valid.len()])
        .await
}

async fn a_repeated_key_is_as_large_as_its_last_value(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [a, b, c] = ["a", "b", "c"].map(|name| context.key(name));
    let small = || CachedValue::new(b"small".to_vec());
    for key in [&a, &b, &c] {
        cache.put(key, "old").await?;
    }
    let first = vec![
        (a.as_str(), too_large(&context)),
        (b.as_str(), small()),
        (a.as_str(), small()),
    ];
    cache.set_multi(first).await?;
    cache.answers(&[&a, &b], &[Some(&b"small"[..]); 2]).await?;
    let last = vec![
        (a.as_str(), small()),
        (c.as_str(), small()),
        (a.as_str(), too_large(&context)),
    ];
    match cache.try_set_multi(last).await? {
        Err(error) if error.kind() == ErrorKind::Partial && error.keys() == [a.as_str()] => {}
        other => fail!(
            "set_multi with {a:?} small and then too large: expected a Partial error that names \
             it, got {}",
            crate::cache::done(&other)
        ),
    }
    cache.answers(&[&a, &c], &[None, Some(b"small")]).await?;
    let alone = vec![(b.as_str(), small()), (b.as_str(), too_large(&context))];
    match cache.try_set_multi(alone).await? {
        Err(error) if error.kind() == ErrorKind::ValueTooLarge && error.keys() == [b.as_str()] => {}
        other => fail!(
            "set_multi of {b:?} alone, small and then too large: expected ValueTooLarge that \
             names it, got {}",
            crate::cache::done(&other)
        ),
    }
    cache.miss(&b).await
}

async fn the_largest_payload_is_kept(context: Context) -> Outcome {
    let cache = context.open().await?;
    let max = context.capabilities().max_value.unwrap_or_default();
    let (one, two) = (context.key("one"), context.key("two"));
    let payload = context.rng().bytes(max);
    cache.put(&one, payload.clone()).await?;
    cache.put_multi(&[(&two, &payload)]).await?;
    cache.hit(&one, &payload).await?;
    cache.answers(&[&two], &[Some(&payload)]).await
}
