//! Some of several servers fail: the others keep working, and failed keys are named.

use std::collections::HashSet;

use cache_core::{CachedValue, Error, ErrorKind};

use crate::Fault;
use crate::cache::Found;
use crate::context::{Cache, Context, Faults, Outcome, Value};
use crate::failure::{ensure, fail};
use crate::rule::{Requirement, Rule, rules};
use crate::show;

use super::recovery::{all, within_recovery};
use super::source::PARTS;

const DOWN: &[Requirement] = &[Requirement::SeveralServers, Requirement::Fault(Fault::Down)];
const SILENT: &[Requirement] = &[
    Requirement::SeveralServers,
    Requirement::Fault(Fault::Silent),
];
const GARBAGE: &[Requirement] = &[
    Requirement::SeveralServers,
    Requirement::Fault(Fault::Garbage),
];

rules! {
    ($) outages, __rules_of_outages, PARTS, Rule::waits;

    reads_past_a_dead_server:
        "While one of several servers is down, each position of `get_multi` is its value or an \
         error that names its key, and not all of them fail.", requires(DOWN);
    reads_past_a_silent_server:
        "While one of several servers does not respond, `get_multi` ends within the call limit, and each position \
         is its value or an error that names its key.", requires(SILENT);
    reads_past_garbage:
        "While one of several servers sends garbage, each position of `get_multi` is its value \
         or an error that names its key.", requires(GARBAGE);
    writes_past_a_dead_server:
        "While one of several servers is down, `set_multi` writes every key that its error does not name.",
        requires(DOWN);
    writes_past_a_silent_server:
        "While one of several servers does not respond, `set_multi` writes every key that its \
         error does not name.", requires(SILENT);
    deletions_past_a_dead_server:
        "While one of several servers is down, `delete_multi` removes every key that its error \
         does not name.", requires(DOWN);
    single_calls_past_a_dead_server:
        "While one of several servers is down, single operations succeed or fail with a transient \
         error, and some succeed.", requires(DOWN);
    a_recovered_server_serves_its_keys:
        "Once all servers can be reached again, every key can be set and read within the declared \
         recovery time.", requires(DOWN);
}

/// Enough keys that each of a few servers has some of them.
const KEYS: usize = 48;

fn value(payload: &str) -> Value {
    CachedValue::new(payload.as_bytes().to_vec())
}

/// A backend with a value under each key, and control of the faults of its servers.
async fn filled(context: &Context) -> Outcome<(Cache, Faults, Vec<String>)> {
    let (cache, faults) = context.open_faulty().await?;
    let keys = context.keys(KEYS);
    let entries = || keys.iter().map(|key| (key.as_str(), value(key))).collect();
    // Other rules may be overloading the machine at the same time.
    within_recovery!(context, cache.try_set_multi(entries()).await?);
    Ok((cache, faults, keys))
}

