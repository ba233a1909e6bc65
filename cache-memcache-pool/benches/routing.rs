//! The cost of routing a key: `cargo bench -p cache-memcache-pool --bench routing`.

#[path = "../src/router/mod.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod router;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use router::{Router, Routing, ServerSpec};

const KEYS: usize = 10_000;

fn servers(n: usize) -> Vec<ServerSpec> {
    let names = (0..n).map(|i| format!("10.0.{}.{}:11211", i / 256, i % 256));
    names.map(|name| ServerSpec { name, weight: 1 }).collect()
}

/// Keys of 40 characters, as in oslo.cache.
fn keys() -> Vec<String> {
    let number = |i: usize| 0x9e37_79b9_7f4a_7c15_u128.wrapping_mul(i as u128 + 1);
    (0..KEYS).map(|i| format!("{:040x}", number(i))).collect()
}

fn routing(criterion: &mut Criterion) {
    let keys = keys();
    let mut group = criterion.benchmark_group("a key");
    group.throughput(Throughput::Elements(KEYS as u64));
    for (name, routing, farms) in [
        ("consistent", Routing::Consistent, &[3, 1000, 5000][..]),
        ("python-memcached", Routing::PythonMemcached, &[3]),
        ("pymemcache", Routing::Pymemcache, &[3]),
        ("ketama", Routing::Ketama, &[3, 1000]),
    ] {
        for &n in farms {
            let router = Router::new(routing, &servers(n));
            group.bench_function(format!("{name}, {n} servers"), |bench| {
                bench.iter(|| {
                    for key in &keys {
                        black_box(router.pick(black_box(key), &|_| true));
                    }
                });
            });
        }
    }
    group.finish();
    criterion.bench_function("building consistent, 5000 servers", |bench| {
        let servers = servers(5000);
        bench.iter(|| Router::new(Routing::Consistent, black_box(&servers)));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = routing
}
criterion_main!(benches);
