//! Caches values in an etcd cluster. Without arguments it starts three members and kills the
//! leader, to show what callers see of that. With addresses it uses that cluster and kills nothing.
//!
//! ```text
//! cargo run --package cache-etcd3 --example cluster
//! cargo run --package cache-etcd3 --example cluster -- 10.0.0.1:2379 10.0.0.2:2379 10.0.0.3:2379
//! ```

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cache_core::{CacheBackend, CachedValue};
use cache_etcd3::Etcd3Backend;
use test_servers::EtcdCluster;

const FLAGS: usize = 100;

#[tokio::main]
async fn main() -> ExitCode {
    match run(env::args().skip(1).collect()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(mut endpoints: Vec<String>) -> Result<(), Box<dyn Error>> {
    let mut own = None;
    if endpoints.is_empty() {
        let cluster = EtcdCluster::start()?;
        endpoints = cluster.endpoints();
        own = Some(cluster);
    }
    let cache = Etcd3Backend::builder()
        .endpoints(endpoints)
        .prefix("cluster-example/")
        .ttl(Duration::from_secs(60))
        .call_timeout(Duration::from_secs(5))
        .build()?;

    let flags: Vec<String> = (0..FLAGS).map(|flag| format!("flag:{flag}")).collect();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let values = flags
        .iter()
        .map(|flag| (*flag, CachedValue::new(b"on".to_vec())));
    cache.set_multi(values.collect()).await?;
    call("all members are well", &cache, &flags).await;

    if let Some(cluster) = &mut own {
        let leader = cluster.leader()?;
        if let Some(member) = cluster.members_mut().get_mut(leader) {
            member.kill()?;
        }
        call("the leader was killed", &cache, &flags).await;
        call("another was elected", &cache, &flags).await;
    }

    let stats = cache.stats();
    println!(
        "{} hits, {} misses, {} leases, {} transactions, {} retries, {} failovers",
        stats.hits, stats.misses, stats.leases, stats.transactions, stats.retries, stats.failovers
    );
    for endpoint in stats.endpoints {
        let health = endpoint.failure.unwrap_or_else(|| "well".to_owned());
        println!("{}: {health}", endpoint.address);
    }
    cache.delete_multi(&flags).await?;
    Ok(())
}

/// Sets one value, reads all, and prints the outcome.
async fn call(when: &str, cache: &Etcd3Backend, flags: &[&str]) {
    let begin = Instant::now();
    let value = CachedValue::new(b"off".to_vec()).with_ttl(Duration::from_secs(10));
    let outcome = async {
        cache.set("flag:0", value).await?;
        let found = cache.get_multi(flags).await;
        found.into_iter().collect::<cache_core::Result<Vec<_>>>()
    };
    match outcome.await {
        Ok(found) => println!(
            "{when}: one set, and {} of {} found, in {:.1?}",
            found.iter().flatten().count(),
            found.len(),
            begin.elapsed()
        ),
        Err(error) => println!("{when}: {error}"),
    }
}
