//! Concurrent callers.

use std::time::{Duration, UNIX_EPOCH};

use cache_core::CachedValue;

use crate::context::{Cache, Context, Outcome, Value};
use crate::failure::{ensure, fail};
use crate::harness::BoxFuture;
use crate::history::{Action, Recorder, seen};
use crate::rule::{Requirement, Rule, rules};
use crate::show;

use super::source::CONCURRENCY;
use super::tasks::{Race, Racer, both, interleaved, together};

rules! {
    ($) concurrency, __rules_of_concurrency, CONCURRENCY, Rule::as_listed;

    callers_get_their_own_results:
        "Each of many concurrent callers gets the results of its own calls, single and multi.";
    no_value_is_torn:
        "A large payload that is read while it is replaced is the old or the new one, not a mixture.";
    metadata_goes_with_its_payload:
        "A value that is read while it is replaced has the cached time of its own payload.";
    no_key_is_lost:
        "All values that many callers set at once under different keys are found, whatever others \
         delete at the same time.";
    a_replaced_value_is_never_missing:
        "A key that is repeatedly overwritten is never a miss.";
    readers_agree_once_writers_stop:
        "Once all writers of a key have ended, every read returns the last value of one of them.";
    set_and_delete_do_not_collide:
        "Concurrent callers that set and delete the same keys get no error, and no other key's \
         value.";
    opposite_orders_all_end:
        "Concurrent multi operations on the same keys in opposite orders all end.";
    histories_are_linearizable:
        "The results that concurrent callers saw for a key are consistent with some sequential order that respects the order of non-overlapping calls.", requires(&[Requirement::Linearizable]);
}

async fn callers_get_their_own_results(context: Context) -> Outcome {
    const TASKS: usize = 24;
    const ROUNDS: usize = 8;
    let cache = context.open().await?;
    let tasks = (0..TASKS).map(|task| {
        let cache = cache.clone();
        let keys: Vec<String> = (0..4)
            .map(|i| context.key(&format!("{task}:{i}")))
            .collect();
        async move {
            for round in 0..ROUNDS {
                own_keys_only(&cache, task, round, &keys).await?;
            }
            Ok(())
        }
    });
    together(tasks).await
}

/// One task works on its own keys, and must see only its own changes.
async fn own_keys_only(cache: &Cache, task: usize, round: usize, keys: &[String]) -> Outcome {
    // Of different lengths, so that a result that is read from a wrong position is detected.
    let payload = |key: &str| format!("{task} {round} {key} {}", "x".repeat(task * 7)).into_bytes();
    let [a, b, c, absent] = keys else {
        return Ok(());
    };
    let (in_a, in_b, in_c) = (payload(a), payload(b), payload(c));
    cache.put(a, in_a.clone()).await?;
    cache.put_multi(&[(b, &in_b), (c, &in_c)]).await?;
    cache.hit(a, &in_a).await?;
    cache.miss(absent).await?;
    cache
        .answers(
            &[absent, c, a, b, a],
            &[None, Some(&in_c), Some(&in_a), Some(&in_b), Some(&in_a)],
        )
        .await?;
    cache.hit(b, &in_b).await?;
    cache.delete(b).await?;
    cache.answers(&[b, c], &[None, Some(&in_c)]).await?;
    cache.delete_multi(&[c, absent]).await?;
    cache.answers(&[a, c], &[Some(&in_a), None]).await
}

/// Sets `value(number)` under the key, for one number after another.
async fn write(
    mut racer: Racer,
    cache: Cache,
    key: String,
    value: impl Fn(u64) -> CachedValue<Vec<u8>>,
) -> Outcome {
    let mut number = 0;
    while racer.goes_on().await {
        cache.set(&key, value(number)).await?;
        number += 1;
    }
    Ok(())
}

/// Three tasks that read by `check` while two write `value(number)`. The key has a value before.
async fn readers_against_writers<C>(
    cache: &Cache,
    key: &str,
    value: impl Fn(u64) -> CachedValue<Vec<u8>> + Copy + Send + 'static,
    check: impl Fn(Cache, String) -> C + Copy + Send + 'static,
) -> Outcome
where
    C: Future<Output = Outcome> + Send + 'static,
{
    const READS: usize = 80;
    const WRITES: usize = 40;
    cache.set(key, value(0)).await?;
    let race = Race::default();
    let mut tasks: Vec<BoxFuture<'static, Outcome>> = Vec::new();
    for _ in 0..3 {
        let (mut racer, cache, key) = (race.enter(READS), cache.clone(), key.to_owned());
        tasks.push(Box::pin(async move {
            while racer.goes_on().await {
                check(cache.clone(), key.clone()).await?;
            }
            Ok(())
        }));
    }
    for offset in [0, 1] {
        let (racer, cache, key) = (race.enter(WRITES), cache.clone(), key.to_owned());
        let value = move |number| value(2 * number + offset);
        tasks.push(Box::pin(write(racer, cache, key, value)));
    }
    together(tasks).await
}

