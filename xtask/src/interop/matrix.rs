//! Every kind of value through every operation, each way.

use std::fmt;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::runtime::Runtime;

use super::cases::{KINDS, Operation};
use super::python::Python;
use super::settings::{Setting, TTL};
use super::sides::{Format, Payload, Region, Rust, Side};

/// How much later than its deadline a value may go: memcached's clock ticks in seconds, and a
/// lease of etcd is shared and removed when the server comes to it.
const LATE: Duration = Duration::from_secs(60);

/// What came out of one cell.
enum Outcome {
    Passed,
    /// Both sides refuse such a payload, as they should.
    Refused,
    Failed(String),
}

/// One operation of one writer and one reader: a line of the table.
struct Row {
    setting: &'static str,
    direction: String,
    operation: Operation,
    outcomes: Vec<Outcome>,
}

/// All that came out.
pub(crate) struct Matrix {
    rows: Vec<Row>,
}

/// The sides of one setting, each way of storing payloads.
struct Sides<'a> {
    json: (Rust<'a>, Region<'a>),
    bytes: (Rust<'a>, Region<'a>),
}

impl<'a> Sides<'a> {
    fn new(
        setting: &'a Setting,
        runtime: &'a Runtime,
        python: &'a Python,
        ttl: Option<Duration>,
    ) -> Result<Self> {
        Ok(Self {
            json: setting.sides(runtime, python, Format::Json, ttl)?,
            bytes: setting.sides(runtime, python, Format::Bytes, ttl)?,
        })
    }

    /// Writer and reader.
    fn of(&self, format: Format, rust_writes: bool) -> (&dyn Side, &dyn Side) {
        let (rust, python) = match format {
            Format::Json => &self.json,
            Format::Bytes => &self.bytes,
        };
        if rust_writes {
            (rust, python)
        } else {
            (python, rust)
        }
    }
}

/// A value that has to go, and the cell that waits for it.
struct Leaving<'a> {
    row: usize,
    column: usize,
    reader: &'a dyn Side,
    key: String,
}

