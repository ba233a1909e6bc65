//! Time and concurrency together: what expires while others set, delete and read it.

use std::time::{Duration, Instant};

use cache_core::{CacheBackend, CachedValue, Ttl};

use crate::context::{Cache, Context, Outcome, Value};
use crate::failure::{Failure, ensure, fail};
use crate::harness::BoxFuture;
use crate::history::{Action, Recorder, seen};
use crate::rule::{Requirement, Rule, rules};
use crate::show;

use super::life::{HOUR, LONG, Life};
use super::source::{CANCELLATION, CONCURRENCY, LIFETIMES};
use super::tasks::{Race, both, drop_at_poll, together};

const TTL: &[Requirement] = &[Requirement::Ttl];

rules! {
    ($) races, __rules_of_races, LIFETIMES, Rule::as_listed;

    histories_with_deadlines_are_linearizable:
        "The results that concurrent callers saw for a key, with TTLs, time passing and cancelled calls, are consistent with some sequential order.",
        requires(&[Requirement::Ttl, Requirement::Linearizable]), waits(), source(CONCURRENCY);
    a_deadline_goes_with_its_payload:
        "A value that is read while it is replaced has the time left of its own payload.",
        requires(TTL), source(CONCURRENCY);
    a_dropped_set_leaves_no_mixture:
        "`set` and `set_multi` that were dropped at any poll leave a payload with its own time left.",
        requires(TTL), source(CANCELLATION);
    a_set_at_the_deadline_stays:
        "A value that is set while the previous one expires is kept, whatever removes the old one.",
        requires(TTL), waits();
    a_delete_at_the_deadline_stays:
        "A key that is deleted while its value expires and is read is a miss afterwards.",
        requires(TTL), waits();
    a_read_at_the_deadline_changes_nothing:
        "Reads of a value that expires neither bring it back nor extend it.",
        requires(TTL), waits();
}

/// The lifetime of a value, which its payload names.
#[derive(Clone, Copy, PartialEq)]
enum Term {
    Never,
    Hours(u32),
}

const TERMS: [Term; 4] = [
    Term::Never,
    Term::Hours(150),
    Term::Hours(3_000),
    Term::Hours(60_000),
];

impl Term {
    fn value(self, number: u64) -> Value {
        let value = CachedValue::new(format!("{number} {}", self.name()).into_bytes());
        match self {
            Self::Never => value,
            Self::Hours(hours) => value.with_ttl(HOUR * hours),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Never => "for ever".to_owned(),
            Self::Hours(hours) => format!("for {hours} hours"),
        }
    }

    /// Checks that a value has the time left that its payload names. The lifetimes are so far apart
    /// that even a slow machine cannot mistake one for another.
    fn is_told(found: &Value) -> Outcome {
        let payload = String::from_utf8_lossy(found.payload()).into_owned();
        let Some(term) = TERMS.iter().find(|term| payload.ends_with(&term.name())) else {
            fail!(
                "get: expected one of the values that were set, got {}",
                show::value(found)
            );
        };
        let matches = match (term, found.ttl()) {
            (Self::Never, left) => left == Ttl::Never,
            (Self::Hours(hours), Ttl::For(left)) => {
                left <= HOUR * *hours && left > HOUR * *hours / 4
            }
            (Self::Hours(_), _) => false,
        };
        ensure!(
            matches,
            "get: the value \"{payload}\" was set to live {}, got {}",
            term.name(),
            show::ttl(found.ttl())
        );
        Ok(())
    }
}

fn missed(key: &str) -> Failure {
    Failure::new(format!(
        "get {key:?}: expected a value, because it is only replaced, got a miss"
    ))
}

