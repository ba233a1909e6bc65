//! Promises beyond the contract.

use std::time::{Duration, Instant};

use cache_core::CacheBackend;

use crate::Fault;
use crate::context::{Cache, Context, Outcome, Value};
use crate::failure::{ensure, fail};
use crate::rule::{Requirement, Rule, rules};
use crate::show;

use super::expiry::value;
use super::life::{HOUR, Life};
use super::source::PROMISES;
use super::tasks::{drop_at_poll, longest_poll, together};

rules! {
    ($) promises, __rules_of_promises, PROMISES, Rule::as_listed;

    reads_are_batched:
        "`get_multi` of a hundred keys takes a few round trips instead of one for each key.",
        requires(&[Requirement::BatchedReads]);
    polls_are_brief:
        "A call does not hold its thread for milliseconds, however large the value.",
        requires(&[Requirement::BriefPolls]);
    calls_leave_no_tasks_running:
        "Hundreds of calls leave only a few tasks running.",
        requires(&[Requirement::NoTasksLeft]);
    get_multi_asks_for_a_key_once:
        "`get_multi` fetches a value once, however often its key is repeated.",
        requires(&[Requirement::DistinctReads]);
    cancelled_writes_release_their_values:
        "Once the call limit has passed, the backend no longer holds the value of a cancelled write.",
        requires(&[Requirement::NoValuesLeft, Requirement::Fault(Fault::Silent)]);
    a_dropped_backend_closes_its_connections:
        "Soon after the last handle to a backend is dropped, all its connections are closed.",
        requires(&[Requirement::NoConnectionsLeft]);
    lifetimes_ignore_the_wall_clock:
        "A value lives as long as its TTL, even if the wall clock is stepped.",
        requires(&[Requirement::Ttl, Requirement::SteadyLifetimes]);
    a_full_cache_is_right:
        "As many entries as the declared capacity are all kept; with more, each read is the key's own \
         value or a miss, and no call fails.", requires(&[Requirement::Capacity]);
    immediate_calls_end_at_once:
        "Every operation of a backend that is `IMMEDIATE` ends at its first poll.",
        requires(&[Requirement::Immediate]);
}

async fn reads_are_batched(context: Context) -> Outcome {
    const KEYS: usize = 100;
    /// Includes connections that are opened meanwhile, and several servers.
    const SLACK: u64 = 20;
    let (cache, faults) = context.open_faulty().await?;
    let keys = context.keys(KEYS);
    let entries: Vec<(&str, &[u8])> = keys
        .iter()
        .map(|key| (key.as_str(), key.as_bytes()))
        .collect();
    cache.put_multi(&entries).await?;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let expected: Vec<_> = keys.iter().map(|key| Some(key.as_bytes())).collect();
    let before = faults.round_trips().await?;
    cache.answers(&keys, &expected).await?;
    let took = faults.round_trips().await?.saturating_sub(before);
    let servers = u64::try_from(context.capabilities().servers).unwrap_or(u64::MAX);
    let most = SLACK.saturating_add(servers.saturating_mul(4));
    ensure!(
        took <= most,
        "get_multi of {KEYS} keys: expected at most {most} round trips, got {took}"
    );
    Ok(())
}

async fn polls_are_brief(context: Context) -> Outcome {
    /// A busy machine may suspend a thread, but not each time.
    const READS: usize = 40;
    const MOST: Duration = Duration::from_millis(2);
    let cache = context.open().await?;
    let key = context.key("k");
    cache
        .put(
            &key,
            context
                .rng()
                .bytes(context.capabilities().large_value().min(10_000)),
        )
        .await?;
    let operations = ["get", "get_multi", "set"];
    for operation in operations {
        let mut least = Duration::MAX;
        for _ in 0..context.scaled(READS, 10) {
            let (longest, _) = match operation {
                "get" => longest_poll(cache.get(&key)).await,
                "get_multi" => longest_poll(cache.get_multi(&[&key, &key])).await,
                _ => longest_poll(cache.put(&key, "value")).await,
            };
            least = least.min(longest);
        }
        ensure!(
            least <= MOST,
            "{operation} {}: expected a poll to take at most {MOST:?}, got {least:?} or more each \
             time",
            show::key(&key)
        );
    }
    Ok(())
}

