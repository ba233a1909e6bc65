//! Exchanges every kind of value through every operation, in both directions.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use cache_core::{CacheBackendExt as _, CachedValue};
use serde_json::{Value, json};

use crate::context::Context;
use crate::settings::Setting;
use crate::sides::{Format, Region, Side, from_bytes, to_bytes, value_of};

/// The lifetime of values that should expire.
const TTL: Duration = Duration::from_secs(5);

/// How long a value may outlive its deadline: memcached's clock ticks in seconds, and etcd's leases
/// are shared and revoked with a delay.
const LATE: Duration = Duration::from_secs(60);

/// Enough keys for each of three servers to get some.
const KEYS: usize = 12;

const MIB: usize = 1024 * 1024;

/// A kind of value or key.
struct Kind {
    name: &'static str,
    payload: fn(usize) -> Value,
    key: &'static str,
    format: Format,
}

const fn kind(name: &'static str, payload: fn(usize) -> Value) -> Kind {
    Kind {
        name,
        payload,
        key: "",
        format: Format::Json,
    }
}

const KINDS: &[Kind] = &[
    kind("text", |i| json!(format!("text {i} é € 😀 \u{0} \r\n END"))),
    kind(
        "object",
        |i| json!({"a": i, "b": [true, null, -1.5, i64::MIN], "é": {"ü€": "😀"}}),
    ),
    kind("a|b", |i| {
        json!(format!("|{i}|{{\"ct\": 1.5, \"v\": 2}}||"))
    }),
    // Slightly less, because memcached's limit includes the key, the metadata and its own header.
    kind("1 MiB", |i| json!(format!("{i}{}", "x".repeat(MIB - 1024)))),
    Kind {
        key: "ключ/é/e\u{301}/鍵/😀/",
        ..kind("unicode keys", |i| json!(i))
    },
    Kind {
        format: Format::Bytes,
        ..kind("bytes", |i| {
            let bytes: Vec<u8> = (0..=u8::MAX).cycle().skip(i).take(256).collect();
            from_bytes(&bytes)
        })
    },
    Kind {
        format: Format::Bytes,
        ..kind("empty", |_| from_bytes(b""))
    },
];

/// A value that should expire.
struct Leaving {
    what: String,
    reader: Side,
    key: String,
}

/// The number of passed checks, and a line for each failure.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) passed: usize,
    pub(crate) failures: Vec<String>,
}

/// Runs every cell of the matrix. Mismatches are failures in the outcome; an error means that the
/// matrix could not run.
pub(crate) fn run(context: &Context, settings: &[Setting]) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut leaving = Vec::new();
    let mut namespace = 0;
    for setting in settings {
        for (way, rust_writes) in [("Rust → Python", true), ("Python → Rust", false)] {
            let pair = |format, ttl| -> Result<(Side, Side)> {
                let recipe = setting.recipe(format, ttl)?;
                let region = Region::make(&context.python, &recipe, format)?;
                let (rust, python) = (setting.rust.clone(), region.into_dyn().blocking()?);
                Ok(if rust_writes {
                    (rust, python)
                } else {
                    (python, rust)
                })
            };
            for kind in KINDS {
                // The shortest JSON payload instead.
                let is_shortest = kind.name == "empty" && !setting.holds_bytes;
                let (format, payload): (_, fn(usize) -> Value) = if is_shortest {
                    (Format::Json, |_| json!(""))
                } else {
                    (kind.format, kind.payload)
                };
                let (writer, reader) = pair(format, None)?;
                let what = format!("{}, {way}, {}", setting.name, kind.name);
                // The namespace is a number, since some clients reject keys with spaces.
                namespace += 1;
                let entry = |i| {
                    Ok((
                        format!("{namespace}/{}{i}", kind.key),
                        to_bytes(&payload(i))?,
                    ))
                };
                let count = if kind.name == "1 MiB" { 2 } else { KEYS };
                let entries: Vec<Entry> = (0..count).map(entry).collect::<Result<_>>()?;
                if format == Format::Bytes && !setting.holds_bytes {
                    outcome.take(&what, refuses(&writer, &reader, &entries));
                    continue;
                }
                outcome.take(&what, exchange(&writer, &reader, &entries));
                let (writer, reader) = pair(format, Some(TTL))?;
                let entry = (format!("{namespace}/ttl"), to_bytes(&payload(0))?);
                outcome.take(&what, set_with_ttl(&writer, &reader, &entry));
                let (key, _) = entry;
                leaving.push(Leaving { what, reader, key });
            }
        }
    }
    // All values expire at about the same time.
    let limit = Instant::now() + TTL + LATE;
    for Leaving { what, reader, key } in leaving {
        outcome.take(&what, goes(&reader, &key, limit));
    }
    Ok(outcome)
}

impl Outcome {
    fn take(&mut self, what: &str, result: Result<()>) {
        match result {
            Ok(()) => self.passed += 1,
            Err(error) => self.failures.push(format!("{what}: {error:#}")),
        }
    }
}

/// A key and a payload.
type Entry = (String, Vec<u8>);

fn set_multi(cache: &Side, entries: &[Entry]) -> Result<()> {
    let entries = entries.iter();
    let entries = entries.map(|(key, payload)| (&**key, CachedValue::new(payload.clone())));
    Ok(cache.set_multi(entries.collect())?)
}

