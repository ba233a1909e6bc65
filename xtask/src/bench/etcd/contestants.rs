//! Who takes part: ours, the plain client, the original's way in Rust, and the original.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use cache_core::{CacheBackend as _, CachedValue};
use cache_etcd3::Etcd3Backend;
use etcd_client::{Client, KvClient, PutOptions, Txn, TxnOp};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::process;
use crate::workspace::{self, Workspace};
use interop::venv;

/// How many different keys there are.
pub(crate) const KEYS: usize = 10_000;

/// The transaction limit of etcd.
const TRANSACTION: usize = 128;

pub(crate) fn payload() -> Vec<u8> {
    vec![b'v'; 100]
}

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Set,
    Get,
    SetMulti(usize),
    GetMulti(usize),
}

impl Work {
    /// Keys in one call.
    pub(crate) fn batch(self) -> usize {
        match self {
            Self::Set | Self::Get => 1,
            Self::SetMulti(batch) | Self::GetMulti(batch) => batch,
        }
    }

    /// The same with one key a call.
    pub(crate) fn single(self) -> Self {
        match self {
            Self::Set | Self::SetMulti(_) => Self::Set,
            Self::Get | Self::GetMulti(_) => Self::Get,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Get => "get",
            Self::SetMulti(_) => "set_multi",
            Self::GetMulti(_) => "get_multi",
        }
    }
}

/// A way to do it in Rust.
pub(crate) trait Contestant: Clone + Send + Sync + 'static {
    fn call(&mut self, work: Work, first: usize) -> impl Future<Output = Result<()>> + Send;
}

/// Runs `tasks` tasks for so long; how many keys were done, and how long it took.
pub(crate) async fn drive<C: Contestant>(
    contestant: &C,
    work: Work,
    tasks: usize,
    length: Duration,
) -> Result<(u64, Duration)> {
    let began = Instant::now();
    let end = began + length;
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = JoinSet::new();
    for _ in 0..tasks {
        let (mut contestant, next) = (contestant.clone(), Arc::clone(&next));
        running.spawn(async move {
            let mut done = 0;
            while Instant::now() < end {
                let first = next.fetch_add(work.batch(), Ordering::Relaxed);
                contestant.call(work, first).await?;
                done += work.batch() as u64;
            }
            anyhow::Ok(done)
        });
    }
    let mut done = 0;
    while let Some(task) = running.join_next().await {
        done += task??;
    }
    Ok((done, began.elapsed()))
}

fn keys(prefix: &str, first: usize, count: usize) -> Vec<String> {
    let key = |i: usize| format!("{prefix}/{}", i % KEYS);
    (first..first + count).map(key).collect()
}

impl Contestant for Etcd3Backend {
    async fn call(&mut self, work: Work, first: usize) -> Result<()> {
        let value = || CachedValue::new(payload());
        let keys = keys("ours", first, work.batch());
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        match (work, names.as_slice()) {
            (Work::Set, [name]) => self.set(name, value()).await?,
            (Work::Get, [name]) => drop(self.get(name).await?),
            (Work::SetMulti(_), _) => {
                let entries = names.iter().map(|name| (*name, value()));
                self.set_multi(entries.collect()).await?;
            }
            _ => {
                let found = self.get_multi(&names).await;
                found.into_iter().try_for_each(|found| found.map(drop))?;
            }
        }
        Ok(())
    }
}

/// `etcd-client` as it is: no leases, no envelope, no deadlines, no failover.
#[derive(Clone)]
pub(crate) struct Plain(pub(crate) KvClient);

impl Contestant for Plain {
    async fn call(&mut self, work: Work, first: usize) -> Result<()> {
        let mut keys = keys("plain", first, work.batch());
        match work {
            Work::Set => {
                let key = keys.pop().unwrap_or_default();
                self.0.put(key, payload(), None).await?;
            }
            Work::Get => {
                let key = keys.pop().unwrap_or_default();
                self.0.get(key, None).await?;
            }
            Work::SetMulti(_) | Work::GetMulti(_) => {
                let mut running = JoinSet::new();
                for keys in keys.chunks(TRANSACTION) {
                    let operation = |key: &String| match work {
                        Work::SetMulti(_) => TxnOp::put(key.as_str(), payload(), None),
                        _ => TxnOp::get(key.as_str(), None),
                    };
                    let operations: Vec<TxnOp> = keys.iter().map(operation).collect();
                    let mut client = self.0.clone();
                    running.spawn(async move {
                        client.txn(Txn::new().and_then(operations)).await.map(drop)
                    });
                }
                while let Some(transaction) = running.join_next().await {
                    transaction??;
                }
            }
        }
        Ok(())
    }
}

/// The original's way through `etcd-client`: a lease for each set.
#[derive(Clone)]
pub(crate) struct LeaseEach {
    pub(crate) client: Client,
    pub(crate) ttl: i64,
    /// How many different keys there are.
    pub(crate) keys: usize,
}

impl Contestant for LeaseEach {
    async fn call(&mut self, _: Work, first: usize) -> Result<()> {
        let lease = self.client.lease_grant(self.ttl, None).await?.id();
        let key = first % self.keys;
        let options = PutOptions::new().with_lease(lease);
        let put = self
            .client
            .put(format!("lease/{key}"), payload(), Some(options));
        put.await?;
        Ok(())
    }
}

/// The interpreter that has Python's oslo.cache.
fn python() -> Result<PathBuf> {
    let workspace = Workspace::members_only(&workspace::root())?;
    venv::provide(workspace.target_directory.join("interop"))
}

/// Names and versions of oslo.cache and of its client of etcd.
pub(crate) fn python_versions() -> Result<Vec<(String, String)>> {
    let mut pip = process::command(python()?);
    let listed = process::output_of(pip.args(["-m", "pip", "freeze"]))?;
    let versions = listed.lines().filter_map(|line| line.split_once("=="));
    let versions = versions.filter(|(name, _)| ["oslo.cache", "etcd3gw"].contains(name));
    let owned = |(name, version): (&str, &str)| (name.to_owned(), version.to_owned());
    Ok(versions.map(owned).collect())
}

/// Python's oslo.cache in a process of its own.
pub(crate) struct Oslo {
    process: Child,
    jobs: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oslo {
    pub(crate) fn start(endpoint: &str) -> Result<Self> {
        let mut process = process::command(python()?)
            .args(["-c", include_str!("oslo.py"), endpoint])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let jobs = process.stdin.take().context("no standard input")?;
        let answers = process.stdout.take().context("no standard output")?;
        Ok(Self {
            process,
            jobs,
            answers: BufReader::new(answers),
        })
    }

    pub(crate) fn drive(
        &mut self,
        work: Work,
        tasks: usize,
        length: Duration,
    ) -> Result<(u64, Duration)> {
        let job = json!({
            "do": work.name(), "batch": work.batch(), "tasks": tasks, "keys": KEYS,
            "seconds": length.as_secs_f64(),
        });
        writeln!(self.jobs, "{job}")?;
        let mut answer = String::new();
        if self.answers.read_line(&mut answer)? == 0 {
            bail!("Python ended");
        }
        let answer: Value = serde_json::from_str(&answer)?;
        let done = answer.get("done").and_then(Value::as_u64);
        let seconds = answer.get("seconds").and_then(Value::as_f64);
        let (done, seconds) = (done.context("no count")?, seconds.context("no time")?);
        Ok((done, Duration::from_secs_f64(seconds)))
    }
}

impl Drop for Oslo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
