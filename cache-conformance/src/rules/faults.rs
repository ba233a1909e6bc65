//! Servers that fail: calls end with an error in time, and the backend recovers.

use std::error::Error as StdError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cache_core::{CacheBackend, CachedValue, Error};

use crate::Fault;
use crate::cache::Found;
use crate::context::{Cache, Context, Faults, Outcome, Value};
use crate::failure::{ensure, fail};
use crate::rule::{Requirement, Rule, rules};
use crate::show;

use super::recovery::{all, within_recovery};
use super::source::FAULTS;
use super::tasks::{at_once, counted, drop_at_poll, longest_poll, together};

const DOWN: &[Requirement] = &[Requirement::Fault(Fault::Down)];
const SILENT: &[Requirement] = &[Requirement::Fault(Fault::Silent)];
const GARBAGE: &[Requirement] = &[Requirement::Fault(Fault::Garbage)];
const CUT: &[Requirement] = &[Requirement::Fault(Fault::Cut)];

rules! {
    ($) faults, __rules_of_faults, FAULTS, Rule::waits;

    reads_from_a_dead_server_are_errors:
        "While no server can be reached, `get` and `get_multi` are errors, not misses.", requires(DOWN);
    writes_to_a_dead_server_are_errors:
        "While no server can be reached, every write is an error.", requires(DOWN);
    a_dead_server_is_transient:
        "Errors while no server can be reached are transient.", requires(DOWN);
    a_recovered_server_is_used:
        "Once the server can be reached again, all operations work within the declared recovery time.",
        requires(DOWN);
    a_silent_server_ends_reads:
        "While the server does not respond, reads end with an error, not a miss, within the call limit.",
        requires(SILENT);
    a_silent_server_ends_writes:
        "While the server does not respond, writes end with an error within the call limit.",
        requires(SILENT);
    a_silent_server_is_transient:
        "Errors while the server does not respond are transient.",
        requires(SILENT);
    a_silent_server_blocks_no_thread:
        "A call that waits for a server does not block its thread.", requires(SILENT);
    a_silent_server_causes_no_busy_loop:
        "A call that waits for a server is not polled in a loop.", requires(SILENT);
    many_calls_to_a_silent_server_all_end:
        "While the server does not respond, many concurrent calls all end, and none leaks a slot.",
        requires(SILENT);
    late_responses_reach_no_other_caller:
        "A response that arrives after its call was dropped is not given to another caller.", requires(SILENT);
    calls_to_a_silent_server_may_be_dropped:
        "Calls that are dropped while they wait for a server leak nothing.", requires(SILENT);
    garbage_is_an_error:
        "While the server sends garbage, every call ends with an error.", requires(GARBAGE);
    garbage_does_not_last:
        "Once the server responds correctly again, all operations work and no value is corrupted.",
        requires(GARBAGE);
    a_truncated_response_is_an_error:
        "While connections break in the middle of responses, every read is an error, not a hit or a miss.",
        requires(CUT);
    broken_connections_are_replaced:
        "Once connections no longer break, all operations work, and no value is truncated.", requires(CUT);
    writes_that_were_not_sent_are_not_sent_later:
        "A `set` that was dropped while no server could be reached is not applied afterwards.",
        requires(DOWN);
    errors_name_their_keys:
        "An error under any fault names the keys of the call and no others, and shows no payload, in \
         one short line.", requires(DOWN);
    errors_show_no_secret:
        "No error under any fault shows a secret, in `Display`, in `Debug` or in its sources.",
        requires(&[Requirement::Secrets]);
}

/// The payload of writes during a fault.
const DURING: &str = "the payload of a write during a fault";

fn value(payload: &str) -> Value {
    CachedValue::new(payload.as_bytes().to_vec())
}

