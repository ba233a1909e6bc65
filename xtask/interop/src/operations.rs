//! What each operation has to do: a cell of the matrix.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};

use super::cases::{Entries, Operation};
use super::settings::TTL;
use super::sides::{Payload, Side};

/// What the writer does with `entries` is what the reader sees.
pub(crate) fn passes(
    operation: Operation,
    writer: &dyn Side,
    reader: &dyn Side,
    entries: &Entries,
) -> Result<()> {
    match operation {
        Operation::Set => set(writer, reader, entries),
        Operation::SetMulti => set_multi(writer, reader, entries),
        Operation::Delete => delete(writer, reader, entries),
        Operation::Expiry => set_with_ttl(writer, reader, entries),
    }
}

/// The reader finds what the writer set, and what the writer then set in its place.
fn set(writer: &dyn Side, reader: &dyn Side, entries: &Entries) -> Result<()> {
    let (key, _) = &entries.first;
    for (_, payload) in entries.all.iter().take(2) {
        let before = now();
        writer.set(key, payload)?;
        agree(writer, reader, key, payload, before)?;
    }
    writer.delete(key)
}

fn set_multi(writer: &dyn Side, reader: &dyn Side, entries: &Entries) -> Result<()> {
    let before = now();
    writer.set_multi(&entries.all)?;
    // In another order, and with a key that is not there.
    let mut keys: Vec<&str> = entries
        .all
        .iter()
        .rev()
        .map(|(key, _)| key.as_str())
        .collect();
    keys.insert(1, "not-there");
    let mut expected: Vec<Option<&Payload>> = entries
        .all
        .iter()
        .rev()
        .map(|(_, payload)| Some(payload))
        .collect();
    expected.insert(1, None);
    let found = reader.get_multi(&keys)?;
    ensure!(
        found.len() == keys.len(),
        "{} answers to {} keys",
        found.len(),
        keys.len()
    );
    for ((key, expected), found) in keys.iter().zip(&expected).zip(&found) {
        ensure!(
            *expected == found.as_ref(),
            "get_multi of {key}: {}",
            difference(found.as_ref())
        );
    }
    for (key, payload) in &entries.all {
        agree(writer, reader, key, payload, before)?;
    }
    writer.delete_multi(&keys)
}

/// What one side deletes is gone for both.
fn delete(writer: &dyn Side, reader: &dyn Side, entries: &Entries) -> Result<()> {
    writer.set_multi(&entries.all)?;
    let (key, _) = &entries.first;
    ensure!(reader.get(key)?.is_some(), "the reader misses {key}");
    reader.delete(key)?;
    ensure!(
        writer.get(key)?.is_none(),
        "{key} was deleted by the reader and the writer still has it"
    );
    let mut keys: Vec<&str> = entries.all.iter().map(|(key, _)| key.as_str()).collect();
    keys.push("not-there");
    reader.delete_multi(&keys)?;
    let left = writer.get_multi(&keys)?;
    ensure!(
        left.iter().all(Option::is_none),
        "delete_multi by the reader left some keys"
    );
    Ok(())
}

/// A value with a lifetime is there at first. [`goes`] sees it go.
fn set_with_ttl(writer: &dyn Side, reader: &dyn Side, entries: &Entries) -> Result<()> {
    let (key, payload) = &entries.first;
    for _ in 0..5 {
        let started = Instant::now();
        let before = now();
        writer.set(key, payload)?;
        let result = agree(writer, reader, key, payload, before);
        // Where the machine was so slow that the value may have gone, this said nothing.
        if result.is_ok() || started.elapsed() + Duration::from_secs(1) < TTL {
            return result;
        }
    }
    bail!(
        "setting and getting {key} takes longer than {} s",
        TTL.as_secs()
    )
}

/// A value that had a lifetime is gone before `limit`.
pub(crate) fn goes(reader: &dyn Side, key: &str, limit: Instant) -> Result<()> {
    while reader.get(key)?.is_some() {
        if Instant::now() > limit {
            bail!("{key} is still there long after its deadline");
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A payload that the shared format cannot say is refused, and nothing is left of it.
pub(crate) fn refuses(writer: &dyn Side, reader: &dyn Side, entries: &Entries) -> Result<()> {
    let (key, payload) = &entries.first;
    ensure!(
        writer.set(key, payload).is_err(),
        "{} takes bytes that JSON cannot hold",
        writer.name()
    );
    ensure!(
        writer.set_multi(&entries.all).is_err(),
        "{} takes bytes that JSON cannot hold",
        writer.name()
    );
    ensure!(reader.get(key)?.is_none(), "something was stored");
    Ok(())
}

/// Both sides find `payload`, cached at the same time, which is when it was written.
fn agree(
    writer: &dyn Side,
    reader: &dyn Side,
    key: &str,
    payload: &Payload,
    before: f64,
) -> Result<()> {
    let own = writer
        .get(key)?
        .with_context(|| format!("the writer misses {key}"))?;
    let found = reader
        .get(key)?
        .with_context(|| format!("the reader misses {key}"))?;
    ensure!(
        found.payload == *payload,
        "get of {key}: {}",
        difference(Some(&found.payload))
    );
    ensure!(
        own.payload == *payload,
        "{key} comes back to its writer otherwise"
    );
    ensure!(
        found.cached_at.to_bits() == own.cached_at.to_bits(),
        "{key} was cached at {:?} for its writer and at {:?} for its reader",
        own.cached_at,
        found.cached_at
    );
    // A float of this size is exact to a microsecond.
    ensure!(
        (before - 1e-5..=now() + 1e-5).contains(&found.cached_at),
        "{key} was cached at {:?}, not when it was written",
        found.cached_at
    );
    Ok(())
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}

fn difference(found: Option<&Payload>) -> String {
    let shown = format!("found {found:?}, which is not what was written");
    // It may be long.
    shown.chars().take(200).collect()
}
