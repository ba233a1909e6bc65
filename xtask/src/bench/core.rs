//! `cargo xtask bench core`: what the wrappers of cache-core add, over a hit of cache-dict.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use cache_core::{
    CacheBackend, CacheBackendExt, CachedValue, Call, DynBackend, Format, Json, MapKeys, Observer,
    Operation,
};
use cache_dict::DictBackend;

use super::harness::{Bench, Role, Sample};

const HITS: u32 = 1_000_000;

/// An observer that asks for no durations.
struct Untimed;

impl Observer for Untimed {
    fn observe(&self, call: &Call<'_>) {
        black_box(call.hits);
    }

    fn wants_duration(&self, _: Operation) -> bool {
        false
    }
}

/// Bytes as they are.
struct Plain;

impl Format<Vec<u8>> for Plain {
    fn encode(&self, value: &Vec<u8>) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(value.clone())
    }

    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(bytes.to_vec())
    }
}

pub(crate) fn main(arguments: &[String]) -> Result<()> {
    let mut bench = Bench::new("core", &["cache-core", "cache-dict"])?;
    match arguments {
        [] => {}
        [option, rounds] if option == "--rounds" => {
            bench.rounds(rounds.parse().context("--rounds takes a number")?);
        }
        _ => bail!("`cargo xtask bench core` takes --rounds N and nothing else"),
    }
    hits(&mut bench)?;
    typed(&mut bench)?;
    undecodable(&mut bench)?;
    bench.finish()
}

fn dict<V: Clone + Send + Sync + 'static>(key: &str, value: V) -> Result<DictBackend<V>> {
    let dict = DictBackend::builder().build()?;
    now(dict.set(key, CachedValue::new(value)))?;
    Ok(dict)
}

fn hits(bench: &mut Bench) -> Result<()> {
    let dict = dict("user:42", 7_u64)?;
    let named = dict.clone();
    now(named.set("ns:user:42", CachedValue::new(7)))?;
    let mut line = bench.line("hit of a number, one thread");
    line.less_is_better("ns").baseline("cache-dict");
    let mut contestant = |name: &str, backend: Box<dyn FnMut() -> Result<Sample>>| {
        line.contestant(name, Role::Ours, backend);
    };
    contestant("cache-dict", hit(dict.clone()));
    contestant("DynBackend", hit(DynBackend::new(dict.clone())));
    contestant("MissOnError", hit(dict.clone().miss_on_error()));
    contestant("Option", hit(Some(dict.clone())));
    contestant(
        "Observed, no durations",
        hit(dict.clone().observed(Untimed)),
    );
    contestant(
        "Observed",
        hit(dict.clone().observed(|call: &Call<'_>| {
            black_box(call.duration);
        })),
    );
    contestant("MapKeys::namespace", hit(MapKeys::namespace(named, "ns")));
    let mangled = dict.clone().sha1_keys();
    now(mangled.set("user:42", CachedValue::new(7)))?;
    contestant("MapKeys::sha1", hit(mangled));
    line.run()
}

fn typed(bench: &mut Bench) -> Result<()> {
    let payload = vec![b'7'; 100];
    let bytes = dict("user:42", payload.clone())?;
    let json = dict("user:42", serde_json::to_vec("a string")?)?;
    let mut line = bench.line("hit of 100 bytes, one thread");
    line.less_is_better("ns").baseline("cache-dict");
    line.contestant("cache-dict", Role::Ours, hit(bytes.clone()));
    line.contestant("Typed, bytes copied", Role::Ours, hit(bytes.typed(Plain)));
    line.contestant(
        "Typed, JSON string",
        Role::Ours,
        hit(json.typed::<String>(Json)),
    );
    line.run()
}

/// Time a key must not depend on how many there are.
fn undecodable(bench: &mut Bench) -> Result<()> {
    let mut line = bench.line("get_multi of values that cannot be decoded");
    line.less_is_better("ns/key").baseline("100 keys");
    for keys in [100_usize, 200, 10_000, 20_000] {
        let bytes = DictBackend::builder().build()?;
        let names: Vec<String> = (0..keys).map(|key| format!("user:{key:08}")).collect();
        for name in &names {
            now(bytes.set(name, CachedValue::new(b"pickled".to_vec())))?;
        }
        let cache = bytes.typed::<u64>(Json).miss_on_error();
        line.contestant(&format!("{keys} keys"), Role::Ours, move || {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let begin = Instant::now();
            let rounds = 20_000 / keys;
            for _ in 0..rounds {
                let found = now(cache.get_multi(&names));
                ensure!(found.len() == keys && found.iter().all(|found| matches!(found, Ok(None))));
            }
            Ok(nanoseconds(begin, rounds * keys))
        });
    }
    line.run()
}

fn hit<B>(backend: B) -> Box<dyn FnMut() -> Result<Sample>>
where
    B: CacheBackend + 'static,
{
    Box::new(move || {
        let begin = Instant::now();
        for _ in 0..HITS {
            match now(backend.get(black_box("user:42"))) {
                Ok(Some(found)) => drop(black_box(found)),
                _ => bail!("the value is gone"),
            }
        }
        Ok(nanoseconds(begin, HITS as usize))
    })
}

#[allow(clippy::cast_precision_loss)]
fn nanoseconds(begin: Instant, operations: usize) -> Sample {
    let elapsed = begin.elapsed().as_nanos() as f64;
    Sample::figure(elapsed / operations as f64)
}

/// What a future that does not wait returns, without an executor.
fn now<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future
            .as_mut()
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            return output;
        }
    }
}
