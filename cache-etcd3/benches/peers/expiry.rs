//! The latency of other calls while leases expire.

use std::time::{Duration, Instant};

use anyhow::Result;
use cache_core::{CacheBackend as _, CachedValue};
use cache_etcd3::Etcd3Backend;
use comparison::measure::{Bench, Contestant, Sample, per_mille};
use comparison::report::{Line, Role};
use etcd_client::{Client, PutOptions, Txn, TxnOp};
use test_servers::{Etcd, EtcdBuilder};
use tokio::runtime::Runtime;

use crate::contestants::OURS;
use crate::workload::VALUE;

const NAME: &str = "p99 of a get while 50,000 keys expire";

const KEYS: usize = 50_000;
const TTL: Duration = Duration::from_secs(8);

/// Long enough for every lease to expire after the last key was set.
const EXPIRING: Duration = Duration::from_secs(18);

/// Short enough that a stall is not diluted by the quiet around it.
const WINDOW: Duration = Duration::from_millis(500);

const IDLE: &str = "no key expires";

/// How the expiring keys are set.
#[derive(Clone, Copy)]
enum Expiring {
    Ours,
    OneLease,
    None,
}

pub(crate) fn line(bench: &mut Bench<'_>, server: &EtcdBuilder, runtime: &Runtime) -> Result<()> {
    let contestant = |name, role, expiring| {
        Contestant::new(name, role, move || {
            let server = server.clone().start()?;
            let backend = Etcd3Backend::builder().endpoints([server.endpoint()]);
            let backend = backend.build()?;
            runtime.block_on(async {
                match expiring {
                    Expiring::Ours => with_ours(&backend).await?,
                    Expiring::OneLease => with_one_lease(&server).await?,
                    Expiring::None => {}
                }
                sample(&backend, &server).await
            })
        })
    };
    let contestants = vec![
        contestant(OURS, Role::Ours, Expiring::Ours),
        contestant("all on one lease", Role::Peer, Expiring::OneLease),
        contestant(IDLE, Role::Limit, Expiring::None),
    ];
    let line = Line {
        rounds: 1,
        goal: Some(0.5),
        ..Line::new(NAME).less_is_better("ms").base(IDLE)
    };
    bench.compare(line, contestants)
}

fn payload() -> Vec<u8> {
    vec![b'v'; VALUE]
}

async fn with_ours(backend: &Etcd3Backend) -> Result<()> {
    let keys: Vec<String> = (0..KEYS).map(|i| format!("key {i}")).collect();
    for keys in keys.chunks(1000) {
        let value = || CachedValue::new(payload()).with_ttl(TTL);
        let entries = keys.iter().map(|key| (key.as_str(), value()));
        backend.set_multi(entries.collect()).await?;
    }
    Ok(())
}

async fn with_one_lease(server: &Etcd) -> Result<()> {
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
    Ok(())
}

/// Measures gets in the worst half second, the one in which most keys expire.
async fn sample(backend: &Etcd3Backend, server: &Etcd) -> Result<Sample> {
    backend.set("probe", CachedValue::new(payload())).await?;
    let end = Instant::now() + EXPIRING;
    let (mut p99, mut longest) = (0.0_f64, 0.0_f64);
    while Instant::now() < end {
        let window = Instant::now() + WINDOW;
        let mut times = Vec::new();
        while Instant::now() < window {
            let began = Instant::now();
            backend.get("probe").await?;
            times.push(began.elapsed());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let mut millis = |thousandths| per_mille(&mut times, thousandths).as_secs_f64() * 1e3;
        p99 = p99.max(millis(990));
        longest = longest.max(millis(1000));
    }
    let left = server.metric("etcd_debugging_mvcc_keys_total")?;
    let sample = Sample::figure(p99).with("longest ms", longest);
    Ok(sample.with("keys left", left))
}