fn get_multi(cache: &Side, keys: &[&str]) -> Result<Vec<Option<Vec<u8>>>> {
    let found = cache.get_multi(keys).into_iter();
    found
        .map(|found| Ok(found?.map(CachedValue::into_payload)))
        .collect()
}

/// Checks that the reader sees what the writer does with `entries`, and that deletions by one side
/// affect both.
fn exchange(writer: &Side, reader: &Side, entries: &[Entry]) -> Result<()> {
    let (key, _) = entries.first().context("no entry")?;
    for entry in entries.iter().take(2) {
        let before = SystemTime::now();
        writer.set(&entry.0, CachedValue::new(entry.1.clone()))?;
        agree(writer, reader, entry, before).context("set")?;
    }
    reader.delete(key)?;
    ensure!(
        writer.get(key)?.is_none(),
        "{key} still exists after the reader deleted it"
    );

    let before = SystemTime::now();
    set_multi(writer, entries)?;
    // In another order, and with an absent key.
    let mut asked: Vec<(&str, Option<&[u8]>)> = entries
        .iter()
        .rev()
        .map(|(key, payload)| (key.as_str(), Some(payload.as_slice())))
        .collect();
    asked.insert(1, ("not-there", None));
    let keys: Vec<&str> = asked.iter().map(|(key, _)| *key).collect();
    let found = get_multi(reader, &keys)?;
    ensure!(
        found.len() == keys.len(),
        "{} answers to {} keys",
        found.len(),
        keys.len()
    );
    for ((key, expected), found) in asked.iter().zip(&found) {
        let is_same = match (expected, found) {
            (Some(expected), Some(found)) => are_same(expected, found),
            (expected, found) => expected.is_none() && found.is_none(),
        };
        ensure!(is_same, "get_multi of {key}: {}", shown(found.as_deref()));
    }
    for entry in entries {
        agree(writer, reader, entry, before).context("set_multi")?;
    }
    reader.delete_multi(&keys)?;
    let left = get_multi(writer, &keys)?;
    ensure!(
        left.iter().all(Option::is_none),
        "delete_multi by the reader left some keys"
    );
    Ok(())
}

/// Checks that a value with a lifetime is present at first. [`goes`] checks that it expires.
fn set_with_ttl(writer: &Side, reader: &Side, entry: &Entry) -> Result<()> {
    let (key, payload) = entry;
    for _ in 0..5 {
        let started = Instant::now();
        let before = SystemTime::now();
        writer.set(key, CachedValue::new(payload.clone()).with_ttl(TTL))?;
        let result = agree(writer, reader, entry, before);
        // If the machine was so slow that the value may have expired, the result is inconclusive.
        if result.is_ok() || started.elapsed() + Duration::from_secs(1) < TTL {
            return result.context("set with a lifetime");
        }
    }
    bail!("setting and getting {key} takes longer than {TTL:?}")
}

/// Checks that a value with a lifetime expires before `limit`.
fn goes(reader: &Side, key: &str, limit: Instant) -> Result<()> {
    while reader.get(key)?.is_some() {
        ensure!(
            Instant::now() < limit,
            "{key} still exists long after its deadline"
        );
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Checks that a payload that the shared format cannot represent is refused and not stored.
fn refuses(writer: &Side, reader: &Side, entries: &[Entry]) -> Result<()> {
    let (key, payload) = entries.last().context("no entry")?;
    let refused = writer.set(key, CachedValue::new(payload.clone())).is_err();
    ensure!(
        refused && set_multi(writer, entries).is_err(),
        "the writer accepts bytes that JSON cannot represent"
    );
    ensure!(reader.get(key)?.is_none(), "something was stored");
    Ok(())
}

/// Checks that both sides find the payload, cached at the time when it was written.
fn agree(writer: &Side, reader: &Side, (key, payload): &Entry, before: SystemTime) -> Result<()> {
    let own = value_of(writer, key).context("the writer")?;
    let found = value_of(reader, key).context("the reader")?;
    ensure!(
        are_same(payload, found.payload()),
        "get of {key}: {}",
        shown(Some(found.payload()))
    );
    ensure!(
        are_same(payload, own.payload()),
        "the writer reads another value of {key}"
    );
    let (own_time, time) = (seconds(own.cached_at()), seconds(found.cached_at()));
    ensure!(
        time.to_bits() == own_time.to_bits(),
        "{key} was cached at {own_time:?} for its writer and at {time:?} for its reader"
    );
    // A float of this magnitude is precise to a microsecond.
    let (before, now) = (seconds(before), seconds(SystemTime::now()));
    ensure!(
        (before - 1e-5..=now + 1e-5).contains(&time),
        "{key} was cached at {time:?}, not when it was written"
    );
    Ok(())
}

/// Since the epoch, as in Python.
fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

/// Whether two payloads are equal, as bytes or as JSON, which each side spaces in its own way.
fn are_same(one: &[u8], other: &[u8]) -> bool {
    let json = |bytes| serde_json::from_slice::<Value>(bytes);
    one == other || matches!((json(one), json(other)), (Ok(one), Ok(other)) if one == other)
}

fn shown(found: Option<&[u8]>) -> String {
    let found = found.map(String::from_utf8_lossy);
    let shown = format!("found {found:?}, which is not what was written");
    // The payload may be long.
    shown.chars().take(200).collect()
}
