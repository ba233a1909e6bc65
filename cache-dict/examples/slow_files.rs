//! Computes a slow checksum of each given file and caches the results, so that the second round is
//! fast. Without arguments it uses files of this crate.
//!
//! ```text
//! cargo run --release --package cache-dict --example slow_files -- Cargo.toml README.md
//! ```

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{env, fs};

use cache_core::{CacheBackend, CachedValue};
use cache_dict::DictBackend;

/// A file that has changed is read again after this time.
const TTL: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut paths: Vec<String> = env::args().skip(1).collect();
    if paths.is_empty() {
        let of_this_crate = |name: &str| format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
        paths = ["README.md", "Cargo.toml", "src/lib.rs"]
            .map(of_this_crate)
            .into();
    }
    match run(&paths).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(paths: &[String]) -> Result<(), Box<dyn Error>> {
    // Only this line depends on the backend.
    let cache = DictBackend::builder().expiration_time(TTL).build()?;

    let first = round("first", &cache, paths).await?;
    let second = round("second", &cache, paths).await?;
    println!(
        "time saved: {:.1?} of {first:.1?}",
        first.saturating_sub(second)
    );
    Ok(())
}

/// Gets all checksums, and prints them with the time it took.
async fn round<B>(name: &str, cache: &B, paths: &[String]) -> Result<Duration, Box<dyn Error>>
where
    B: CacheBackend<Value = u64>,
{
    let begin = Instant::now();
    let answers = checksums(cache, paths).await?;
    let took = begin.elapsed();

    let hits = answers.iter().filter(|answer| answer.hit).count();
    let misses = answers.len() - hits;
    println!("{name} round: {hits} hits, {misses} misses, {took:.1?}");
    for (path, answer) in paths.iter().zip(&answers) {
        let from = if answer.hit { "cached" } else { "computed" };
        let age = answer.value.age();
        println!(
            "  {:016x}  {from} {age:.1?} ago  {path}",
            answer.value.payload()
        );
    }
    Ok(took)
}

struct Answer {
    value: CachedValue<u64>,
    hit: bool,
}

/// Returns the checksum of each file, from the cache if possible. Others are computed and cached.
async fn checksums<B>(cache: &B, paths: &[String]) -> Result<Vec<Answer>, Box<dyn Error>>
where
    B: CacheBackend<Value = u64>,
{
    let keys: Vec<String> = paths
        .iter()
        .map(|path| format!("checksum:{path}"))
        .collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();

    let mut answers = Vec::new();
    let mut computed = Vec::new();
    for (found, (path, key)) in cache
        .get_multi(&keys)
        .await
        .into_iter()
        .zip(paths.iter().zip(&keys))
    {
        let found = found?;
        let hit = found.is_some();
        let value = if let Some(value) = found {
            value
        } else {
            let path = path.clone();
            // Slow work must not block the threads that run tasks.
            let checksum = tokio::task::spawn_blocking(move || checksum(&path)).await??;
            let value = CachedValue::new(checksum);
            computed.push((*key, value.clone()));
            value
        };
        answers.push(Answer { value, hit });
    }
    cache.set_multi(computed).await?;
    Ok(answers)
}

/// Something slow: the FNV-1a hash of a file, repeated until about 100 MB have been hashed.
fn checksum(path: &str) -> Result<u64, String> {
    let content = fs::read(path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let rounds = 1 + 100_000_000 / content.len().max(100);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for _ in 0..rounds {
        for byte in &content {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(hash)
}
