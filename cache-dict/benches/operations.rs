//! The time of single operations: `cargo bench --package cache-dict`.

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use cache_core::{CacheBackend, CachedValue, DynBackend};
use cache_dict::DictBackend;
use criterion::{Criterion, criterion_group, criterion_main};

const HOUR: Duration = Duration::from_secs(3600);

fn filled(ttl: Duration, keys: &[String]) -> DictBackend<u64> {
    let cache = DictBackend::builder().expiration_time(ttl).build().unwrap();
    for key in keys {
        cache.set_sync(key, CachedValue::new(7));
    }
    cache
}

/// Few keys, so that the benchmark measures the work and not memory latency.
fn operations(criterion: &mut Criterion) {
    let keys: Vec<String> = (0..1_024).map(|n| format!("user:{n:08x}")).collect();
    let value = || CachedValue::new(7);
    for (name, ttl) in [("no expiry", Duration::ZERO), ("expiry", HOUR)] {
        let mut group = criterion.benchmark_group(name);
        let cache = filled(ttl, &keys);
        let mut next = keys.iter().cycle();
        let mut key = || next.next().unwrap();
        group.bench_function("hit", |bench| {
            bench.iter(|| cache.get_sync(black_box(key())));
        });
        group.bench_function("miss", |bench| {
            bench.iter(|| cache.get_sync(black_box("none")));
        });
        group.bench_function("overwrite", |bench| {
            bench.iter(|| cache.set_sync(black_box(key()), value()));
        });
        group.bench_function("set and delete", |bench| {
            bench.iter(|| {
                cache.set_sync(black_box("new"), value());
                cache.delete_sync("new");
            });
        });
    }
}

/// The same hit through the trait and through a [`DynBackend`].
fn ways(criterion: &mut Criterion) {
    let keys: Vec<String> = (0..1_024).map(|n| format!("user:{n:08x}")).collect();
    let cache = filled(Duration::ZERO, &keys);
    let erased = DynBackend::new(cache.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut group = criterion.benchmark_group("1,024 hits");
    group.bench_function("get_sync", |bench| {
        bench.iter(|| {
            keys.iter()
                .filter(|key| cache.get_sync(key).is_some())
                .count()
        });
    });
    group.bench_function("get", |bench| {
        bench.iter(|| runtime.block_on(hits(&cache, &keys)));
    });
    group.bench_function("get of DynBackend", |bench| {
        bench.iter(|| runtime.block_on(hits(&erased, &keys)));
    });
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    group.bench_function("get_multi_sync", |bench| {
        bench.iter(|| cache.get_multi_sync(&asked));
    });
}

async fn hits(cache: &impl CacheBackend<Value = u64>, keys: &[String]) -> usize {
    let mut hits = 0;
    for key in keys {
        hits += usize::from(cache.get(key).await.unwrap().is_some());
    }
    hits
}

criterion_group!(benches, operations, ways);
criterion_main!(benches);
