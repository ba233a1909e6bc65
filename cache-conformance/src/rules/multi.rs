//! Operations on several keys.

use cache_core::{CachedValue, ErrorKind};

use crate::context::{Context, Outcome};
use crate::failure::fail;
use crate::rule::{Rule, rule};

use super::source::MULTI;

pub(crate) const RULES: &[Rule] = &[
    rule!(
        "multi",
        order_is_kept,
        MULTI,
        "`get_multi` answers in the order of the keys, whatever order they were set in."
    ),
    rule!(
        "multi",
        duplicates_are_answered_in_place,
        MULTI,
        "`get_multi` answers a key that is asked several times in each of its places."
    ),
    rule!(
        "multi",
        misses_stay_in_place,
        MULTI,
        "`get_multi` answers a miss in its place, wherever it stands."
    ),
    rule!(
        "multi",
        only_misses_are_answered,
        MULTI,
        "`get_multi` of absent keys alone answers as many misses."
    ),
    rule!(
        "multi",
        no_keys_are_no_work,
        MULTI,
        "Multi operations on no keys succeed, and `get_multi` answers nothing."
    ),
    rule!(
        "multi",
        one_key_is_enough,
        MULTI,
        "Multi operations on a single key do what the single operations do."
    ),
    rule!(
        "multi",
        set_multi_sets_each,
        MULTI,
        "After `set_multi` each key has its own value, new or replaced."
    ),
    rule!(
        "multi",
        the_last_of_repeated_keys_wins,
        MULTI,
        "A key that is repeated in `set_multi` ends with its last value, next to it and far away."
    ),
    rule!(
        "multi",
        delete_multi_removes_exactly_those,
        MULTI,
        "`delete_multi` removes its keys and no others."
    ),
    rule!(
        "multi",
        delete_multi_takes_absent_keys,
        MULTI,
        "An absent key in `delete_multi` is no error, and the keys around it are removed."
    ),
    rule!(
        "multi",
        delete_multi_takes_repeated_keys,
        MULTI,
        "A key that is repeated in `delete_multi` is no error."
    ),
    rule!(
        "multi",
        an_invalid_key_refuses_set_multi,
        MULTI,
        "`set_multi` with an invalid key sets nothing, wherever the key stands."
    ),
    rule!(
        "multi",
        an_invalid_key_refuses_delete_multi,
        MULTI,
        "`delete_multi` with an invalid key removes nothing, wherever the key stands."
    ),
    rule!(
        "multi",
        an_invalid_key_refuses_get_multi,
        MULTI,
        "`get_multi` with an invalid key is an error, and no list with a gap."
    ),
    rule!(
        "multi",
        more_keys_than_a_batch,
        MULTI,
        "A thousand keys with repetitions and misses are set, read and deleted in one call each."
    ),
    rule!(
        "multi",
        more_bytes_than_a_message,
        MULTI,
        "Values of six mebibytes in all are set and read in one call each."
    ),
    rule!(
        "multi",
        odd_keys_keep_their_places,
        MULTI,
        "Keys that are encoded on their way are answered in their own places."
    ),
];

async fn order_is_kept(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = context.keys(12);
    for key in keys.iter().rev() {
        cache.put(key, key.as_str()).await?;
    }
    for step in [1, 5, 7, 11] {
        let asked: Vec<&str> = (0..keys.len())
            .filter_map(|i| keys.get(i * step % keys.len()).map(String::as_str))
            .collect();
        let expected: Vec<_> = asked.iter().map(|key| Some(key.as_bytes())).collect();
        cache.answers(&asked, &expected).await?;
    }
    Ok(())
}

async fn duplicates_are_answered_in_place(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [a, b, absent] = ["a", "b", "absent"].map(|name| context.key(name));
    cache.put(&a, "1").await?;
    cache.put(&b, "2").await?;
    let (one, two): (Option<&[u8]>, Option<&[u8]>) = (Some(b"1"), Some(b"2"));
    cache.answers(&[&a, &a], &[one, one]).await?;
    cache.answers(&[&a, &b, &a], &[one, two, one]).await?;
    cache
        .answers(&[&b, &a, &a, &b, &b], &[two, one, one, two, two])
        .await?;
    cache
        .answers(
            &[&absent, &a, &absent, &a, &absent],
            &[None, one, None, one, None],
        )
        .await
}