/// Runs every cell. A mismatch is an outcome; an error is what keeps the matrix from being run.
pub(crate) fn run(settings: &[Setting], runtime: &Runtime, python: &Python) -> Result<Matrix> {
    let mut sides = Vec::new();
    for setting in settings {
        let lasting = Sides::new(setting, runtime, python, None)?;
        let expiring = Sides::new(setting, runtime, python, Some(TTL))?;
        sides.push((setting, lasting, expiring));
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut leaving = Vec::new();
    for (number, (setting, lasting, expiring)) in sides.iter().enumerate() {
        for rust_writes in [true, false] {
            for operation in Operation::ALL {
                let sides = if operation == Operation::Expiry {
                    expiring
                } else {
                    lasting
                };
                let mut outcomes = Vec::new();
                for (column, kind) in KINDS.iter().enumerate() {
                    let namespace = format!("{number}/{rust_writes}/{}/{column}", operation.name());
                    let entries = kind.entries(&namespace, setting.holds_bytes);
                    let (writer, reader) = sides.of(format_of(&entries), rust_writes);
                    let refused = !setting.holds_bytes && format_of(&entries) == Format::Bytes;
                    let result = if refused {
                        refuses(writer, reader, &entries).map(|()| Outcome::Refused)
                    } else {
                        cell(operation, writer, reader, &entries).map(|()| Outcome::Passed)
                    };
                    if operation == Operation::Expiry && matches!(result, Ok(Outcome::Passed)) {
                        let (row, key) = (rows.len(), first(&entries)?.0.clone());
                        leaving.push(Leaving {
                            row,
                            column,
                            reader,
                            key,
                        });
                    }
                    outcomes
                        .push(result.unwrap_or_else(|error| Outcome::Failed(format!("{error:#}"))));
                }
                let (writer, reader) = sides.of(Format::Json, rust_writes);
                rows.push(Row {
                    setting: setting.name,
                    direction: format!("{} → {}", writer.name(), reader.name()),
                    operation,
                    outcomes,
                });
            }
        }
    }
    let limit = Instant::now() + TTL + LATE;
    for Leaving {
        row,
        column,
        reader,
        key,
    } in leaving
    {
        if let Err(error) = goes(reader, &key, limit) {
            let outcome = rows
                .get_mut(row)
                .and_then(|row| row.outcomes.get_mut(column));
            *outcome.context("no such cell")? = Outcome::Failed(format!("{error:#}"));
        }
    }
    Ok(Matrix { rows })
}

fn format_of(entries: &[(String, Payload)]) -> Format {
    entries
        .first()
        .map_or(Format::Json, |(_, payload)| payload.format())
}

fn first(entries: &[(String, Payload)]) -> Result<&(String, Payload)> {
    entries.first().context("a kind without entries")
}

fn cell(
    operation: Operation,
    writer: &dyn Side,
    reader: &dyn Side,
    entries: &[(String, Payload)],
) -> Result<()> {
    match operation {
        Operation::Set => set(writer, reader, entries),
        Operation::SetMulti => set_multi(writer, reader, entries),
        Operation::Delete => delete(writer, reader, entries),
        Operation::Expiry => set_with_ttl(writer, reader, first(entries)?),
    }
}

/// The reader finds what the writer set, and what the writer then set in its place.
fn set(writer: &dyn Side, reader: &dyn Side, entries: &[(String, Payload)]) -> Result<()> {
    let (key, _) = first(entries)?;
    for (_, payload) in entries.iter().take(2) {
        let before = now();
        writer.set(key, payload)?;
        agree(writer, reader, key, payload, before)?;
    }
    writer.delete(key)
}

fn set_multi(writer: &dyn Side, reader: &dyn Side, entries: &[(String, Payload)]) -> Result<()> {
    let before = now();
    writer.set_multi(entries)?;
    // In another order, and with a key that is not there.
    let mut keys: Vec<&str> = entries.iter().rev().map(|(key, _)| key.as_str()).collect();
    keys.insert(1, "not-there");
    let mut expected: Vec<Option<&Payload>> = entries
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
    for (key, payload) in entries {
        agree(writer, reader, key, payload, before)?;
    }
    writer.delete_multi(&keys)
}

/// What one side deletes is gone for both.
fn delete(writer: &dyn Side, reader: &dyn Side, entries: &[(String, Payload)]) -> Result<()> {
    writer.set_multi(entries)?;
    let (key, _) = first(entries)?;
    ensure!(reader.get(key)?.is_some(), "the reader misses {key}");
    reader.delete(key)?;
    ensure!(
        writer.get(key)?.is_none(),
        "{key} was deleted by the reader and the writer still has it"
    );
    let mut keys: Vec<&str> = entries.iter().map(|(key, _)| key.as_str()).collect();
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
fn set_with_ttl(
    writer: &dyn Side,
    reader: &dyn Side,
    (key, payload): &(String, Payload),
) -> Result<()> {
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

fn goes(reader: &dyn Side, key: &str, limit: Instant) -> Result<()> {
    while reader.get(key)?.is_some() {
        if Instant::now() > limit {
            bail!(
                "{key} is still there {} s after its deadline",
                LATE.as_secs()
            );
        }
        thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// A payload that the shared format cannot say is refused, and nothing is left of it.
fn refuses(writer: &dyn Side, reader: &dyn Side, entries: &[(String, Payload)]) -> Result<()> {
    let (key, payload) = first(entries)?;
    ensure!(
        writer.set(key, payload).is_err(),
        "{} takes bytes that JSON cannot hold",
        writer.name()
    );
    ensure!(
        writer.set_multi(entries).is_err(),
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

impl Matrix {
    pub(crate) fn cells(&self) -> usize {
        self.rows.iter().map(|row| row.outcomes.len()).sum()
    }

    /// What failed, one line each.
    pub(crate) fn failures(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for row in &self.rows {
            for (outcome, kind) in row.outcomes.iter().zip(KINDS) {
                if let Outcome::Failed(why) = outcome {
                    failures.push(format!(
                        "{}, {}, {}, {}: {why}",
                        row.setting,
                        row.direction,
                        row.operation.name(),
                        kind.name
                    ));
                }
            }
        }
        failures
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut setting = "";
        let mut direction = "";
        for row in &self.rows {
            if row.setting != setting {
                (setting, direction) = (row.setting, "");
                write!(f, "\n{setting}\n{:29}", "")?;
                for kind in KINDS {
                    write!(f, "{:14}", kind.name)?;
                }
                writeln!(f)?;
            }
            let shown = if row.direction == direction {
                ""
            } else {
                &row.direction
            };
            direction = &row.direction;
            write!(f, "  {shown:15}  {:10}", row.operation.name())?;
            for outcome in &row.outcomes {
                write!(
                    f,
                    "{:14}",
                    match outcome {
                        Outcome::Passed => "ok",
                        Outcome::Refused => "refused",
                        Outcome::Failed(_) => "FAILED",
                    }
                )?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