async fn a_deadline_goes_with_its_payload(context: Context) -> Outcome {
    const READS: usize = 120;
    const WRITES: usize = 80;
    let cache = context.open().await?;
    let key = context.key("k");
    let (reads, writes) = (context.scaled(READS, 30), context.scaled(WRITES, 20));
    for (one, other) in TERMS.iter().zip(TERMS.iter().rev()) {
        let sets = both(
            cache.set(&key, one.value(0)),
            cache.set(&key, other.value(1)),
        );
        let (one, other) = sets.await;
        one.and(other)?;
        let found = cache.get(&key).await?;
        Term::is_told(&found.ok_or_else(|| missed(&key))?)?;
    }
    let race = Race::default();
    let mut tasks: Vec<BoxFuture<'static, Outcome>> = Vec::new();
    for task in 0..3_u64 {
        let (mut racer, cache, key) = (race.enter(writes), cache.clone(), key.clone());
        tasks.push(Box::pin(async move {
            let mut number = task;
            while racer.goes_on().await {
                let place = usize::try_from(number).unwrap_or(0) % TERMS.len();
                let Some(term) = TERMS.get(place) else {
                    continue;
                };
                if number % 5 == 4 {
                    cache.set_multi(vec![(&key, term.value(number))]).await?;
                } else {
                    cache.set(&key, term.value(number)).await?;
                }
                number += 1;
            }
            Ok(())
        }));
    }
    for _ in 0..3 {
        let (mut racer, cache, key) = (race.enter(reads), cache.clone(), key.clone());
        tasks.push(Box::pin(async move {
            while racer.goes_on().await {
                let mut all = cache.get_multi(&[&key]).await?;
                all.push(cache.get(&key).await?);
                for found in all {
                    match found {
                        Some(found) => Term::is_told(&found)?,
                        None => return Err(missed(&key)),
                    }
                }
            }
            Ok(())
        }));
    }
    together(tasks).await
}

async fn a_dropped_set_leaves_no_mixture(context: Context) -> Outcome {
    /// Another rule is about calls that wake their task in a loop.
    const MOST_POLLS: usize = 60;
    let cache = context.open().await?;
    let mut number = 0;
    for polls in 0..MOST_POLLS {
        let mut always_ended = true;
        for (before, dropped) in [(0, 1), (1, 0), (1, 2), (3, 1)] {
            let [Some(before), Some(dropped)] = [before, dropped].map(|term| TERMS.get(term))
            else {
                continue;
            };
            number += 2;
            let keys = [0, 1, 2].map(|i| context.key(&format!("{number}:{i}")));
            let [one, two, three] = keys.each_ref().map(String::as_str);
            for key in [one, two, three] {
                cache.set(key, before.value(number)).await?;
            }
            let new = || dropped.value(number + 1);
            let set = cache.raw().set(one, new());
            let set = drop_at_poll(set, polls);
            let shown = |_: &Option<cache_core::Result<()>>| format!("dropped at poll {polls}");
            let ended = cache.call(format!("set {one:?}"), set, shown).await?;
            always_ended &= ended.is_some();
            let set = cache.raw().set_multi(vec![(two, new()), (three, new())]);
            let set = drop_at_poll(set, polls);
            let ended = cache.call(format!("set_multi {two:?}"), set, shown).await?;
            always_ended &= ended.is_some();
            for found in cache.get_multi(&[one, two, three]).await? {
                match found {
                    Some(found) => Term::is_told(&found)?,
                    None => fail!(
                        "get: expected the old value or the new one after a set that was dropped \
                         at poll {polls}, got a miss"
                    ),
                }
            }
        }
        if always_ended {
            return Ok(());
        }
    }
    Ok(())
}

/// A lifetime that ends while others make calls.
fn brief(context: &Context) -> Duration {
    (context.capabilities().granularity() * 2).max(Duration::from_millis(120))
}

/// One task's calls while a value expires.
type Act = fn(Cache, Vec<String>) -> BoxFuture<'static, Outcome>;

/// Sets keys that all expire at once; runs `acts` side by side, each over all keys, in every
/// other round shortly before they do, and else as they do. By a manual clock the time is the
/// same for all that is done.
async fn at_the_deadline(
    context: &Context,
    cache: &Cache,
    round: usize,
    acts: &[Act],
) -> Outcome<(Vec<String>, Life)> {
    let count = context.within_capacity(KEYS).min(context.scaled(KEYS, 4));
    let keys: Vec<String> = (0..count)
        .map(|i| context.key(&format!("{round}:{i}")))
        .collect();
    let ttl = brief(context);
    let value = || CachedValue::new(b"old".to_vec()).with_ttl(ttl);
    let life = Life::starts(context, ttl, async {
        let entries = keys.iter().map(|key| (key.as_str(), value()));
        cache.set_multi(entries.collect()).await
    })
    .await?;
    let percent = if round.is_multiple_of(2) { 95 } else { 100 };
    context.wait_until(life.before + ttl * percent / 100).await;
    let running = acts.iter().map(|act| act(cache.clone(), keys.clone()));
    together(running).await?;
    Ok((keys, life))
}

