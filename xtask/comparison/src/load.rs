//! Load generator: tasks that call a server in a closed loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cache_core::{CacheBackend, CachedValue};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::machine;
use super::measure::{Contestant, Sample};
use super::report::Role;

/// The repeated operation; multi operations carry the number of keys per call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// One write per call.
    Set,
    /// One read per call.
    Get,
    /// Nine reads to one write.
    Mixed,
    /// Writes of many keys.
    SetMulti(usize),
    /// Reads of many keys.
    GetMulti(usize),
}

impl Work {
    /// Keys per call.
    pub(crate) fn batch(self) -> usize {
        match self {
            Self::Set | Self::Get | Self::Mixed => 1,
            Self::SetMulti(batch) | Self::GetMulti(batch) => batch,
        }
    }

    /// The unit of the throughput.
    pub fn unit(self) -> &'static str {
        match self {
            Self::SetMulti(_) | Self::GetMulti(_) => "keys/s",
            _ => "op/s",
        }
    }

    /// Whether the `call`-th call is a write.
    fn writes(self, call: usize) -> bool {
        match self {
            Self::Set | Self::SetMulti(_) => true,
            Self::Get | Self::GetMulti(_) => false,
            Self::Mixed => call.is_multiple_of(10),
        }
    }
}

/// Ours, as a client under test.
#[derive(Clone)]
pub struct Ours<B>(pub B);

impl<B: CacheBackend<Value = Vec<u8>> + Clone + 'static> Client for Ours<B> {
    async fn get(&mut self, keys: &[&str]) -> Result<usize> {
        if let [key] = keys {
            return Ok(usize::from(self.0.get(key).await?.is_some()));
        }
        let found = self.0.get_multi(keys).await.into_iter();
        let found: Vec<_> = found.collect::<cache_core::Result<_>>()?;
        Ok(found.iter().flatten().count())
    }

    async fn set(&mut self, keys: &[&str], value: &[u8]) -> Result<()> {
        let value = || CachedValue::new(value.to_vec());
        if let [key] = keys {
            return Ok(self.0.set(key, value()).await?);
        }
        let entries = keys.iter().map(|key| (*key, value()));
        Ok(self.0.set_multi(entries.collect()).await?)
    }
}

/// A client under test. One key means a single get or set, several a multi operation.
pub trait Client: Clone + Send + Sync + 'static {
    /// Returns the number of keys found.
    fn get(&mut self, keys: &[&str]) -> impl Future<Output = Result<usize>> + Send;
    /// Writes the value to all keys.
    fn set(&mut self, keys: &[&str], value: &[u8]) -> impl Future<Output = Result<()>> + Send;
}

/// The keys of a client.
pub type Keys = Arc<[String]>;

/// Writes all keys, `batch` per call, so that reads hit.
pub async fn fill<C: Client>(client: &C, keys: &Keys, size: usize, batch: usize) -> Result<()> {
    const TASKS: usize = 10;
    let mut running = JoinSet::new();
    for task in 0..TASKS {
        let (mut client, keys) = (client.clone(), Arc::clone(keys));
        running.spawn(async move {
            let value = vec![b'v'; size];
            for keys in keys.chunks(batch).skip(task).step_by(TASKS) {
                client.set(&names(keys), &value).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(task) = running.join_next().await {
        task??;
    }
    Ok(())
}

fn names(keys: &[String]) -> Vec<&str> {
    keys.iter().map(String::as_str).collect()
}

/// The load of one turn.
#[derive(Clone, Debug)]
pub struct Load {
    /// What each task repeats.
    pub work: Work,
    /// The number of concurrent tasks.
    pub tasks: usize,
    /// Value size in bytes.
    pub size: usize,
    /// How long the tasks call.
    pub length: Duration,
    /// Process IDs of the servers, whose CPU time is reported in addition to the client's.
    pub servers: Vec<u32>,
}

impl Load {
    /// Creates a contestant that puts this load on `client`.
    pub fn contestant<'a, C: Client>(
        &self,
        name: &str,
        role: Role,
        runtime: &'a Runtime,
        client: C,
        keys: Keys,
    ) -> Contestant<'a> {
        let load = self.clone();
        let round = move || runtime.block_on(load.run(&client, &keys));
        Contestant::new(name, role, round)
    }

    /// Runs the load for `length`; the throughput counts keys, not calls.
    pub async fn run<C: Client>(&self, client: &C, keys: &Keys) -> Result<Sample> {
        let used_by_servers = || -> Result<Duration> {
            let ids = self.servers.iter();
            ids.map(|id| machine::cpu_time(&id.to_string())).sum()
        };
        let stop = Arc::new(AtomicBool::new(false));
        let (client_before, servers_before) = (machine::cpu_time("self")?, used_by_servers()?);
        let began = Instant::now();
        let mut running = JoinSet::new();
        for task in 0..self.tasks {
            // Tasks start at different keys and advance at about the same pace, so they rarely
            // touch the same key.
            let first = task * keys.len() / self.tasks;
            let (client, keys, stop) = (client.clone(), Arc::clone(keys), Arc::clone(&stop));
            running.spawn(call(client, keys, self.work, self.size, first, stop));
        }
        tokio::time::sleep(self.length).await;
        stop.store(true, Ordering::Relaxed);
        let mut done = 0;
        while let Some(task) = running.join_next().await {
            done += task??;
        }
        let elapsed = began.elapsed();
        let client = machine::cpu_time("self")?.saturating_sub(client_before);
        let servers = used_by_servers()?.saturating_sub(servers_before);
        let mut sample = Sample::operations(done, elapsed);
        for (name, time) in [("client µs", client), ("server µs", servers)] {
            if !time.is_zero() {
                sample = sample.with(name, micros_each(time, done));
            }
        }
        Ok(sample)
    }
}

#[allow(clippy::cast_precision_loss)]
pub(crate) fn micros_each(time: Duration, operations: u64) -> f64 {
    time.as_secs_f64() * 1e6 / operations.max(1) as f64
}

/// One task: calls the client until `stop` is set and returns the number of keys processed.
async fn call<C: Client>(
    mut client: C,
    keys: Keys,
    work: Work,
    size: usize,
    mut first: usize,
    stop: Arc<AtomicBool>,
) -> Result<u64> {
    let (value, batch) = (vec![b'v'; size], work.batch());
    let mut calls = 0;
    while !stop.load(Ordering::Relaxed) {
        // Avoid the allocation for a single key.
        let (one, many);
        let chosen: &[&str] = match keys.get(first..first + batch).unwrap_or_default() {
            [key] => {
                one = [key.as_str()];
                &one
            }
            keys => {
                many = names(keys);
                &many
            }
        };
        if work.writes(calls) {
            client.set(chosen, &value).await?;
        } else {
            let found = client.get(chosen).await?;
            ensure!(found == batch, "found {found} values instead of {batch}");
        }
        calls += 1;
        first = (first + batch) % (keys.len() - batch + 1);
    }
    Ok((calls * batch) as u64)
}
