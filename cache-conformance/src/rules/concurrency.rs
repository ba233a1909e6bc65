//! Many callers at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use cache_core::{CacheBackend, CachedValue};

use crate::context::{Cache, Context, Outcome, show_found};
use crate::failure::{Failure, ensure, fail};
use crate::harness::BoxFuture;
use crate::linearizability::{Action, Operation, is_linearizable};
use crate::rule::{Requirement, Rule, rule};

use super::source::CONCURRENCY;
use super::tasks::{Race, Racer, together};

pub(crate) const RULES: &[Rule] = &[
    rule!(
        "concurrency",
        answers_belong_to_their_questions,
        CONCURRENCY,
        "Of many callers at once each gets the answers to its own calls, single and multi."
    ),
    rule!(
        "concurrency",
        no_value_is_torn,
        CONCURRENCY,
        "A large payload that is read while it is replaced is one of the two, and no mixture."
    ),
    rule!(
        "concurrency",
        metadata_goes_with_its_payload,
        CONCURRENCY,
        "What is read while it is replaced has the cached time of its own payload."
    ),
    rule!(
        "concurrency",
        no_key_is_lost,
        CONCURRENCY,
        "Of values that many callers set at once under different keys, all are found."
    ),
    rule!(
        "concurrency",
        a_replaced_value_is_never_missing,
        CONCURRENCY,
        "A key that is set over and over is never a miss in between."
    ),
    rule!(
        "concurrency",
        readers_agree_once_writers_stop,
        CONCURRENCY,
        "When all writers of a key have ended, every read gives the last value of one of them."
    ),
    rule!(
        "concurrency",
        set_and_delete_do_not_collide,
        CONCURRENCY,
        "Callers that set and delete the same keys at once get no error, and no other key's value."
    ),
    rule!(
        "concurrency",
        histories_are_linearizable,
        CONCURRENCY,
        "What concurrent callers saw of a key could have happened one by one, in the order in \
         which calls followed each other."
    )
    .requires(&[Requirement::Linearizable]),
];

async fn answers_belong_to_their_questions(context: Context) -> Outcome {
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

/// What one task does to keys that are its own: it must see nothing but what it did.
async fn own_keys_only(cache: &Cache, task: usize, round: usize, keys: &[String]) -> Outcome {
    // Of different lengths, so that an answer that is read from a wrong place shows.
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
        if let Err(error) = cache.raw().set(&key, value(number)).await {
            fail!("set failed: {error}");
        }
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
    // The same byte over and over, in a length of its own.
    let len_of = move |byte: u8| longest - usize::from(byte).min(longest / 2);
    let value = move |number: u64| {
        let byte = u8::try_from(number % 251).unwrap_or_default();
        CachedValue::new(vec![byte; len_of(byte)])
    };
    let check = move |cache: Cache, key: String| async move {
        let Some(found) = cache.get(&key).await? else {
            fail!("expected a value, got a miss");
        };
        let payload = found.payload();
        let byte = payload.first().copied().unwrap_or_default();
        ensure!(
            payload.iter().all(|other| *other == byte) && payload.len() == len_of(byte),
            "a payload of {} bytes that begins with {byte} is a mixture",
            payload.len()
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
                fail!("expected a value, got a miss");
            };
            let number = String::from_utf8_lossy(found.payload()).parse();
            let expected = number.map(cached_at).ok();
            ensure!(
                expected == Some(found.cached_at()),
                "{} has the cached time {:?}; it was set with {expected:?}",
                show_found(Some(&found)),
                found.cached_at()
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
    let keys = context.keys(TASKS * EACH);
    let writers = keys.chunks(EACH).enumerate().map(|(task, keys)| {
        let (cache, keys) = (cache.clone(), keys.to_vec());
        async move {
            if task % 2 == 0 {
                for key in &keys {
                    cache.put(key, key.as_str()).await?;
                }
                return Ok(());
            }
            for keys in keys.chunks(EACH / 4) {
                let entries: Vec<(&str, &[u8])> = keys
                    .iter()
                    .map(|key| (key.as_str(), key.as_bytes()))
                    .collect();
                cache.put_multi(&entries).await?;
            }
            Ok(())
        }
    });
    together(writers).await?;
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
            "a key that was set before, and is only replaced, was a miss"
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
            fail!("expected the last value of a writer, got a miss");
        };
        let lasts: Vec<Vec<u8>> = (0..WRITERS)
            .map(|writer| format!("{WRITES} of {writer}").into_bytes())
            .collect();
        ensure!(
            lasts.contains(last.payload()),
            "{} is not the last value of any writer",
            show_found(Some(&last))
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
                        1 => cache.delete(key).await?,
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
                            "{key:?} has the value of another: {}",
                            show_found(found.as_ref())
                        );
                    }
                }
                Ok(())
            }
        })
        .collect();
    together(tasks).await
}