fn reads(cache: Cache, keys: Vec<String>) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        for _ in 0..2 {
            for key in &keys {
                cache.get(key).await?;
            }
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            cache.get_multi(&keys).await?;
        }
        Ok(())
    })
}

fn sets(cache: Cache, keys: Vec<String>) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        for (position, key) in keys.iter().enumerate() {
            match position % 3 {
                0 => cache.put(key, "new").await?,
                1 => cache.put_multi(&[(key, b"new")]).await?,
                _ => {
                    let value = CachedValue::new(b"new".to_vec()).with_ttl(LONG);
                    cache.set(key, value).await?;
                }
            }
        }
        Ok(())
    })
}

fn deletes(cache: Cache, keys: Vec<String>) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        for (position, key) in keys.iter().enumerate() {
            if position % 2 == 0 {
                cache.delete(key).await?;
            } else {
                cache.delete_multi(&[key]).await?;
            }
        }
        Ok(())
    })
}

/// Writes of other keys, during which backends remove expired values.
fn writes_elsewhere(cache: Cache, keys: Vec<String>) -> BoxFuture<'static, Outcome> {
    Box::pin(async move {
        for key in &keys {
            cache.put(&format!("{key}:other"), "other").await?;
        }
        Ok(())
    })
}

const ROUNDS: usize = 4;
const KEYS: usize = 24;

async fn a_set_at_the_deadline_stays(context: Context) -> Outcome {
    let cache = context.open().await?;
    for round in 0..ROUNDS {
        let acts: [Act; 4] = [reads, sets, writes_elsewhere, reads];
        let (keys, life) = at_the_deadline(&context, &cache, round, &acts).await?;
        for key in &keys {
            cache.hit(key, "new").await?;
        }
        context.wait_until(life.over).await;
        cache.put(&context.key("other"), "other").await?;
        for key in &keys {
            cache.hit(key, "new").await?;
        }
    }
    Ok(())
}

async fn a_delete_at_the_deadline_stays(context: Context) -> Outcome {
    let cache = context.open().await?;
    for round in 0..ROUNDS {
        let acts: [Act; 4] = [reads, deletes, writes_elsewhere, reads];
        let (keys, life) = at_the_deadline(&context, &cache, round, &acts).await?;
        for key in &keys {
            cache.miss(key).await?;
        }
        // The next value is not affected by earlier calls.
        for key in &keys {
            cache.put(key, "next").await?;
        }
        context.wait_until(life.over).await;
        for key in &keys {
            cache.hit(key, "next").await?;
        }
    }
    Ok(())
}

async fn a_read_at_the_deadline_changes_nothing(context: Context) -> Outcome {
    let cache = context.open().await?;
    for round in 0..ROUNDS {
        let acts: [Act; 3] = [reads, reads, reads];
        let (keys, life) = at_the_deadline(&context, &cache, round, &acts).await?;
        context.wait_until(life.over).await;
        for _ in 0..2 {
            let all: Vec<&str> = keys.iter().map(String::as_str).collect();
            for key in &keys {
                cache.miss(key).await?;
            }
            cache.answers(&all, &vec![None; all.len()]).await?;
            context.wait(brief(&context)).await;
        }
    }
    Ok(())
}

async fn histories_with_deadlines_are_linearizable(context: Context) -> Outcome {
    const HISTORIES: usize = 12;
    let histories = context.scaled(HISTORIES, 4);
    let running = (0..histories).map(|number| {
        // Each history has its own clock.
        let context = context.with_own_clock();
        async move { history(&context, &context.key(&format!("history-{number}"))).await }
    });
    together(running).await
}

