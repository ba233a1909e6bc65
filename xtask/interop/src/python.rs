//! A Python process that does what it is asked with the real packages.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;

const DRIVER: &str = include_str!("driver.py");

/// Far beyond the time-outs of the packages.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);

/// The driver, running. It ends when this is dropped.
pub(crate) struct Python {
    child: Child,
    /// One request at a time.
    channel: Mutex<Channel>,
}

struct Channel {
    requests: ChildStdin,
    answers: Receiver<String>,
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
        let output = child.stdout.take().context("no standard output")?;
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let channel = Mutex::new(Channel { requests, answers });
        Ok(Self { child, channel })
    }

    /// What the driver answers to `request`; an exception there is an error here.
    pub(crate) fn ask(&self, request: &Value) -> Result<Value> {
        let answer = {
            let mut channel = self
                .channel
                .lock()
                .map_err(|_| anyhow!("the driver broke"))?;
            let line = format!("{request}\n");
            channel
                .requests
                .write_all(line.as_bytes())
                .context("the Python driver has ended")?;
            channel
                .answers
                .recv_timeout(ANSWER_LIMIT)
                .context("the Python driver gave no answer")?
        };
        let mut answer: Value = serde_json::from_str(&answer)?;
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
