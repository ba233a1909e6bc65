//! A Python process that executes requests with the real packages.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

const DRIVER: &str = include_str!("driver.py");

/// A running driver. It ends when dropped, or when an answer takes too long.
pub(crate) struct Python {
    child: Child,
    /// One request at a time.
    channel: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Python {
    pub(crate) fn start(interpreter: &Path) -> Result<Self> {
        let mut child = Command::new(interpreter)
            .args(["-c", DRIVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", interpreter.display()))?;
        let requests = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let channel = Mutex::new((requests, answers));
        Ok(Self { child, channel })
    }

    /// Sends `request` and returns the driver's answer; an exception in Python becomes an error.
    pub(crate) fn ask(&self, request: &Value) -> Result<Value> {
        let mut answer = String::new();
        {
            let channel = self.channel.lock();
            let mut channel = channel.map_err(|_| anyhow!("an earlier request panicked"))?;
            let (requests, answers) = &mut *channel;
            writeln!(requests, "{request}").context("the Python driver has ended")?;
            answers.read_line(&mut answer)?;
        }
        let mut answer: Value =
            serde_json::from_str(&answer).context("the Python driver did not answer")?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            bail!("Python raised {error}");
        }
        Ok(answer["ok"].take())
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