fn names(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

/// The error of one key among many names that key and is transient.
fn names_its_key(operation: &str, key: &str, error: &Error) -> Outcome {
    ensure!(
        error.keys() == [key],
        "{operation}: expected an error at {} that names that key, got one that names {}: {error}",
        show::key(key),
        show::keys(error.keys())
    );
    Ok(())
}

/// Each result is the value that was set, or an error that names its key; some succeed.
fn parts_are_right(keys: &[&str], answers: &[Found]) -> Outcome {
    let mut succeeded = 0;
    for (key, answer) in keys.iter().zip(answers) {
        match answer {
            Ok(Some(found)) if found.payload() == key.as_bytes() => succeeded += 1,
            Ok(found) => fail!(
                "get_multi, at {}: expected its value or an error, because a server fails; {}",
                show::key(key),
                show::expected_payload(Some(key.as_bytes()), found.as_ref())
            ),
            Err(error) => names_its_key("get_multi", key, error)?,
        }
    }
    if succeeded == 0 {
        let error = answers.iter().find_map(|answer| answer.as_ref().err());
        let error = error.map(Error::to_string).unwrap_or_default();
        fail!(
            "get_multi of {} keys: expected values from the servers that work, got errors \
             only, such as \"{error}\" (the default get_multi stops at the first transient \
             failure: override it)",
            keys.len()
        );
    }
    Ok(())
}

async fn reads_are_right(context: &Context, fault: Fault) -> Outcome {
    let (cache, faults, keys) = filled(context).await?;
    let keys = names(&keys);
    for server in 0..context.capabilities().servers {
        faults.inject_into(server, fault).await?;
        // The first call finds open connections, the second knows of the fault.
        for _ in 0..2 {
            parts_are_right(&keys, &cache.try_get_multi(&keys).await?)?;
        }
        faults.heal().await?;
        within_recovery!(context, all(cache.try_get_multi(&keys).await?));
    }
    Ok(())
}

async fn reads_past_a_dead_server(context: Context) -> Outcome {
    reads_are_right(&context, Fault::Down).await
}

async fn reads_past_a_silent_server(context: Context) -> Outcome {
    reads_are_right(&context, Fault::Silent).await
}

async fn reads_past_garbage(context: Context) -> Outcome {
    reads_are_right(&context, Fault::Garbage).await
}

/// The keys that a write of several keys names as failed: none or some of them, and no other.
fn failed_keys(
    operation: &str,
    keys: &[&str],
    outcome: cache_core::Result<()>,
) -> Outcome<HashSet<String>> {
    let Err(error) = outcome else {
        return Ok(HashSet::new());
    };
    ensure!(
        error.kind() == ErrorKind::Partial,
        "{operation} of {} keys: expected success for some of them and a Partial error, got \
         {error}",
        keys.len()
    );
    let failed: HashSet<String> = error.keys().iter().cloned().collect();
    for key in &failed {
        ensure!(
            keys.contains(&key.as_str()),
            "{operation}: expected the names of keys that failed, got {}, which was not given",
            show::key(key)
        );
    }
    ensure!(
        !failed.is_empty() && failed.len() < keys.len(),
        "{operation} of {} keys: expected a Partial error to name some of them, got {}",
        keys.len(),
        failed.len()
    );
    Ok(failed)
}

async fn writes_are_right(context: &Context, fault: Fault) -> Outcome {
    let (cache, faults, keys) = filled(context).await?;
    let keys = names(&keys);
    faults.inject_into(0, fault).await?;
    for round in 0..2 {
        let payload = format!("round {round}");
        let entries = keys.iter().map(|key| (*key, value(&payload)));
        let outcome = cache.try_set_multi(entries.collect()).await?;
        let failed = failed_keys("set_multi", &keys, outcome)?;
        let written: Vec<&str> = keys
            .iter()
            .copied()
            .filter(|key| !failed.contains(*key))
            .collect();
        for (key, answer) in written.iter().zip(cache.try_get_multi(&written).await?) {
            match answer {
                Ok(Some(found)) if found.payload() == payload.as_bytes() => {}
                other => fail!(
                    "set_multi did not name {} as failed: expected \"{payload}\" to be there, got \
                     {}",
                    show::key(key),
                    show::answer(&other)
                ),
            }
        }
    }
    Ok(())
}

async fn writes_past_a_dead_server(context: Context) -> Outcome {
    writes_are_right(&context, Fault::Down).await
}

async fn writes_past_a_silent_server(context: Context) -> Outcome {
    writes_are_right(&context, Fault::Silent).await
}

async fn deletions_past_a_dead_server(context: Context) -> Outcome {
    let (cache, faults, keys) = filled(&context).await?;
    let keys = names(&keys);
    faults.inject_into(0, Fault::Down).await?;
    let outcome = cache.try_delete_multi(&keys).await?;
    let failed = failed_keys("delete_multi", &keys, outcome)?;
    faults.heal().await?;
    let found = within_recovery!(&context, all(cache.try_get_multi(&keys).await?));
    for (key, found) in keys.iter().zip(&found) {
        ensure!(
            failed.contains(*key) || found.is_none(),
            "delete_multi did not name {} as failed: expected a miss, got {}",
            show::key(key),
            show::found(found.as_ref())
        );
    }
    Ok(())
}

async fn single_calls_past_a_dead_server(context: Context) -> Outcome {
    let (cache, faults, keys) = filled(&context).await?;
    faults.inject_into(0, Fault::Down).await?;
    let mut succeeded = 0;
    for key in keys.iter().take(KEYS / 2) {
        let errors = [
            match cache.try_get(key).await? {
                Err(error) => Some(error),
                Ok(Some(found)) if found.payload() == key.as_bytes() => {
                    succeeded += 1;
                    None
                }
                Ok(found) => fail!(
                    "get {}: expected its value or an error, because a server is down; {}",
                    show::key(key),
                    show::expected_payload(Some(key.as_bytes()), found.as_ref())
                ),
            },
            cache.try_set(key, value(key)).await?.err(),
        ];
        for error in errors.into_iter().flatten() {
            ensure!(
                error.is_transient(),
                "{}: expected a transient error, because a server is down, got {error}",
                show::key(key)
            );
        }
    }
    ensure!(
        succeeded > 0,
        "get of {} keys, one by one: expected values from the servers that work, got errors \
         only",
        KEYS / 2
    );
    Ok(())
}

async fn a_recovered_server_serves_its_keys(context: Context) -> Outcome {
    let (cache, faults, keys) = filled(&context).await?;
    let keys = names(&keys);
    for server in 0..context.capabilities().servers {
        faults.inject_into(server, Fault::Down).await?;
        for _ in 0..2 {
            cache.try_get_multi(&keys).await?;
        }
        faults.heal().await?;
        let payload = format!("after {server}");
        within_recovery!(&context, {
            let entries = keys.iter().map(|key| (*key, value(&payload)));
            cache.try_set_multi(entries.collect()).await?
        });
        let found = within_recovery!(&context, all(cache.try_get_multi(&keys).await?));
        for (key, found) in keys.iter().zip(&found) {
            ensure!(
                found
                    .as_ref()
                    .is_some_and(|found| found.payload() == payload.as_bytes()),
                "get_multi, at {}: {}",
                show::key(key),
                show::expected_payload(Some(payload.as_bytes()), found.as_ref())
            );
        }
    }
    Ok(())
}