async fn misses_stay_in_place(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = context.keys(5);
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    // Each pattern of hits and misses.
    for pattern in 0..32_u32 {
        let is_set = |i: usize| pattern & (1 << i) != 0;
        for (i, key) in asked.iter().enumerate() {
            if is_set(i) {
                cache.put(key, *key).await?;
            } else {
                cache.delete(key).await?;
            }
        }
        let expected: Vec<Option<&[u8]>> = asked
            .iter()
            .enumerate()
            .map(|(i, key)| is_set(i).then_some(key.as_bytes()))
            .collect();
        cache.answers(&asked, &expected).await?;
    }
    Ok(())
}

async fn only_misses_are_answered(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = context.keys(3);
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    cache.answers(&asked, &[None; 3]).await
}

async fn no_keys_are_no_work(context: Context) -> Outcome {
    let cache = context.open().await?;
    cache.answers(&[], &[]).await?;
    cache.set_multi(Vec::new()).await?;
    cache.delete_multi(&[]).await
}

async fn one_key_is_enough(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    cache.put_multi(&[(&key, b"value")]).await?;
    cache.hit(&key, "value").await?;
    cache.answers(&[&key], &[Some(b"value")]).await?;
    cache.delete_multi(&[&key]).await?;
    cache.miss(&key).await
}

async fn set_multi_sets_each(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [new, old, other] = ["new", "old", "other"].map(|name| context.key(name));
    cache.put(&old, "old").await?;
    cache
        .put_multi(&[(&new, b"1"), (&old, b"2"), (&other, b"3")])
        .await?;
    cache.hit(&new, "1").await?;
    cache.hit(&old, "2").await?;
    cache.hit(&other, "3").await?;
    Ok(())
}

async fn the_last_of_repeated_keys_wins(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [a, b] = ["a", "b"].map(|name| context.key(name));
    cache
        .put_multi(&[(&a, b"1"), (&a, b"2"), (&b, b"3"), (&a, b"4"), (&b, b"5")])
        .await?;
    cache.hit(&a, "4").await?;
    cache.hit(&b, "5").await?;
    // So far apart that they may travel in different batches.
    let keys = context.keys(400);
    let mut entries: Vec<(&str, &[u8])> = vec![(&a, b"early")];
    entries.extend(keys.iter().map(|key| (key.as_str(), key.as_bytes())));
    entries.push((&a, b"late"));
    cache.put_multi(&entries).await?;
    cache.hit(&a, "late").await?;
    Ok(())
}

async fn delete_multi_removes_exactly_those(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = context.keys(9);
    for key in &keys {
        cache.put(key, key.as_str()).await?;
    }
    let doomed: Vec<&str> = keys.iter().step_by(2).map(String::as_str).collect();
    cache.delete_multi(&doomed).await?;
    for (i, key) in keys.iter().enumerate() {
        if i % 2 == 0 {
            cache.miss(key).await?;
        } else {
            cache.hit(key, key).await?;
        }
    }
    Ok(())
}

async fn delete_multi_takes_absent_keys(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [a, b, absent, gone] = ["a", "b", "absent", "gone"].map(|name| context.key(name));
    cache.delete_multi(&[&absent, &gone]).await?;
    for order in [[&absent, &a, &b], [&a, &absent, &b], [&a, &b, &absent]] {
        cache.put(&a, "1").await?;
        cache.put(&b, "2").await?;
        let order = order.map(String::as_str);
        cache.delete_multi(&order).await?;
        cache.answers(&order, &[None; 3]).await?;
    }
    Ok(())
}

async fn delete_multi_takes_repeated_keys(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [a, b] = ["a", "b"].map(|name| context.key(name));
    cache.put(&a, "1").await?;
    cache.put(&b, "2").await?;
    cache.delete_multi(&[&a, &b, &a, &a]).await?;
    cache.answers(&[&a, &b], &[None; 2]).await
}

/// Each place that the invalid key can take among two others.
fn with_the_empty_key<'k>(a: &'k str, b: &'k str) -> [[&'k str; 3]; 3] {
    [["", a, b], [a, "", b], [a, b, ""]]
}

fn refused<T>(operation: &str, answer: cache_core::Result<T>) -> Outcome {
    match answer {
        Err(error) if error.kind() == ErrorKind::InvalidKey => Ok(()),
        Err(error) => fail!("{operation} with the empty key: expected InvalidKey, got {error}"),
        Ok(_) => fail!("{operation} with the empty key: expected InvalidKey, got success"),
    }
}

