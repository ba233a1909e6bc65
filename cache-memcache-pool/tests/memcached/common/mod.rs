//! Code shared by the fault tests.

pub(crate) mod load;
pub(crate) mod proxy;

use std::time::Duration;

use cache_core::{CachedValue, Result};
use cache_memcache_pool::{MemcachePoolBackend, MemcachePoolBuilder};
use test_servers::Memcached;

/// The timeout for silent servers in these tests.
pub(crate) const SOCKET_TIMEOUT: Duration = Duration::from_secs(2);

/// A call tries one server, and has the same time again for all others, plus a margin for a busy
/// machine.
pub(crate) const CALL_LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn value(payload: impl AsRef<[u8]>) -> CachedValue<Vec<u8>> {
    CachedValue::new(payload.as_ref().to_vec())
}

pub(crate) fn builder<S: Into<String>>(urls: impl IntoIterator<Item = S>) -> MemcachePoolBuilder {
    MemcachePoolBackend::builder()
        .url(urls)
        .socket_timeout(SOCKET_TIMEOUT)
}

pub(crate) fn servers(n: usize) -> Vec<Memcached> {
    (0..n).map(|_| Memcached::start().unwrap()).collect()
}

pub(crate) fn urls(servers: &[Memcached]) -> Vec<String> {
    servers.iter().map(Memcached::url).collect()
}

/// Waits until `is_so` returns true, or panics.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("did not happen: {what}");
}

/// A key that this backend routes to server number `server`.
pub(crate) async fn key_on(cache: &MemcachePoolBackend, server: usize) -> String {
    use cache_core::CacheBackend as _;
    for i in 0..1000 {
        let key = format!("on-{server}-{i}");
        let before = cache.stats().servers[server].calls;
        cache.get(&key).await.unwrap();
        if cache.stats().servers[server].calls > before {
            return key;
        }
    }
    panic!("server {server} keeps no key");
}

/// A pseudorandom number from a seed.
pub(crate) fn scrambled(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// All results of a `get_multi`, or the first error.
pub(crate) fn all<T>(results: Vec<Result<T>>) -> Result<Vec<T>> {
    results.into_iter().collect()
}
