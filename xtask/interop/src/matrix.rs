//! Every kind of value through every operation, each way.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;

use super::cases::{KINDS, Operation};
use super::operations::{goes, passes, refuses};
use super::python::Python;
use super::settings::{Setting, TTL};
use super::sides::{Format, Region, Rust, Side};

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
    let mut matrix = Matrix { rows: Vec::new() };
    let mut leaving = Vec::new();
    for (setting, lasting, expiring) in &sides {
        for rust_writes in [true, false] {
            for operation in Operation::ALL {
                let sides = match operation {
                    Operation::Expiry => expiring,
                    _ => lasting,
                };
                let pair = |format| sides.of(format, rust_writes);
                matrix.fill(setting, operation, pair, &mut leaving);
            }
        }
    }
    // All go at about the same time.
    let limit = Instant::now() + TTL + LATE;
    for value in leaving {
        if let Err(error) = goes(value.reader, &value.key, limit) {
            let row = matrix.rows.get_mut(value.row);
            let outcome = row.and_then(|row| row.outcomes.get_mut(value.column));
            *outcome.context("no such cell")? = Outcome::Failed(format!("{error:#}"));
        }
    }
    Ok(matrix)
}

impl Matrix {
    /// Adds the row of one operation. Values that still have to go are added to `leaving`.
    fn fill<'a>(
        &mut self,
        setting: &Setting,
        operation: Operation,
        pair: impl Fn(Format) -> (&'a dyn Side, &'a dyn Side),
        leaving: &mut Vec<Leaving<'a>>,
    ) {
        let row = self.rows.len();
        let mut outcomes = Vec::new();
        for (column, kind) in KINDS.iter().enumerate() {
            let entries = kind.entries(&format!("{row}/{column}"), setting.holds_bytes);
            let (writer, reader) = pair(entries.format);
            let result = if setting.holds_bytes || entries.format == Format::Json {
                passes(operation, writer, reader, &entries).map(|()| Outcome::Passed)
            } else {
                refuses(writer, reader, &entries).map(|()| Outcome::Refused)
            };
            if operation == Operation::Expiry && matches!(result, Ok(Outcome::Passed)) {
                let key = entries.first.0.clone();
                leaving.push(Leaving {
                    row,
                    column,
                    reader,
                    key,
                });
            }
            let failed = |error| Outcome::Failed(format!("{error:#}"));
            outcomes.push(result.unwrap_or_else(failed));
        }
        let (writer, reader) = pair(Format::Json);
        self.rows.push(Row {
            setting: setting.name,
            direction: format!("{} → {}", writer.name(), reader.name()),
            operation,
            outcomes,
        });
    }

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