async fn no_value_is_torn(context: Context) -> Outcome {
    let cache = context.open().await?;
    let longest = context.capabilities().large_value().min(100_000);
    // One repeated byte; each value has its own length.
    let len_of = move |byte: u8| longest - usize::from(byte).min(longest / 2);
    let value = move |number: u64| {
        let byte = u8::try_from(number % 251).unwrap_or_default();
        CachedValue::new(vec![byte; len_of(byte)])
    };
    let check = move |cache: Cache, key: String| async move {
        let Some(found) = cache.get(&key).await? else {
            fail!("get {key:?}: expected a value, because it is only replaced, got a miss");
        };
        let payload = found.payload();
        let byte = payload.first().copied().unwrap_or_default();
        ensure!(
            payload.iter().all(|other| *other == byte) && payload.len() == len_of(byte),
            "get {key:?}: expected {} bytes of {byte}, as the first one is; got {} bytes, of which \
             the first that is another is at {:?}",
            len_of(byte),
            payload.len(),
            payload.iter().position(|other| *other != byte)
        );
        Ok(())
    };
    readers_against_writers(&cache, &context.key("k"), value, check).await
}

async fn metadata_goes_with_its_payload(context: Context) -> Outcome {
    let cache = context.open().await?;
    let cached_at = |number: u64| UNIX_EPOCH + Duration::from_secs(1_000_000_000 + number);
    let value = move |number: u64| {
        CachedValue::new(number.to_string().into_bytes()).with_cached_at(cached_at(number))
    };
    let check = move |cache: Cache, key: String| async move {
        for found in cache.get_multi(&[&key, &key]).await? {
            let Some(found) = found else {
                fail!("get {key:?}: expected a value, because it is only replaced, got a miss");
            };
            let number = String::from_utf8_lossy(found.payload()).parse();
            let expected = number.map(cached_at).ok();
            ensure!(
                expected == Some(found.cached_at()),
                "get_multi: {} was set with another cached time: {}",
                show::value(&found),
                show::expected_time(expected.unwrap_or(UNIX_EPOCH), found.cached_at())
            );
        }
        Ok(())
    };
    readers_against_writers(&cache, &context.key("k"), value, check).await
}

async fn no_key_is_lost(context: Context) -> Outcome {
    const TASKS: usize = 8;
    const EACH: usize = 40;
    let cache = context.open().await?;
    let keys = context.keys(context.within_capacity(TASKS * EACH));
    let race = Race::default();
    let mut tasks: Vec<BoxFuture<'static, Outcome>> = Vec::new();
    // First, so that they run while the others set.
    for task in 0..2 {
        let (mut racer, cache) = (race.enter(1), cache.clone());
        let absent = [0, 1].map(|i| context.key(&format!("absent-{task}-{i}")));
        tasks.push(Box::pin(async move {
            let absent = absent.each_ref().map(String::as_str);
            while racer.goes_on().await {
                match task {
                    0 => cache.delete(absent[0]).await?,
                    _ => cache.delete_multi(&absent).await?,
                }
            }
            Ok(())
        }));
    }
    for (task, keys) in keys.chunks(EACH).enumerate() {
        let (mut racer, cache, keys) = (race.enter(EACH), cache.clone(), keys.to_vec());
        tasks.push(Box::pin(async move {
            let in_one_call = if task % 2 == 0 { 1 } else { EACH / 4 };
            for keys in keys.chunks(in_one_call) {
                racer.goes_on().await;
                let entries: Vec<(&str, &[u8])> = keys
                    .iter()
                    .map(|key| (key.as_str(), key.as_bytes()))
                    .collect();
                match entries.as_slice() {
                    [(key, payload)] => cache.put(key, *payload).await?,
                    entries => cache.put_multi(entries).await?,
                }
            }
            Ok(())
        }));
    }
    together(tasks).await?;
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let expected: Vec<_> = asked.iter().map(|key| Some(key.as_bytes())).collect();
    cache.answers(&asked, &expected).await
}

async fn a_replaced_value_is_never_missing(context: Context) -> Outcome {
    let cache = context.open().await?;
    let value = |number: u64| CachedValue::new(number.to_string().into_bytes());
    let check = |cache: Cache, key: String| async move {
        let single = cache.get(&key).await?;
        let multi = cache.get_multi(&[&key]).await?;
        ensure!(
            single.is_some() && multi.iter().all(Option::is_some),
            "get {key:?}: expected a value, because it is only replaced, got a miss"
        );
        Ok(())
    };
    readers_against_writers(&cache, &context.key("k"), value, check).await
}

