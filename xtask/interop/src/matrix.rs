//! Exchanges every kind of value through every operation, in both directions.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::context::Context;
use crate::settings::Setting;
use crate::sides::{Format, Rust, Side, from_bytes};

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
struct Leaving<'a> {
    what: String,
    reader: Box<dyn Side + 'a>,
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
pub(crate) fn run<'a>(context: &'a Context, settings: &'a [Setting]) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let mut leaving = Vec::new();
    let mut namespace = 0;
    for setting in settings {
        for rust_writes in [true, false] {
            let pair = |format, ttl| -> Result<(Box<dyn Side + 'a>, Box<dyn Side + 'a>)> {
                let region = context.region(&setting.recipe(format, ttl)?)?;
                let rust = Rust {
                    runtime: &context.runtime,
                    cache: &setting.rust,
                    format,
                    ttl,
                };
                Ok(if rust_writes {
                    (Box::new(rust), Box::new(region))
                } else {
                    (Box::new(region), Box::new(rust))
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
                let way = format!("{} → {}", writer.name(), reader.name());
                let what = format!("{}, {way}, {}", setting.name, kind.name);
                // The namespace is a number, since some clients reject keys with spaces.
                namespace += 1;
                let entry = |i| (format!("{namespace}/{}{i}", kind.key), payload(i));
                let count = if kind.name == "1 MiB" { 2 } else { KEYS };
                let entries: Vec<(String, Value)> = (0..count).map(entry).collect();
                if format == Format::Bytes && !setting.holds_bytes {
                    outcome.take(&what, refuses(&*writer, &*reader, &entries));
                    continue;
                }
                outcome.take(&what, exchange(&*writer, &*reader, &entries));
                let (writer, reader) = pair(format, Some(TTL))?;
                let key = format!("{namespace}/ttl");
                outcome.take(&what, set_with_ttl(&*writer, &*reader, &key, &payload(0)));
                leaving.push(Leaving { what, reader, key });
            }
        }
    }
    // All values expire at about the same time.
    let limit = Instant::now() + TTL + LATE;
    for Leaving { what, reader, key } in leaving {
        outcome.take(&what, goes(&*reader, &key, limit));
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

/// Checks that the reader sees what the writer does with `entries`, and that deletions by one side
/// affect both.
fn exchange(writer: &dyn Side, reader: &dyn Side, entries: &[(String, Value)]) -> Result<()> {
    let (key, _) = entries.first().context("no entry")?;
    for (_, payload) in entries.iter().take(2) {
        let before = now();
        writer.set(key, payload)?;
        agree(writer, reader, key, payload, before).context("set")?;
    }
    reader.delete(key)?;
    ensure!(
        writer.get(key)?.is_none(),
        "{key} still exists after the reader deleted it"
    );

    let before = now();
    writer.set_multi(entries)?;
    // In another order, and with an absent key.
    let mut asked: Vec<(&str, Option<&Value>)> = entries
        .iter()
        .rev()
        .map(|(key, payload)| (key.as_str(), Some(payload)))
        .collect();
    asked.insert(1, ("not-there", None));
    let keys: Vec<&str> = asked.iter().map(|(key, _)| *key).collect();
    let found = reader.get_multi(&keys)?;
    ensure!(
        found.len() == keys.len(),
        "{} answers to {} keys",
        found.len(),
        keys.len()
    );
    for ((key, expected), found) in asked.iter().zip(&found) {
        ensure!(
            *expected == found.as_ref(),
            "get_multi of {key}: {}",
            shown(found)
        );
    }
    for (key, payload) in entries {
        agree(writer, reader, key, payload, before).context("set_multi")?;
    }
    reader.delete_multi(&keys)?;
    let left = writer.get_multi(&keys)?;
    ensure!(
        left.iter().all(Option::is_none),
        "delete_multi by the reader left some keys"
    );
    Ok(())
}

/// Checks that a value with a lifetime is present at first. [`goes`] checks that it expires.
fn set_with_ttl(writer: &dyn Side, reader: &dyn Side, key: &str, payload: &Value) -> Result<()> {
    for _ in 0..5 {
        let started = Instant::now();
        let before = now();
        writer.set(key, payload)?;
        let result = agree(writer, reader, key, payload, before);
        // If the machine was so slow that the value may have expired, the result is inconclusive.
        if result.is_ok() || started.elapsed() + Duration::from_secs(1) < TTL {
            return result.context("set with a lifetime");
        }
    }
    bail!("setting and getting {key} takes longer than {TTL:?}")
}

/// Checks that a value with a lifetime expires before `limit`.
fn goes(reader: &dyn Side, key: &str, limit: Instant) -> Result<()> {
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
fn refuses(writer: &dyn Side, reader: &dyn Side, entries: &[(String, Value)]) -> Result<()> {
    let (key, payload) = entries.last().context("no entry")?;
    let refused = writer.set(key, payload).is_err() && writer.set_multi(entries).is_err();
    ensure!(
        refused,
        "{} accepts bytes that JSON cannot represent",
        writer.name()
    );
    ensure!(reader.get(key)?.is_none(), "something was stored");
    Ok(())
}

/// Checks that both sides find `payload`, cached at the time when it was written.
fn agree(
    writer: &dyn Side,
    reader: &dyn Side,
    key: &str,
    payload: &Value,
    before: f64,
) -> Result<()> {
    let (own, own_time) = writer
        .get(key)?
        .with_context(|| format!("the writer misses {key}"))?;
    let (found, time) = reader
        .get(key)?
        .with_context(|| format!("the reader misses {key}"))?;
    ensure!(found == *payload, "get of {key}: {}", shown(&found));
    ensure!(own == *payload, "the writer reads another value of {key}");
    ensure!(
        time.to_bits() == own_time.to_bits(),
        "{key} was cached at {own_time:?} for its writer and at {time:?} for its reader"
    );
    // A float of this magnitude is precise to a microsecond.
    let is_now = (before - 1e-5..=now() + 1e-5).contains(&time);
    ensure!(
        is_now,
        "{key} was cached at {time:?}, not when it was written"
    );
    Ok(())
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs_f64()
}

fn shown(found: &impl std::fmt::Debug) -> String {
    let shown = format!("found {found:?}, which is not what was written");
    // The payload may be long.
    shown.chars().take(200).collect()
}
