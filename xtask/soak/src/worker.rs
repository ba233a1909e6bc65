//! The second process: clients of its own on the same servers. It writes what they report to its
//! standard output, and ends when its standard input does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::process;

use super::ROLE_WORKER;
use super::event::Report;
use super::fleet::{Fleet, Settings};
use super::target::store;
use super::time::{ERROR, RunTime, nanos};

/// What the process is told, as its only argument.
#[derive(Serialize, Deserialize)]
struct Orders {
    backend: String,
    run: u64,
    seed: u64,
    began: u64,
    rate: f64,
    clients: u32,
    addresses: Vec<String>,
}

pub(crate) struct Worker {
    child: Child,
    reader: JoinHandle<()>,
}

/// This very program, even if a newer one has been built in its place.
pub(crate) fn this_program() -> Result<Command> {
    let own = std::path::Path::new("/proc/self/exe");
    if own.exists() {
        return Ok(process::command(own));
    }
    Ok(process::command(std::env::current_exe()?))
}

impl Worker {
    pub(crate) fn start(
        backend: &str,
        settings: &Settings,
        began: u64,
        addresses: &[String],
        to: Sender<Report>,
    ) -> Result<Self> {
        let orders = serde_json::to_string(&Orders {
            backend: backend.to_owned(),
            run: settings.run,
            seed: settings.seed,
            began,
            rate: settings.rate,
            clients: settings.clients,
            addresses: addresses.to_vec(),
        })?;
        let mut child = this_program()?
            .args(["soak", ROLE_WORKER, &orders])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the second process")?;
        let output = child.stdout.take().context("no standard output")?;
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let Ok(line) = line else { return };
                let report = serde_json::from_str(&line).unwrap_or_else(|error| Report::Wrong {
                    rule: "panic".to_owned(),
                    key: None,
                    at: 0,
                    text: format!("the second process wrote {line:?}: {error}"),
                });
                if to.send(widened(report)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, reader })
    }

    pub(crate) fn finish(mut self, to: &Sender<Report>, time: &RunTime) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + Duration::from_secs(120);
        let text = loop {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => break None,
                Ok(Some(status)) => break Some(format!("the second process ended with {status}")),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
                Ok(None) => break Some("the second process does not end".to_owned()),
                Err(error) => break Some(format!("the second process: {error}")),
            }
        };
        // Does nothing to a process that has ended.
        let _ = self.child.kill();
        let _ = self.reader.join();
        if let Some(text) = text {
            let _ = to.send(Report::Wrong {
                rule: "panic".to_owned(),
                key: None,
                at: time.now(),
                text,
            });
        }
    }
}

/// The clocks of two processes agree to within [`ERROR`]: a call that may have overlapped with
/// another one counts as if it had.
fn widened(mut report: Report) -> Report {
    if let Report::Call { events, .. } = &mut report {
        for event in events {
            event.start.at = event.start.at.saturating_sub(nanos(ERROR));
            event.end.at += nanos(ERROR);
        }
    }
    report
}

/// The second process.
pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let orders = arguments.first().context("no orders")?;
    let orders: Orders = serde_json::from_str(orders)?;
    let store = store(&orders.backend, orders.addresses)?;
    let settings = Settings {
        run: orders.run,
        seed: orders.seed ^ 1,
        process: 1,
        rate: orders.rate,
        clients: orders.clients,
        time: RunTime::since(orders.began),
    };
    let (to, reports) = channel::<Report>();
    let writer = thread::spawn(move || {
        let mut output = std::io::BufWriter::new(std::io::stdout().lock());
        while let Ok(report) = reports.recv() {
            let mut next = Some(report);
            // All that is there at once, then out with it.
            while let Some(report) = next {
                if serde_json::to_writer(&mut output, &report).is_err()
                    || output.write_all(b"\n").is_err()
                {
                    return;
                }
                next = reports.try_recv().ok();
            }
            if output.flush().is_err() {
                return;
            }
        }
    });
    let fleet = Fleet::start(&store, &settings, &to)?;
    let mut nothing = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut nothing);
    fleet.finish(&to, 0);
    drop(to);
    let _ = writer.join();
    Ok(())
}