/// A backend with the value "before" under the key, whose servers then fail.
async fn failing(context: &Context, fault: Fault) -> Outcome<(Cache, Faults, String)> {
    let (cache, faults) = context.open_faulty().await?;
    let key = context.key("k");
    // Other rules may be overloading the machine at the same time.
    within_recovery!(context, cache.try_set(&key, value("before")).await?);
    within_recovery!(context, cache.try_get(&key).await?);
    faults.inject(fault).await?;
    Ok((cache, faults, key))
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Get,
    GetMulti,
    Set,
    SetMulti,
    Delete,
    DeleteMulti,
}

const READS: [Operation; 2] = [Operation::Get, Operation::GetMulti];
const ALL: [Operation; 6] = [
    Operation::Get,
    Operation::GetMulti,
    Operation::Set,
    Operation::SetMulti,
    Operation::Delete,
    Operation::DeleteMulti,
];
const WRITES: [Operation; 4] = [
    Operation::Set,
    Operation::SetMulti,
    Operation::Delete,
    Operation::DeleteMulti,
];

/// The results for each key; a success is shown as text.
async fn answers(operation: Operation, cache: &Cache, key: &str) -> Outcome<Vec<Answer>> {
    let read = |found: Found| found.map(|found| show::found(found.as_ref()));
    let write = |done: cache_core::Result<()>| vec![done.map(|()| "success".to_owned())];
    let during = || value(DURING);
    Ok(match operation {
        Operation::Get => vec![read(cache.try_get(key).await?)],
        Operation::GetMulti => {
            let found = cache.try_get_multi(&[key, key]).await?;
            found.into_iter().map(read).collect()
        }
        Operation::Set => write(cache.try_set(key, during()).await?),
        Operation::SetMulti => write(cache.try_set_multi(vec![(key, during())]).await?),
        Operation::Delete => write(cache.try_delete(key).await?),
        Operation::DeleteMulti => write(cache.try_delete_multi(&[key]).await?),
    })
}

type Answer = cache_core::Result<String>;

/// Makes these calls at once, because each may wait for a whole timeout.
async fn call_all(
    cache: &Cache,
    key: &str,
    operations: impl IntoIterator<Item = Operation>,
) -> Outcome<Vec<(Operation, Answer)>> {
    let calls = operations.into_iter().map(|operation| {
        let (cache, key) = (cache.clone(), key.to_owned());
        async move {
            let answers = answers(operation, &cache, &key).await?.into_iter();
            Ok(answers
                .map(|answer| (operation, answer))
                .collect::<Vec<_>>())
        }
    });
    Ok(at_once(calls).await?.into_iter().flatten().collect())
}

/// The errors of these operations, none of which may succeed.
async fn failures(
    cache: &Cache,
    key: &str,
    operations: impl IntoIterator<Item = Operation>,
) -> Outcome<Vec<Error>> {
    let mut errors = Vec::new();
    for (operation, answer) in call_all(cache, key, operations).await? {
        match answer {
            Err(error) => errors.push(error),
            Ok(shown) => fail!(
                "{operation:?} of {}: expected an error, got {shown}",
                show::key(key)
            ),
        }
    }
    Ok(errors)
}

/// All operations work again within the recovery time: a value that is set is found. Each
/// operation has that time, because a backend may reach the servers one by one.
async fn recovers(context: &Context, cache: &Cache) -> Outcome {
    let [key, other] = ["after", "other"].map(|name| context.key(name));
    within_recovery!(context, cache.try_set(&key, value("after")).await?);
    within_recovery!(context, cache.try_get(&key).await?);
    let entries = || vec![(other.as_str(), value("other"))];
    within_recovery!(context, cache.try_set_multi(entries()).await?);
    within_recovery!(context, all(cache.try_get_multi(&[&other, &key]).await?));
    // A server that the backend does not use for a while has other keys.
    let keys: Vec<String> = (0..32)
        .map(|i| context.key(&format!("after-{i}")))
        .collect();
    let some = || keys.iter().map(|key| (key.as_str(), value(key))).collect();
    within_recovery!(context, cache.try_set_multi(some()).await?);
    cache.hit(&key, "after").await?;
    cache
        .answers(&[&other, &key], &[Some(b"other"), Some(b"after")])
        .await?;
    cache.delete(&key).await?;
    cache.delete_multi(&[&other]).await?;
    cache.miss(&key).await?;
    let calls = keys.into_iter().map(|key| {
        let cache = cache.clone();
        async move {
            cache.hit(&key, &key).await?;
            cache.put(&key, "again").await?;
            cache.hit(&key, "again").await?;
            Ok(())
        }
    });
    together(calls).await
}