async fn an_invalid_key_refuses_set_multi(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [a, b] = ["a", "b"].map(|name| context.key(name));
    cache.put(&a, "old").await?;
    for keys in with_the_empty_key(&a, &b) {
        let value = CachedValue::new(b"new".to_vec());
        let entries = keys.map(|key| (key, value.clone())).to_vec();
        refused("set_multi", cache.try_set_multi(entries).await?)?;
        cache.answers(&[&a, &b], &[Some(b"old"), None]).await?;
    }
    Ok(())
}

async fn an_invalid_key_refuses_delete_multi(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [a, b] = ["a", "b"].map(|name| context.key(name));
    cache.put_multi(&[(&a, b"1"), (&b, b"2")]).await?;
    for keys in with_the_empty_key(&a, &b) {
        refused("delete_multi", cache.try_delete_multi(&keys).await?)?;
        cache.answers(&[&a, &b], &[Some(b"1"), Some(b"2")]).await?;
    }
    Ok(())
}

async fn an_invalid_key_refuses_get_multi(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [a, b] = ["a", "b"].map(|name| context.key(name));
    for keys in with_the_empty_key(&a, &b) {
        refused("get_multi", cache.try_get_multi(&keys).await?)?;
    }
    cache.put_multi(&[(&a, b"1"), (&b, b"2")]).await?;
    for keys in with_the_empty_key(&a, &b) {
        refused("get_multi", cache.try_get_multi(&keys).await?)?;
    }
    Ok(())
}

async fn more_keys_than_a_batch(context: Context) -> Outcome {
    const KEYS: usize = 1000;
    let cache = context.open().await?;
    let keys = context.keys(KEYS);
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    // Every seventh key stays absent.
    let is_set = |i: usize| !i.is_multiple_of(7);
    let entries: Vec<(&str, &[u8])> = keys
        .iter()
        .enumerate()
        .filter(|(i, _)| is_set(*i))
        .map(|(_, key)| (*key, key.as_bytes()))
        .collect();
    cache.put_multi(&entries).await?;
    let mut asked: Vec<&str> = Vec::new();
    let mut expected: Vec<Option<&[u8]>> = Vec::new();
    for i in 0..KEYS + 200 {
        // Scattered, and some of them twice.
        let place = i * 617 % KEYS;
        if let Some(key) = keys.get(place) {
            asked.push(key);
            expected.push(is_set(place).then_some(key.as_bytes()));
        }
    }
    cache.answers(&asked, &expected).await?;
    cache.delete_multi(&keys).await?;
    cache.answers(&keys, &[None; KEYS]).await
}

async fn more_bytes_than_a_message(context: Context) -> Outcome {
    const TOTAL: usize = 6 * 1024 * 1024;
    const EACH: usize = 96 * 1024;
    let cache = context.open().await?;
    let each = context.capabilities().large_value().min(EACH);
    // A backend of small values need not take thousands of them to show this.
    let count = (TOTAL / each.max(1)).min(200);
    let keys = context.keys(count);
    let payloads: Vec<Vec<u8>> = keys.iter().map(|_| context.rng().bytes(each)).collect();
    let entries: Vec<(&str, &[u8])> = keys
        .iter()
        .zip(&payloads)
        .map(|(key, payload)| (key.as_str(), payload.as_slice()))
        .collect();
    cache.put_multi(&entries).await?;
    let keys: Vec<&str> = entries.iter().map(|(key, _)| *key).collect();
    let expected: Vec<_> = entries.iter().map(|(_, payload)| Some(*payload)).collect();
    cache.answers(&keys, &expected).await?;
    cache.delete_multi(&keys).await
}

async fn odd_keys_keep_their_places(context: Context) -> Outcome {
    let cache = context.open().await?;
    let names = [
        "plain",
        "with space",
        "a\tb",
        "é",
        "plain2",
        "鍵",
        "a\r\nb",
        "+/=",
        "z",
    ];
    let keys: Vec<String> = names.iter().map(|name| context.key(name)).collect();
    let mut accepted: Vec<&str> = Vec::new();
    for key in &keys {
        if !super::keys::refuses(&cache, key).await? {
            accepted.push(key);
        }
    }
    let keys = accepted;
    let entries: Vec<(&str, &[u8])> = keys.iter().map(|key| (*key, key.as_bytes())).collect();
    cache.put_multi(&entries).await?;
    for shift in 0..keys.len() {
        let mut asked = keys.clone();
        asked.rotate_left(shift);
        asked.extend_from_within(..2.min(keys.len()));
        let expected: Vec<_> = asked.iter().map(|key| Some(key.as_bytes())).collect();
        cache.answers(&asked, &expected).await?;
    }
    Ok(())
}
