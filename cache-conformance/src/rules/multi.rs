//! Operations on several keys.

use std::collections::HashSet;

use cache_core::{CachedValue, ErrorKind};

use crate::context::{Cache, Context, Outcome};
use crate::failure::{ensure, fail};
use crate::rule::{Rule, rules};
use crate::show;

use super::keys::{odd_keys, refuses};
use super::source::MULTI;

rules! {
    ($) multi, __rules_of_multi, MULTI, Rule::as_listed;

    order_is_kept:
        "`get_multi` returns results in the order of the keys, whatever order they were set in.";
    duplicates_are_answered_in_place:
        "`get_multi` returns the value of a repeated key at each of its positions.";
    misses_stay_in_place: "`get_multi` returns each miss at the position of its key.";
    only_misses_are_answered: "`get_multi` of absent keys returns a miss for each.";
    no_keys_need_no_work: "Multi operations on no keys succeed, and `get_multi` returns no results.";
    one_key_is_enough: "Multi operations on one key have the effect of the single operations.";
    set_multi_sets_each: "After `set_multi` each key has its own value, new or replaced.";
    the_last_of_repeated_keys_wins:
        "A key that is repeated in `set_multi`, adjacent or far apart, has its last value.";
    delete_multi_removes_exactly_those: "`delete_multi` removes its keys and no others.";
    delete_multi_takes_absent_keys:
        "`delete_multi` ignores an absent key and removes the keys around it.";
    delete_multi_takes_repeated_keys: "`delete_multi` accepts repeated keys.";
    an_invalid_key_fails_alone_in_get_multi:
        "An invalid key is `InvalidKey` at each of its positions of `get_multi`, wherever they are \
         and whatever is wrong with it, and does not affect the others.";
    an_invalid_key_fails_alone_in_set_multi:
        "`set_multi` with invalid keys sets the others, and returns `Partial` with exactly the \
         invalid ones.";
    an_invalid_key_fails_alone_in_delete_multi:
        "`delete_multi` with invalid keys removes the others, and returns `Partial` with exactly \
         the invalid ones.";
    invalid_keys_alone_are_the_cause:
        "Writes with only invalid keys return `InvalidKey` with all of them.";
    more_keys_than_fit_in_a_batch:
        "A thousand keys with repetitions and misses are set, read and deleted in one call each.";
    thousands_of_keys_in_one_call:
        "Six thousand keys are set, read and deleted in one call each.";
    more_bytes_than_fit_in_a_message: "Values of six mebibytes in all are set and read in one call each.";
    encoded_keys_keep_their_places:
        "Keys that are encoded for the protocol have their results at their own positions.";
}

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

