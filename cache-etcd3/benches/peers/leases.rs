//! The number of leases on the server when every key is new.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use cache_etcd3::Etcd3Backend;
use comparison::load::{Client, Ours, Work};
use comparison::measure::{Bench, Contestant, Sample};
use comparison::report::{Line, Role};
use etcd_client::Client as EtcdClient;
use test_servers::{Etcd, EtcdBuilder};
use tokio::runtime::Runtime;

use crate::contestants::{LEASE_EACH, LeaseEach, OURS};
use crate::workload::{keys, load};

const NAME: &str = "leases held after 30 s of sets with a TTL of 30 s, 64 tasks";
const LENGTH: Duration = Duration::from_secs(30);

/// Each contestant gets its own server.
pub(crate) fn line(bench: &mut Bench<'_>, server: &EtcdBuilder, runtime: &Runtime) -> Result<()> {
    let ours = Contestant::new(OURS, Role::Ours, || {
        let server = server.clone().start()?;
        let ours = Etcd3Backend::builder().endpoints([server.endpoint()]);
        held(runtime, &server, Ours(ours.ttl(LENGTH).build()?))
    });
    let lease_each = Contestant::new(LEASE_EACH, Role::Peer, || {
        let server = server.clone().start()?;
        let client = runtime.block_on(EtcdClient::connect([server.endpoint()], None))?;
        held(runtime, &server, LeaseEach { client, ttl: 30 })
    });
    let line = Line::new(NAME).less_is_better("leases");
    bench.compare(Line { rounds: 1, ..line }, vec![ours, lease_each])
}

fn held<C: Client>(runtime: &Runtime, server: &Etcd, client: C) -> Result<Sample> {
    let fresh = Fresh(client, Arc::default());
    runtime.block_on(async {
        let load = load(Work::Set, 64, LENGTH);
        let sets = load.run(&fresh, &keys("fresh")).await?.figure;
        let mut client = EtcdClient::connect([server.endpoint()], None).await?;
        let leases = client.leases().await?;
        let memory = server.metric("process_resident_memory_bytes")?;
        #[allow(clippy::cast_precision_loss)]
        Ok(Sample::figure(leases.leases().len() as f64)
            .with("set/s", sets)
            .with("server MB", memory / 1e6))
    })
}

/// Sets a new key each time.
#[derive(Clone)]
struct Fresh<C>(C, Arc<AtomicUsize>);

impl<C: Client> Client for Fresh<C> {
    async fn get(&mut self, keys: &[&str]) -> Result<usize> {
        self.0.get(keys).await
    }

    async fn set(&mut self, _: &[&str], value: &[u8]) -> Result<()> {
        let key = format!("fresh/{}", self.1.fetch_add(1, Ordering::Relaxed));
        self.0.set(&[&key], value).await
    }
}