/// Moments, as a history needs them: in order, and never the same twice.
#[derive(Clone, Default)]
struct Recorder {
    clock: Arc<AtomicU64>,
    history: Arc<Mutex<Vec<Operation>>>,
}

impl Recorder {
    async fn record(
        &self,
        task: usize,
        operation: impl Future<Output = cache_core::Result<Action>>,
    ) -> Outcome {
        let called = self.clock.fetch_add(1, Ordering::SeqCst);
        let action = operation.await;
        let answered = self.clock.fetch_add(1, Ordering::SeqCst);
        let action =
            action.map_err(|error| Failure::new(format!("a concurrent call failed: {error}")))?;
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.push(Operation {
            task,
            action,
            called,
            answered,
        });
        Ok(())
    }

    fn history(&self) -> Vec<Operation> {
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.clone()
    }
}

/// What a read saw: the number that was written, or one that never is.
fn seen(found: Option<CachedValue<Vec<u8>>>) -> Action {
    Action::Read(found.map(|found| {
        let text = String::from_utf8_lossy(found.payload()).into_owned();
        text.parse().unwrap_or(u64::MAX)
    }))
}

async fn histories_are_linearizable(context: Context) -> Outcome {
    const TASKS: usize = 5;
    const OPERATIONS: usize = 14;
    let one = context.open().await?;
    let two = context.again(&one).await?;
    for key in context.keys(8) {
        let recorder = Recorder::default();
        let tasks = (0..TASKS).map(|task| {
            let cache = if task % 2 == 0 { &one } else { &two };
            let (backend, key) = (cache.raw().clone(), key.clone());
            let (recorder, rng) = (recorder.clone(), context.rng().clone());
            async move {
                for number in 0..OPERATIONS {
                    let written = (task * OPERATIONS + number) as u64;
                    let choice = rng.below(10);
                    let operation = async {
                        let value = CachedValue::new(written.to_string().into_bytes());
                        match choice {
                            0..=2 => backend.set(&key, value).await?,
                            3 => backend.set_multi(vec![(&key, value)]).await?,
                            4 => {
                                backend.delete(&key).await?;
                                return Ok(Action::Write(None));
                            }
                            5 => {
                                let found = backend.get_multi(&[&key]).await;
                                return Ok(seen(found.into_iter().next().transpose()?.flatten()));
                            }
                            _ => return Ok(seen(backend.get(&key).await?)),
                        }
                        Ok(Action::Write(Some(written)))
                    };
                    recorder.record(task, operation).await?;
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
        });
        together(tasks).await?;
        let history = recorder.history();
        if !is_linearizable(&history) {
            let shown: Vec<String> = history.iter().map(Operation::to_string).collect();
            fail!(
                "no order of these operations on one key explains what was read (called and \
                 answered by a common counter):\n    {}",
                shown.join("\n    ")
            );
        }
    }
    Ok(())
}
