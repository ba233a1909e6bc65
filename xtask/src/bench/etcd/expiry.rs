//! What other calls feel while leases expire.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Result;
use cache_core::{CacheBackend as _, CachedValue};
use cache_etcd3::Etcd3Backend;
use etcd_client::{Client, PutOptions, Txn, TxnOp};
use test_servers::Etcd;
use tokio::runtime::{Handle, Runtime};

use super::{latencies, p99, payload};
use crate::bench::harness::{Bench, Role, Sample};

pub(crate) const NAME: &str = "p99 of a get while 50,000 keys expire";

const KEYS: usize = 50_000;
const TTL: Duration = Duration::from_secs(8);

/// Longer than the lease of a key that was set at the beginning lives after the last was.
const EXPIRING: Duration = Duration::from_secs(18);

const IDLE: &str = "no key expires";

pub(crate) fn measure(bench: &mut Bench, runtime: &Runtime) -> Result<()> {
    let mut line = bench.line(NAME);
    line.less_is_better("ms").rounds(1).baseline(IDLE).goal(0.5);
    line.contestant("cache-etcd3", Role::Ours, || {
        let server = Etcd::start()?;
        runtime.block_on(async {
            let backend = backend(&server)?;
            let keys: Vec<String> = (0..KEYS).map(|i| format!("key {i}")).collect();
            for keys in keys.chunks(1000) {
                let value = || CachedValue::new(payload()).with_ttl(TTL);
                let entries = keys.iter().map(|key| (key.as_str(), value()));
                backend.set_multi(entries.collect()).await?;
            }
            sample(&backend, &server).await
        })
    });
    line.contestant("all on one lease", Role::Peer, || {
        let server = Etcd::start()?;
        runtime.block_on(async {
            let backend = backend(&server)?;
            let mut client = Client::connect([server.endpoint()], None).await?;
            let lease = client.lease_grant(10, None).await?.id();
            for first in (0..KEYS).step_by(100) {
                let put = |i: usize| {
                    let options = PutOptions::new().with_lease(lease);
                    TxnOp::put(format!("key {i}"), payload(), Some(options))
                };
                let puts: Vec<TxnOp> = (first..first + 100).map(put).collect();
                client.txn(Txn::new().and_then(puts)).await?;
            }
            sample(&backend, &server).await
        })
    });
    line.contestant(IDLE, Role::Limit, || {
        let server = Etcd::start()?;
        runtime.block_on(async { sample(&backend(&server)?, &server).await })
    });
    line.run()
}

fn backend(server: &Etcd) -> Result<Etcd3Backend> {
    let backend = Etcd3Backend::builder().endpoints([server.endpoint()]);
    Ok(backend.build()?)
}

/// What gets take while the keys go, and not in the quiet before and after it.
#[allow(clippy::cast_precision_loss)]
async fn sample(backend: &Etcd3Backend, server: &Etcd) -> Result<Sample> {
    backend.set("probe", CachedValue::new(payload())).await?;
    let (stop, stopped) = mpsc::channel();
    let (times, counts) = std::thread::scope(|scope| {
        let counter = scope.spawn(move || count(server, &stopped));
        let times = tokio::task::block_in_place(|| {
            Handle::current().block_on(latencies(backend, EXPIRING))
        });
        drop(stop);
        (times, counter.join())
    });
    let counts = counts.map_err(|_| anyhow::anyhow!("counting keys failed"))?;
    let all = counts.iter().map(|(_, keys)| *keys).fold(0.0, f64::max);
    // From the last time that all were there to the first that all were gone.
    let begin = counts.iter().rfind(|(_, keys)| *keys > all - 100.0);
    let end = counts.iter().find(|(_, keys)| *keys < 100.0);
    let overlaps = |at: Instant, took: Duration| {
        begin.is_none_or(|(begin, _)| *begin <= at + took) && end.is_none_or(|(end, _)| at <= *end)
    };
    let during = |(at, took): &(Instant, Duration)| all < 1000.0 || overlaps(*at, *took);
    let times = times?.into_iter().filter(during);
    let times: Vec<Duration> = times.map(|(_, took)| took).collect();
    let longest = times.iter().max().copied().unwrap_or_default();
    let left = counts.last().map_or(f64::NAN, |(_, keys)| *keys);
    Ok(Sample::figure(p99(times.clone()).as_secs_f64() * 1e3)
        .with("longest ms", longest.as_secs_f64() * 1e3)
        .with("gets meanwhile", times.len() as f64)
        .with("keys left", left))
}

/// How many keys the server has, every 50 ms.
fn count(server: &Etcd, stopped: &mpsc::Receiver<()>) -> Vec<(Instant, f64)> {
    let mut counts = Vec::new();
    while let Err(mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(Duration::from_millis(50))
    {
        let keys = server.metric("etcd_debugging_mvcc_keys_total");
        counts.push((Instant::now(), keys.unwrap_or(f64::NAN)));
    }
    counts
}
