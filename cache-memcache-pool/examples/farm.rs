//! Caches typed values on a farm of memcached servers. Without arguments it starts three servers,
//! pauses one and restarts it, to show what callers see of that. With addresses it uses those
//! servers and pauses none.
//!
//! ```text
//! cargo run --package cache-memcache-pool --example farm
//! cargo run --package cache-memcache-pool --example farm -- 10.0.0.1:11211 10.0.0.2:11211
//! ```

use std::env;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cache_core::{CacheBackend, CacheBackendExt as _, CachedValue, Json, ServerEvent};
use cache_memcache_pool::MemcachePoolBackend;
use test_servers::Memcached;

const USERS: usize = 300;

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

async fn run(mut url: Vec<String>) -> Result<(), Box<dyn Error>> {
    let mut own = Vec::new();
    if url.is_empty() {
        for _ in 0..3 {
            own.push(Memcached::start()?);
        }
        url = own.iter().map(Memcached::url).collect();
    }
    let pool = MemcachePoolBackend::builder()
        .url(url)
        .socket_timeout(Duration::from_millis(300))
        .memcached_expire_time(Duration::from_secs(600))
        .on_server_event(|event| match event {
            ServerEvent::Down { server, reason, .. } => println!("  {server} is down: {reason}"),
            ServerEvent::Up { server, .. } => println!("  {server} is back"),
            _ => {}
        })
        .build()?;
    // Typed values, in a namespace of this program. The backend is kept for its statistics.
    let cache = pool
        .clone()
        .namespace("farm-example")
        .typed::<Vec<u32>>(Json);

    let users: Vec<String> = (0..USERS).map(|user| format!("user:{user}")).collect();
    let users: Vec<&str> = users.iter().map(String::as_str).collect();
    ask("at first", &cache, &users).await;
    ask("all servers are well", &cache, &users).await;

    if let Some(server) = own.first_mut() {
        server.pause()?;
        ask("one server hangs", &cache, &users).await;
        ask("it still does", &cache, &users).await;
        server.restart()?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        ask("it was restarted", &cache, &users).await; // This call starts a probe.
        tokio::time::sleep(Duration::from_millis(100)).await;
        ask("and is back", &cache, &users).await;
    }

    for server in pool.stats().servers {
        println!(
            "{}: {} calls, {} hits, {} misses, {} timeouts, {} connections",
            server.address,
            server.calls,
            server.hits,
            server.misses,
            server.timeouts,
            server.connections
        );
    }
    cache.delete_multi(&users).await?;
    Ok(())
}

/// Reads all users in one call, caches the missing ones, and prints the outcome.
async fn ask(when: &str, cache: &impl CacheBackend<Value = Vec<u32>>, users: &[&str]) {
    let begin = Instant::now();
    let found = cache.get_multi(users).await;
    if let Some(error) = found.iter().find_map(|found| found.as_ref().err()) {
        println!("{when}: {error}");
    }
    let found: Vec<_> = found.into_iter().map(Result::unwrap_or_default).collect();
    let took = begin.elapsed();
    println!(
        "{when}: {} of {} found, in {took:.1?}",
        found.iter().flatten().count(),
        found.len(),
    );
    let missing = users.iter().zip(found).filter(|(_, found)| found.is_none());
    let computed = missing.map(|(user, _)| (*user, orders()));
    if let Err(error) = cache.set_multi(computed.collect()).await {
        println!("  not cached: {error}");
    }
}

/// What a service would read from its database.
fn orders() -> CachedValue<Vec<u32>> {
    CachedValue::new(vec![1, 2, 3])
}