async fn no_keys_need_no_work(context: Context) -> Outcome {
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
    // So far apart that they may be in different batches.
    let keys = context.keys(context.within_capacity(400).saturating_sub(2));
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

/// The keys that the backend refuses, of those that some backends refuse.
async fn invalid_keys(context: &Context, cache: &Cache) -> Outcome<Vec<String>> {
    let mut invalid = Vec::new();
    for key in odd_keys(cache, context).await? {
        if key.is_empty() || refuses(cache, &key).await? {
            invalid.push(key);
        } else {
            // A key that is not refused is kept.
            cache.hit(&key, "probe").await?;
        }
    }
    if let Some(max) = context.capabilities().max_key {
        ensure!(
            invalid.iter().any(|key| key.len() > max),
            "set of keys longer than {max} bytes: expected InvalidKey, because the backend declares \
             that length, got success"
        );
    }
    Ok(invalid)
}

/// The invalid key at each position among two others.
fn with_invalid<'k>(invalid: &'k str, a: &'k str, b: &'k str) -> [[&'k str; 3]; 3] {
    [[invalid, a, b], [a, invalid, b], [a, b, invalid]]
}

/// A write of several keys failed for exactly these.
fn is_partial(operation: &str, done: &cache_core::Result<()>, invalid: &[&str]) -> Outcome {
    let expected: HashSet<&str> = invalid.iter().copied().collect();
    match done {
        Err(error) if error.kind() == ErrorKind::Partial => {
            let named: HashSet<&str> = error.keys().iter().map(String::as_str).collect();
            ensure!(
                named == expected,
                "{operation} with the invalid keys {} among others: expected a Partial error that \
                 names just these, got one that names {}",
                show::keys(invalid),
                show::keys(error.keys())
            );
            Ok(())
        }
        Err(error) => fail!(
            "{operation} with the invalid keys {} among others: expected a Partial error, got \
             {error}",
            show::keys(invalid)
        ),
        Ok(()) => fail!(
            "{operation} with the invalid keys {} among others: expected a Partial error, got \
             success",
            show::keys(invalid)
        ),
    }
}

async fn an_invalid_key_fails_alone_in_get_multi(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [a, b] = ["a", "b"].map(|name| context.key(name));
    cache.put(&a, "value").await?;
    let invalid = invalid_keys(&context, &cache).await?;
    for invalid in &invalid {
        for keys in with_invalid(invalid, &a, &b) {
            for (key, answer) in keys.iter().zip(cache.try_get_multi(&keys).await?) {
                let is_right = match &answer {
                    Ok(Some(found)) => *key == a && found.payload() == b"value",
                    Ok(None) => *key == b,
                    Err(error) => {
                        *key == invalid
                            && error.kind() == ErrorKind::InvalidKey
                            && error.keys() == [*key]
                    }
                };
                let expected = match *key {
                    key if key == a => "\"value\"",
                    key if key == b => "a miss",
                    _ => "InvalidKey that names it",
                };
                ensure!(
                    is_right,
                    "get_multi, at {}, with the invalid key {}: expected {expected}, got {}",
                    show::key(key),
                    show::key(invalid),
                    show::answer(&answer)
                );
            }
        }
    }
    let keys = context.keys(context.within_capacity(300));
    let (keys, scattered) = scattered(&keys, &invalid);
    let entries: Vec<(&str, &[u8])> = keys.iter().map(|key| (*key, key.as_bytes())).collect();
    cache.put_multi(&entries).await?;
    for (place, (key, answer)) in scattered
        .iter()
        .zip(cache.try_get_multi(&scattered).await?)
        .enumerate()
    {
        let is_right = match &answer {
            Ok(found) => found
                .as_ref()
                .is_some_and(|found| found.payload() == key.as_bytes()),
            Err(error) => {
                invalid.iter().any(|invalid| invalid == key)
                    && error.kind() == ErrorKind::InvalidKey
                    && error.keys() == [*key]
            }
        };
        ensure!(
            is_right,
            "get_multi of {} keys, some of which are invalid, at position {place}, {}: expected \
             its value, or InvalidKey that names it, got {}",
            scattered.len(),
            show::key(key),
            show::answer(&answer)
        );
    }
    Ok(())
}

/// Valid keys, and the same with the invalid ones among them, far apart and some of them twice.
fn scattered<'k>(keys: &'k [String], invalid: &'k [String]) -> (Vec<&'k str>, Vec<&'k str>) {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut scattered = Vec::new();
    let mut invalid = invalid.iter().chain(invalid.first()).map(String::as_str);
    for (place, key) in keys.iter().enumerate() {
        if place % 40 == 3 {
            scattered.extend(invalid.next());
        }
        scattered.push(key);
    }
    scattered.extend(invalid);
    (keys, scattered)
}

async fn an_invalid_key_fails_alone_in_set_multi(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [a, b] = ["a", "b"].map(|name| context.key(name));
    let invalid = invalid_keys(&context, &cache).await?;
    let value = |payload: &str| CachedValue::new(payload.as_bytes().to_vec());
    for (number, invalid) in invalid.iter().enumerate() {
        for (place, keys) in with_invalid(invalid, &a, &b).into_iter().enumerate() {
            cache.put(&a, "old").await?;
            cache.delete(&b).await?;
            let payload = format!("{number} {place}");
            let entries = keys.map(|key| (key, value(&payload))).to_vec();
            let done = cache.try_set_multi(entries).await?;
            is_partial("set_multi", &done, &[invalid])?;
            cache
                .answers(&[&a, &b], &[Some(payload.as_bytes()); 2])
                .await?;
        }
    }
    if let [first, .., last] = invalid.as_slice() {
        let entries = [first, &a, last, &b].map(|key| (key.as_str(), value("both")));
        let done = cache.try_set_multi(entries.to_vec()).await?;
        is_partial("set_multi", &done, &[first, last])?;
        cache.answers(&[&a, &b], &[Some(&b"both"[..]); 2]).await?;
    }
    // A repeated one fails once.
    if let Some(invalid) = invalid.first() {
        let entries = [invalid, &a, invalid].map(|key| (key.as_str(), value("twice")));
        let done = cache.try_set_multi(entries.to_vec()).await?;
        is_partial("set_multi", &done, &[invalid])?;
        cache.hit(&a, "twice").await?;
    }
    let keys = context.keys(context.within_capacity(300));
    let (keys, scattered) = scattered(&keys, &invalid);
    if invalid.is_empty() {
        return Ok(());
    }
    let entries = scattered.iter().map(|key| (*key, value("scattered")));
    let done = cache.try_set_multi(entries.collect()).await?;
    let invalid: Vec<&str> = invalid.iter().map(String::as_str).collect();
    is_partial("set_multi", &done, &invalid)?;
    let expected = vec![Some(&b"scattered"[..]); keys.len()];
    cache.answers(&keys, &expected).await
}

