//! What the clients are made to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::clients::Client;
use crate::bench::cpu;
use crate::bench::harness::Sample;

/// How long a round lasts. CPU time is counted in ticks of 10 ms.
pub(super) const ROUND: Duration = Duration::from_millis(700);

/// Keys in one multi operation.
pub(super) const BATCH: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Nine reads to one write.
    Mixed,
    GetMulti,
    SetMulti,
}

#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) what: What,
    pub(super) tasks: usize,
    pub(super) size: usize,
    pub(super) keys: usize,
}

impl Work {
    pub(super) fn new(what: What, tasks: usize, size: usize) -> Self {
        // What the servers have room for.
        let keys = if size > 10_000 { 500 } else { 10_000 };
        Self {
            what,
            tasks,
            size,
            keys,
        }
    }

    pub(super) fn unit(&self) -> &'static str {
        match self.what {
            What::GetMulti | What::SetMulti => "keys/s",
            What::Mixed => "op/s",
        }
    }

    /// Keys are 40 characters, as oslo.cache makes them.
    pub(super) fn key(&self, n: usize) -> String {
        format!(
            "{:040x}",
            0x9e37_79b9_7f4a_7c15_u128.wrapping_mul(n as u128 % self.keys as u128 + 1)
        )
    }

    /// Each client reads what it has written, in its own form.
    pub(super) async fn prepare<C: Client>(&self, client: &C) -> Result<()> {
        let value = vec![b'v'; self.size];
        for n in 0..self.keys {
            client
                .set(&format!("{}{}", C::PREFIX, self.key(n)), &value)
                .await?;
        }
        Ok(())
    }

    /// One round.
    pub(super) async fn run<C: Client>(&self, client: &Arc<C>, servers: &[u32]) -> Result<Sample> {
        let used = |ids: &[u32]| -> Result<Duration> {
            ids.iter().map(|id| cpu::time(&id.to_string())).sum()
        };
        let keys: Arc<[String]> = (0..self.keys)
            .map(|n| format!("{}{}", C::PREFIX, self.key(n)))
            .collect();
        let stop = Arc::new(AtomicBool::new(false));
        let (client_before, servers_before) = (cpu::time("self")?, used(servers)?);
        let began = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..self.tasks {
            let (client, keys, stop) = (Arc::clone(client), Arc::clone(&keys), Arc::clone(&stop));
            tasks.spawn(work(client, keys, stop, self.what, self.size, task));
        }
        tokio::time::sleep(ROUND).await;
        stop.store(true, Ordering::Relaxed);
        let mut operations = 0;
        while let Some(done) = tasks.join_next().await {
            operations += done??;
        }
        let elapsed = began.elapsed();
        let (client_after, servers_after) = (cpu::time("self")?, used(servers)?);
        #[allow(clippy::cast_precision_loss)]
        let each = |time: Duration| time.as_secs_f64() * 1e6 / operations.max(1) as f64;
        Ok(Sample::operations(operations, elapsed)
            .with(
                "client µs",
                each(client_after.saturating_sub(client_before)),
            )
            .with(
                "server µs",
                each(servers_after.saturating_sub(servers_before)),
            ))
    }
}

async fn work<C: Client>(
    client: Arc<C>,
    keys: Arc<[String]>,
    stop: Arc<AtomicBool>,
    what: What,
    size: usize,
    task: usize,
) -> Result<u64> {
    let value = vec![b'v'; size];
    let mut dice = 0x2545_f491_4f6c_dd1d_u64 ^ (task as u64 + 1).wrapping_mul(0x9e37_79b9);
    let mut operations = 0;
    while !stop.load(Ordering::Relaxed) {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        #[allow(clippy::cast_possible_truncation)]
        let from = dice as usize % (keys.len() - BATCH);
        let batch = keys.get(from..from + BATCH).unwrap_or_default();
        let Some(key) = batch.first() else { break };
        match what {
            What::Mixed if dice >> 32 & 0xff < 26 => client.set(key, &value).await?,
            What::Mixed => {
                let found = client.get(key).await?;
                ensure!(found == Some(size), "{found:?} bytes in place of {size}");
            }
            What::GetMulti => {
                let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
                let found = client.get_multi(&batch).await?;
                ensure!(found == BATCH, "{found} values in place of {BATCH}");
            }
            What::SetMulti => {
                let batch: Vec<&str> = batch.iter().map(String::as_str).collect();
                client.set_multi(&batch, &value).await?;
            }
        }
        operations += match what {
            What::GetMulti | What::SetMulti => BATCH as u64,
            What::Mixed => 1,
        };
    }
    Ok(operations)
}