/// The value from before the fault is unchanged, or gone.
async fn is_unharmed(context: &Context, cache: &Cache, key: &str, or: &[&[u8]]) -> Outcome {
    let found = within_recovery!(context, cache.try_get(key).await?);
    let payload = found.as_ref().map(|found| found.payload().as_slice());
    ensure!(
        payload.is_none_or(|payload| payload == b"before" || or.contains(&payload)),
        "get {key:?}: expected \"before\", which it held until the fault, or a miss; got {}",
        show::found(found.as_ref())
    );
    Ok(())
}

/// No read succeeds during the fault: neither the first, which finds open connections, nor the
/// next.
async fn no_read_succeeds(context: &Context, fault: Fault) -> Outcome {
    let (cache, _faults, key) = failing(context, fault).await?;
    for _ in 0..2 {
        failures(&cache, &key, READS).await?;
    }
    Ok(())
}

async fn no_error_is_final(context: &Context, fault: Fault) -> Outcome {
    let (cache, _faults, key) = failing(context, fault).await?;
    for error in failures(&cache, &key, ALL).await? {
        ensure!(
            error.is_transient(),
            "{key:?}: expected a transient error, got {error}"
        );
    }
    Ok(())
}

/// The results during the fault do not matter once it has ended.
async fn nothing_stays_broken(context: &Context, fault: Fault) -> Outcome {
    let (cache, faults, key) = failing(context, fault).await?;
    for _ in 0..3 {
        cache.try_get(&key).await?.ok();
    }
    faults.heal().await?;
    recovers(context, &cache).await?;
    is_unharmed(context, &cache, &key, &[]).await
}

async fn reads_from_a_dead_server_are_errors(context: Context) -> Outcome {
    no_read_succeeds(&context, Fault::Down).await
}

async fn writes_to_a_dead_server_are_errors(context: Context) -> Outcome {
    let (cache, _faults, key) = failing(&context, Fault::Down).await?;
    for _ in 0..2 {
        failures(&cache, &key, WRITES).await?;
    }
    Ok(())
}

async fn a_dead_server_is_transient(context: Context) -> Outcome {
    no_error_is_final(&context, Fault::Down).await
}

async fn a_recovered_server_is_used(context: Context) -> Outcome {
    let (cache, faults, key) = failing(&context, Fault::Down).await?;
    failures(&cache, &key, READS).await?;
    faults.heal().await?;
    recovers(&context, &cache).await?;
    is_unharmed(&context, &cache, &key, &[]).await?;
    // Once more without calls during the fault, so that nobody notices that connections died.
    faults.inject(Fault::Down).await?;
    faults.heal().await?;
    recovers(&context, &cache).await
}

async fn a_silent_server_ends_reads(context: Context) -> Outcome {
    no_read_succeeds(&context, Fault::Silent).await
}

async fn a_silent_server_ends_writes(context: Context) -> Outcome {
    let (cache, _faults, key) = failing(&context, Fault::Silent).await?;
    failures(&cache, &key, WRITES).await?;
    Ok(())
}

async fn a_silent_server_is_transient(context: Context) -> Outcome {
    no_error_is_final(&context, Fault::Silent).await
}