async fn an_invalid_key_fails_alone_in_delete_multi(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [a, b] = ["a", "b"].map(|name| context.key(name));
    let invalid = invalid_keys(&context, &cache).await?;
    for invalid in &invalid {
        for keys in with_invalid(invalid, &a, &b) {
            cache.put_multi(&[(&a, b"1"), (&b, b"2")]).await?;
            let done = cache.try_delete_multi(&keys).await?;
            is_partial("delete_multi", &done, &[invalid])?;
            cache.answers(&[&a, &b], &[None; 2]).await?;
        }
    }
    if let [first, .., last] = invalid.as_slice() {
        cache.put_multi(&[(&a, b"1"), (&b, b"2")]).await?;
        let done = cache.try_delete_multi(&[first, &a, last, &b]).await?;
        is_partial("delete_multi", &done, &[first, last])?;
        cache.answers(&[&a, &b], &[None; 2]).await?;
    }
    // A repeated one fails once.
    if let Some(invalid) = invalid.first() {
        cache.put(&a, "1").await?;
        let done = cache.try_delete_multi(&[invalid, &a, invalid]).await?;
        is_partial("delete_multi", &done, &[invalid])?;
        cache.miss(&a).await?;
    }
    Ok(())
}

async fn invalid_keys_alone_are_the_cause(context: Context) -> Outcome {
    let cache = context.open().await?;
    let invalid = invalid_keys(&context, &cache).await?;
    let all: Vec<&str> = invalid.iter().map(String::as_str).collect();
    let alone = all.iter().map(|key| vec![*key]);
    for keys in alone.chain([all.clone()]).filter(|keys| !keys.is_empty()) {
        let value = || CachedValue::new(b"value".to_vec());
        let entries = keys.iter().map(|key| (*key, value())).collect();
        let refusals = [
            ("set_multi", cache.try_set_multi(entries).await?),
            ("delete_multi", cache.try_delete_multi(&keys).await?),
        ];
        let expected: HashSet<&str> = keys.iter().copied().collect();
        for (operation, refusal) in refusals {
            let is_right = refusal.as_ref().is_err_and(|error| {
                let named: HashSet<&str> = error.keys().iter().map(String::as_str).collect();
                error.kind() == ErrorKind::InvalidKey && named == expected
            });
            ensure!(
                is_right,
                "{operation} of the invalid keys {} alone: expected InvalidKey that names all of \
                 them, got {}",
                show::keys(&keys),
                crate::cache::done(&refusal)
            );
        }
    }
    Ok(())
}

async fn more_keys_than_fit_in_a_batch(context: Context) -> Outcome {
    many_keys_in_one_call(&context, 1_000).await
}

async fn thousands_of_keys_in_one_call(context: Context) -> Outcome {
    many_keys_in_one_call(&context, 6_000).await
}

async fn many_keys_in_one_call(context: &Context, count: usize) -> Outcome {
    let cache = context.open().await?;
    let count = context.within_capacity(count);
    let keys = context.keys(count);
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
    for i in 0..count + 200 {
        // Scattered, and some of them twice.
        let place = i * 617 % count.max(1);
        if let Some(key) = keys.get(place) {
            asked.push(key);
            expected.push(is_set(place).then_some(key.as_bytes()));
        }
    }
    cache.answers(&asked, &expected).await?;
    cache.delete_multi(&keys).await?;
    cache.answers(&keys, &vec![None; keys.len()]).await
}

async fn more_bytes_than_fit_in_a_message(context: Context) -> Outcome {
    const TOTAL: usize = 6 * 1024 * 1024;
    const EACH: usize = 96 * 1024;
    let cache = context.open().await?;
    let each = context.capabilities().large_value().min(EACH);
    // A backend with small values does not need thousands of them.
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

async fn encoded_keys_keep_their_places(context: Context) -> Outcome {
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
        if !refuses(&cache, key).await? {
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