/// The time between two checks of something that takes a moment.
const PAUSE: Duration = Duration::from_millis(10);

async fn get_multi_asks_for_a_key_once(context: Context) -> Outcome {
    const TIMES: usize = 40;
    const LENGTH: usize = 1_000;
    /// The size of a few values, with room for the protocol.
    const MOST: u64 = 10_000;
    let (cache, faults) = context.open_faulty().await?;
    let (key, payload) = (context.key("k"), context.rng().bytes(LENGTH));
    cache.put(&key, payload.clone()).await?;
    cache.hit(&key, &payload).await?;
    let before = faults.bytes_answered().await?;
    let expected = [Some(payload.as_slice()); TIMES];
    cache.answers(&[key.as_str(); TIMES], &expected).await?;
    let took = faults.bytes_answered().await?.saturating_sub(before);
    ensure!(
        took <= MOST,
        "get_multi of {TIMES} times {}: expected at most {MOST} bytes of responses, got {took}",
        show::key(&key)
    );
    Ok(())
}

async fn cancelled_writes_release_their_values(context: Context) -> Outcome {
    const WRITES: usize = 100;
    let (cache, faults) = context.open_faulty().await?;
    let keys = context.keys(context.within_capacity(WRITES));
    for key in &keys {
        cache.put(key, "before").await?;
    }
    faults.inject(Fault::Silent).await?;
    for key in &keys {
        cache.will_write(key);
        drop_at_poll(cache.raw().set(key, value()), 1).await;
        let entries = vec![(key.as_str(), value())];
        drop_at_poll(cache.raw().set_multi(entries), 1).await;
    }
    let limit = context.capabilities().call_limit;
    let began = Instant::now();
    while cache.values_held()? > 0 && began.elapsed() < limit {
        tokio::time::sleep(PAUSE).await;
    }
    let held = cache.values_held()?;
    ensure!(
        held == 0,
        "{limit:?} after {} writes were cancelled: expected the backend to hold no value, got {held}",
        keys.len() * 2
    );
    Ok(())
}

async fn a_dropped_backend_closes_its_connections(context: Context) -> Outcome {
    let (cache, faults) = context.open_faulty().await?;
    let key = context.key("k");
    cache.put(&key, "value").await?;
    let calls = (0..8).map(|_| {
        let (cache, key) = (cache.clone(), key.clone());
        async move { cache.hit(&key, "value").await.map(drop) }
    });
    together(calls).await?;
    cache.delete(&key).await?;
    let before = faults.connections().await?;
    ensure!(before > 0, "expected the backend to be connected");
    drop(cache);
    let limit = context.capabilities().call_limit;
    let began = Instant::now();
    while faults.connections().await? > 0 && began.elapsed() < limit {
        tokio::time::sleep(PAUSE).await;
    }
    let left = faults.connections().await?;
    ensure!(
        left == 0,
        "{limit:?} after the backend was dropped: expected no connection to be open, got {left} of \
         {before}"
    );
    Ok(())
}

async fn some_calls(cache: &Cache, keys: &[String]) -> Outcome {
    let calls = keys.iter().map(|key| {
        let (cache, key) = (cache.clone(), key.clone());
        async move {
            cache.put(&key, "value").await?;
            cache.hit(&key, "value").await?;
            cache
                .answers(&[&key, &key], &[Some(&b"value"[..]); 2])
                .await?;
            cache.delete(&key).await
        }
    });
    together(calls).await
}