async fn a_silent_server_blocks_no_thread(context: Context) -> Outcome {
    /// A busy machine may suspend a thread in the middle of a poll, but not each time.
    const ATTEMPTS: usize = 4;
    /// A call that ends sooner has not waited.
    const WAIT: Duration = Duration::from_millis(20);
    let (cache, faults, key) = failing(&context, Fault::Silent).await?;
    let mut least = None;
    for _ in 0..ATTEMPTS {
        let (longest, total) = longest_poll(cache.try_get(&key)).await;
        if total < WAIT || longest * 2 < total {
            return Ok(());
        }
        least = Some((longest, total));
        faults.heal().await?;
        recovers(&context, &cache).await?;
        faults.inject(Fault::Silent).await?;
    }
    let (longest, total) = least.unwrap_or_default();
    fail!("get blocked its thread for {longest:?} of the {total:?} that it took")
}

async fn a_silent_server_causes_no_busy_loop(context: Context) -> Outcome {
    const POLLS: usize = 1_000;
    let (cache, _faults, key) = failing(&context, Fault::Silent).await?;
    let (call, polls) = counted(async { cache.try_get(&key).await });
    call.await?.ok();
    let polls = polls.load(Ordering::Relaxed);
    ensure!(
        polls <= POLLS,
        "get was polled {polls} times while it waited: it wakes its task without a reason"
    );
    Ok(())
}

async fn many_calls_to_a_silent_server_all_end(context: Context) -> Outcome {
    let (cache, faults, key) = failing(&context, Fault::Silent).await?;
    let calls = (0..40).map(|i| {
        let (cache, key) = (cache.clone(), key.clone());
        let own = context.key(&format!("own-{i}"));
        async move {
            if i % 2 == 0 {
                cache.try_get(&key).await?.ok();
            } else {
                cache.try_set(&own, value("during")).await?.ok();
            }
            Ok(())
        }
    });
    together(calls).await?;
    faults.heal().await?;
    recovers(&context, &cache).await
}

async fn late_responses_reach_no_other_caller(context: Context) -> Outcome {
    let (cache, faults) = context.open_faulty().await?;
    let keys = context.keys(12);
    for key in &keys {
        within_recovery!(&context, cache.try_set(key, value(key)).await?);
    }
    for _ in 0..2 {
        faults.inject(Fault::Silent).await?;
        // The callers are gone when these responses arrive.
        let gone = keys.iter().cloned().map(|key| {
            let cache = cache.clone();
            async move {
                cache.try_get(&key).await?.ok();
                Ok(())
            }
        });
        together(gone).await?;
        faults.heal().await?;
        recovers(&context, &cache).await?;
        let asked: Vec<&str> = keys.iter().rev().map(String::as_str).collect();
        let mut answers = Vec::new();
        for key in &asked {
            let found = within_recovery!(&context, cache.try_get(key).await?);
            answers.push((key, found));
        }
        answers.extend(asked.iter().zip(cache.get_multi(&asked).await?));
        for (key, found) in answers {
            ensure!(
                found
                    .as_ref()
                    .is_none_or(|found| found.payload() == key.as_bytes()),
                "get {key:?}: expected its own value or a miss, got the answer of another call: {}",
                show::found(found.as_ref())
            );
        }
    }
    Ok(())
}

async fn calls_to_a_silent_server_may_be_dropped(context: Context) -> Outcome {
    let (cache, faults, key) = failing(&context, Fault::Silent).await?;
    let dropped = (0..200).map(|i| {
        let (cache, key) = (cache.clone(), key.clone());
        async move {
            if i % 3 == 0 {
                let call = drop_at_poll(cache.raw().set(&key, value("during")), 1);
                cache
                    .call(format!("set {key:?}"), call, |_| "dropped".to_owned())
                    .await?;
            } else {
                // Kept for a moment, so that the call is waiting when it is dropped.
                let call = Box::pin(cache.raw().get(&key));
                let call = tokio::time::timeout(Duration::from_millis(10), call);
                cache
                    .call(format!("get {key:?}"), call, |_| "dropped".to_owned())
                    .await?
                    .ok();
            }
            Ok(())
        }
    });
    together(dropped).await?;
    faults.heal().await?;
    recovers(&context, &cache).await?;
    is_unharmed(&context, &cache, &key, &[b"during"]).await
}