/// Some tasks set, delete, read and cancel calls on one key, and one lets time pass.
async fn history(context: &Context, key: &str) -> Outcome {
    const TASKS: usize = 4;
    const OPERATIONS: usize = 14;
    const WAITS: usize = 8;
    let one = context.open().await?;
    let two = context.again(&one).await?;
    let recorder = Recorder::new(context);
    let unit = brief(context) / 2;
    let race = Race::default();
    let mut tasks: Vec<BoxFuture<'static, Outcome>> = Vec::new();
    for task in 0..TASKS {
        let cache = if task % 2 == 0 { &one } else { &two };
        let (context, cache, key) = (context.clone(), cache.clone(), key.to_owned());
        let (recorder, mut racer) = (recorder.clone(), race.enter(OPERATIONS));
        tasks.push(Box::pin(async move {
            let mut number = 0;
            // Only its own rounds: a history must be short enough to be checked.
            while number < OPERATIONS && racer.goes_on().await {
                let written = (task * OPERATIONS + number) as u64;
                operate(&context, &cache, &key, &recorder, task, written, unit).await?;
                number += 1;
                // By a real clock, the operations are spread over the time that passes.
                if number % 2 == 0 && context.capabilities().clock == crate::Clock::Real {
                    tokio::time::sleep(unit / 2).await;
                }
            }
            Ok(())
        }));
    }
    let (context_of_time, mut racer) = (context.clone(), race.enter(WAITS));
    tasks.push(Box::pin(async move {
        let mut waits = 0;
        while waits < WAITS && racer.goes_on().await {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            context_of_time.wait(unit / 2).await;
            waits += 1;
        }
        Ok(())
    }));
    together(tasks).await?;
    // Read while some may have expired, and again when all must have.
    let last = (TASKS * OPERATIONS) as u64;
    for written in [None, Some(last)] {
        if let Some(written) = written {
            let set = async {
                let value = CachedValue::new(written.to_string().into_bytes());
                one.set(key, value.with_ttl(unit)).await?;
                Ok(Some(Action::Set(written, None)))
            };
            let span = |before: Instant, after: Instant| {
                let life = Life::new(context, unit, before, after);
                Some((life.sure, life.over))
            };
            recorder.record(context, TASKS, set, None, span).await?;
            context.wait(unit * 2).await;
        }
        read(context, &one, key, &recorder, TASKS).await?;
        read(context, &two, key, &recorder, TASKS).await?;
    }
    recorder.judge()
}

async fn read(
    context: &Context,
    cache: &Cache,
    key: &str,
    recorder: &Recorder,
    task: usize,
) -> Outcome {
    let read = async {
        let found = cache.get(key).await?;
        Ok(Some(seen(
            found.as_ref().map(|found| found.payload().as_slice()),
        )?))
    };
    recorder
        .record(context, task, read, None, |_, _| None)
        .await
}

async fn operate(
    context: &Context,
    cache: &Cache,
    key: &str,
    recorder: &Recorder,
    task: usize,
    written: u64,
    unit: Duration,
) -> Outcome {
    let rng = context.rng();
    let choice = rng.below(12);
    let ttl = match rng.below(4) {
        0 => None,
        halves => Some(unit * u32::try_from(halves).unwrap_or(1)),
    };
    let value = || {
        let value = CachedValue::new(written.to_string().into_bytes());
        match ttl {
            Some(ttl) => value.with_ttl(ttl),
            None => value,
        }
    };
    let span = |before: Instant, after: Instant| {
        let life = Life::new(context, ttl?, before, after);
        Some((life.sure, life.over))
    };
    let set = Action::Set(written, None);
    match choice {
        0..=3 => {
            let operation = async {
                cache.set(key, value()).await?;
                Ok(Some(set))
            };
            recorder.record(context, task, operation, None, span).await
        }
        4 => {
            let operation = async {
                cache.set_multi(vec![(key, value())]).await?;
                Ok(Some(set))
            };
            recorder.record(context, task, operation, None, span).await
        }
        5 => {
            let operation = async {
                let polls = 1 + rng.below(3);
                let call = drop_at_poll(cache.raw().set(key, value()), polls);
                cache.will_write(key);
                let shown = |_: &_| format!("given up at poll {polls}");
                let ended = cache
                    .call(format!("set {key:?} = {written}"), call, shown)
                    .await?;
                Ok(ended.map(|_| set))
            };
            // A cancelled call may still be applied, and its lifetime starts at that unknown time.
            let late = |before: Instant, _| {
                let life = Life::new(context, ttl?, before, before);
                Some((life.sure, life.over + HOUR))
            };
            recorder
                .record(context, task, operation, Some(set), late)
                .await
        }
        6 => {
            let operation = async {
                cache.delete(key).await?;
                Ok(Some(Action::Delete))
            };
            recorder
                .record(context, task, operation, None, |_, _| None)
                .await
        }
        7 => {
            let operation = async {
                let found = cache.get_multi(&[key]).await?;
                let found = found.into_iter().next().flatten();
                Ok(Some(seen(
                    found.as_ref().map(|found| found.payload().as_slice()),
                )?))
            };
            recorder
                .record(context, task, operation, None, |_, _| None)
                .await
        }
        _ => read(context, cache, key, recorder, task).await,
    }
}