async fn calls_leave_no_tasks_running(context: Context) -> Outcome {
    const CALLS: usize = 100;
    /// More tasks than a backend needs for its connections.
    const FEW: usize = 40;
    /// Tasks may take a moment to end on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(10);
    let cache = context.open().await?;
    let keys = context.keys(context.within_capacity(CALLS));
    let alive = || {
        tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks()
    };
    let before = alive();
    for _ in 0..2 {
        some_calls(&cache, &keys).await?;
    }
    let ended = Instant::now();
    loop {
        let left = alive().saturating_sub(before);
        if left <= FEW {
            return Ok(());
        }
        if ended.elapsed() > PATIENCE {
            fail!(
                "after {} calls that have ended: expected at most {FEW} tasks to remain, got \
                 {left}",
                keys.len() * 8
            );
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn lifetimes_ignore_the_wall_clock(context: Context) -> Outcome {
    const DAY: i64 = 86_400;
    let cache = context.open_with(2 * HOUR).await?;
    for (number, seconds) in [-3600, 3600, -400 * DAY, 400 * DAY, -1]
        .into_iter()
        .enumerate()
    {
        let [own, default] = ["own", "default"].map(|name| context.key(&format!("{name}{number}")));
        let set = cache.set(&own, value().with_ttl(HOUR));
        let life = Life::starts(&context, HOUR, set).await?;
        let of_default = Life::starts(&context, 2 * HOUR, cache.set(&default, value())).await?;
        context.wait(HOUR / 4).await;
        context.clock().step_wall_clock(seconds);
        life.check(&context, &cache, &own).await?;
        life.runs(&context, &cache, &own).await?;
        of_default.check(&context, &cache, &default).await?;
        of_default.ends(&context, &cache, &default).await?;
    }
    Ok(())
}

async fn a_full_cache_is_right(context: Context) -> Outcome {
    /// Enough to fill the backend, and few enough for a test.
    const MOST: usize = 20_000;
    let cache = context.open().await?;
    let capacity = context.capabilities().capacity.unwrap_or_default();
    let keys = context.keys(capacity.saturating_mul(3).min(MOST));
    let (kept, others) = keys.split_at(capacity.min(keys.len()));
    put_all(&cache, kept).await?;
    for (key, found) in get_all(&cache, kept).await? {
        ensure!(
            found.is_some_and(|found| found.payload() == key.as_bytes()),
            "get_multi, at {}, with {} entries: expected its value, because the backend declares \
             this capacity",
            show::key(key),
            kept.len()
        );
    }
    put_all(&cache, others).await?;
    for (key, found) in get_all(&cache, &keys).await? {
        ensure!(
            found
                .as_ref()
                .is_none_or(|found| found.payload() == key.as_bytes()),
            "get_multi, at {}: expected its value or a miss, {}",
            show::key(key),
            show::expected_payload(Some(key.as_bytes()), found.as_ref())
        );
    }
    Ok(())
}

async fn put_all(cache: &Cache, keys: &[String]) -> Outcome {
    for some in keys.chunks(500) {
        let entries: Vec<(&str, &[u8])> = some
            .iter()
            .map(|key| (key.as_str(), key.as_bytes()))
            .collect();
        cache.put_multi(&entries).await?;
    }
    Ok(())
}

async fn get_all<'k>(
    cache: &Cache,
    keys: &'k [String],
) -> Outcome<Vec<(&'k String, Option<Value>)>> {
    let mut all = Vec::new();
    for some in keys.chunks(500) {
        let asked: Vec<&str> = some.iter().map(String::as_str).collect();
        all.extend(some.iter().zip(cache.get_multi(&asked).await?));
    }
    Ok(all)
}

async fn immediate_calls_end_at_once(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    cache.will_write(&key);
    for _ in 0..3 {
        let pending = cache.pending_at_first_poll(&key);
        ensure!(
            pending.is_empty(),
            "the backend is IMMEDIATE: expected every operation to end at its first poll, got {} \
             pending",
            pending.join(", ")
        );
        cache.put(&key, "value").await?;
    }
    Ok(())
}