async fn garbage_is_an_error(context: Context) -> Outcome {
    let (cache, _faults, key) = failing(&context, Fault::Garbage).await?;
    for _ in 0..2 {
        failures(&cache, &key, READS).await?;
    }
    failures(&cache, &key, WRITES).await?;
    Ok(())
}

async fn garbage_does_not_last(context: Context) -> Outcome {
    nothing_stays_broken(&context, Fault::Garbage).await
}

async fn a_truncated_response_is_an_error(context: Context) -> Outcome {
    no_read_succeeds(&context, Fault::Cut).await
}

async fn broken_connections_are_replaced(context: Context) -> Outcome {
    nothing_stays_broken(&context, Fault::Cut).await
}

async fn writes_that_were_not_sent_are_not_sent_later(context: Context) -> Outcome {
    let (cache, faults, key) = failing(&context, Fault::Down).await?;
    // The first call may find that a connection broke, so this one opens none that has what it
    // sends.
    failures(&cache, &key, READS).await?;
    for polls in 1..=4 {
        let set = drop_at_poll(cache.raw().set(&key, value("during")), polls);
        let shown = |_: &_| format!("dropped at poll {polls}");
        cache.call(format!("set {key:?}"), set, shown).await?;
        let entries = vec![(key.as_str(), value("during"))];
        let set = drop_at_poll(cache.raw().set_multi(entries), polls);
        cache.call(format!("set_multi {key:?}"), set, shown).await?;
    }
    faults.heal().await?;
    for _ in 0..2 {
        recovers(&context, &cache).await?;
        is_unharmed(&context, &cache, &key, &[]).await?;
    }
    Ok(())
}

async fn errors_name_their_keys(context: Context) -> Outcome {
    let faults = context.capabilities().faults.iter().map(|fault| {
        let context = context.clone();
        async move {
            let (cache, _faults, key) = failing(&context, *fault).await?;
            for (operation, answer) in call_all(&cache, &key, ALL).await? {
                if let Err(error) = answer {
                    names_its_key(&format!("{operation:?} under {fault}"), &key, &error)?;
                }
            }
            Ok(())
        }
    });
    together(faults).await
}

fn names_its_key(call: &str, key: &str, error: &Error) -> Outcome {
    /// Enough for a sentence and the key.
    const LONGEST: usize = 2_000;
    ensure!(
        error.keys() == [key],
        "{call}: expected an error that names {} and no other key, got one that names {}: {error}",
        show::key(key),
        show::keys(error.keys())
    );
    let shown = error.to_string();
    ensure!(
        shown.len() <= LONGEST && !shown.contains(char::is_control),
        "{call}: expected an error of one short line, got {shown:?}"
    );
    for shown in [shown, format!("{error:?}")] {
        ensure!(
            !shown.contains(DURING) && !shown.contains(&format!("{:?}", DURING.as_bytes())),
            "{call}: expected an error without the payload, got {shown}"
        );
    }
    Ok(())
}

async fn errors_show_no_secret(context: Context) -> Outcome {
    let faults = context.capabilities().faults.iter().map(|fault| {
        let context = context.clone();
        async move {
            let (cache, _faults, key) = failing(&context, *fault).await?;
            for (_, answer) in call_all(&cache, &key, ALL).await? {
                if let Err(error) = answer {
                    shows_no_secret(&context, &error)?;
                }
            }
            Ok(())
        }
    });
    together(faults).await
}

fn shows_no_secret(context: &Context, error: &Error) -> Outcome {
    let mut shown = vec![error.to_string(), format!("{error:?}")];
    let mut cause = error.source();
    while let Some(error) = cause {
        shown.push(error.to_string());
        shown.push(format!("{error:?}"));
        cause = error.source();
    }
    for secret in context.capabilities().secrets {
        ensure!(
            !shown.iter().any(|shown| shown.contains(secret)),
            "the error of kind {:?} shows a secret",
            error.kind()
        );
    }
    Ok(())
}