async fn readers_agree_once_writers_stop(context: Context) -> Outcome {
    const WRITERS: usize = 6;
    const WRITES: usize = 15;
    let cache = context.open().await?;
    let second = context.again(&cache).await?;
    for key in context.keys(4) {
        let writers = (0..WRITERS).map(|writer| {
            let (cache, key) = (cache.clone(), key.clone());
            async move {
                for write in 1..=WRITES {
                    cache.put(&key, format!("{write} of {writer}")).await?;
                }
                Ok(())
            }
        });
        together(writers).await?;
        let Some(last) = cache.get(&key).await? else {
            fail!("get {key:?}: expected the last value of a writer, got a miss");
        };
        let lasts: Vec<Vec<u8>> = (0..WRITERS)
            .map(|writer| format!("{WRITES} of {writer}").into_bytes())
            .collect();
        ensure!(
            lasts.contains(last.payload()),
            "get {key:?}: expected the last value of one of the writers, got {}",
            show::found(Some(&last))
        );
        for cache in [&cache, &second] {
            for _ in 0..3 {
                cache.hit(&key, last.payload()).await?;
                cache.answers(&[&key], &[Some(last.payload())]).await?;
            }
        }
    }
    Ok(())
}

async fn set_and_delete_do_not_collide(context: Context) -> Outcome {
    const ROUNDS: usize = 15;
    let cache = context.open().await?;
    let keys = context.keys(3);
    let race = Race::default();
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let (cache, keys) = (cache.clone(), keys.clone());
            let mut racer = race.enter(ROUNDS);
            async move {
                let all: Vec<&str> = keys.iter().map(String::as_str).collect();
                let mut round = 0;
                while racer.goes_on().await {
                    round += 1;
                    let Some(key) = all.get((task + round) % all.len()) else {
                        continue;
                    };
                    match task % 4 {
                        0 => cache.put(key, *key).await?,
                        1 => {
                            // Two deletes of one key overlap, whatever the scheduler does.
                            cache.put(key, *key).await?;
                            let (one, other) = both(cache.delete(key), cache.delete(key)).await;
                            one.and(other)?;
                        }
                        2 => {
                            let entries: Vec<_> = all.iter().map(|k| (*k, k.as_bytes())).collect();
                            cache.put_multi(&entries).await?;
                        }
                        _ => cache.delete_multi(&all).await?,
                    }
                    for (key, found) in all.iter().zip(cache.get_multi(&all).await?) {
                        ensure!(
                            found
                                .as_ref()
                                .is_none_or(|found| found.payload() == key.as_bytes()),
                            "get_multi, at {key:?}: expected its own value or a miss, got {}",
                            show::found(found.as_ref())
                        );
                    }
                }
                Ok(())
            }
        })
        .collect();
    together(tasks).await
}

async fn opposite_orders_all_end(context: Context) -> Outcome {
    const ROUNDS: usize = 10;
    let cache = &context.open().await?;
    let keys = context.keys(4);
    let forward: &Vec<&str> = &keys.iter().map(String::as_str).collect();
    let backward: &Vec<&str> = &keys.iter().rev().map(String::as_str).collect();
    let orders = [forward, backward];
    for _ in 0..ROUNDS {
        // In one task, so that they overlap whatever the scheduler does.
        interleaved(orders.iter().map(|keys| async move {
            let entries: Vec<_> = keys.iter().map(|key| (*key, key.as_bytes())).collect();
            cache.put_multi(&entries).await
        }))
        .await?;
        interleaved(orders.iter().map(|keys| async move {
            let expected: Vec<_> = keys.iter().map(|key| Some(key.as_bytes())).collect();
            cache.answers(keys, &expected).await
        }))
        .await?;
        interleaved(orders.iter().map(|keys| cache.delete_multi(keys))).await?;
    }
    Ok(())
}

async fn histories_are_linearizable(context: Context) -> Outcome {
    const TASKS: usize = 5;
    const OPERATIONS: usize = 14;
    const HISTORIES: usize = 12;
    let one = context.open().await?;
    let two = context.again(&one).await?;
    for key in context.keys(context.scaled(HISTORIES, 3)) {
        let recorder = Recorder::new(&context);
        let tasks = (0..TASKS).map(|task| {
            let cache = if task % 2 == 0 { &one } else { &two };
            let (context, cache, key) = (context.clone(), cache.clone(), key.clone());
            let recorder = recorder.clone();
            async move {
                for number in 0..OPERATIONS {
                    let written = (task * OPERATIONS + number) as u64;
                    let choice = context.rng().below(10);
                    let operation = operate(&cache, &key, written, choice);
                    let record = recorder.record(&context, task, operation, None, |_, _| None);
                    record.await?;
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
        });
        together(tasks).await?;
        recorder.judge()?;
    }
    Ok(())
}

async fn operate(cache: &Cache, key: &str, written: u64, choice: usize) -> Outcome<Option<Action>> {
    let value = CachedValue::new(written.to_string().into_bytes());
    let payload =
        |found: Option<Value>| seen(found.as_ref().map(|found| found.payload().as_slice()));
    let action = match choice {
        0..=2 => {
            cache.set(key, value).await?;
            Action::Set(written, None)
        }
        3 => {
            cache.set_multi(vec![(key, value)]).await?;
            Action::Set(written, None)
        }
        4 => {
            cache.delete(key).await?;
            Action::Delete
        }
        5 => payload(cache.get_multi(&[key]).await?.into_iter().next().flatten())?,
        _ => payload(cache.get(key).await?)?,
    };
    Ok(Some(action))
}
