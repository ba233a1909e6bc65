//! A service's cache: the backend comes from the configuration file, the values are its own type,
//! and a cache that is down does not take the service down. The README shows what stands between
//! the two marks.
//!
//! ```text
//! cargo run --package xtask --features service --example service -- cache.toml
//! ```

// README: begin
use std::time::Duration;

use cache_core::{CacheBackend, CachedValue, DynBackend, Json, KeyMap, Result, Serialized};
use cache_dict::{DictBackend, DictConfig};
use cache_etcd3::{Etcd3Backend, Etcd3Config};
use cache_memcache_pool::{MemcachePoolBackend, MemcachePoolConfig};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize, Deserialize)]
struct Profile {
    name: String,
}

/// `[dict]`, `[memcache_pool]` or `[etcd3]` in the configuration file, with the arguments of each.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum CacheConfig {
    Dict(DictConfig),
    MemcachePool(MemcachePoolConfig),
    Etcd3(Etcd3Config),
}

/// One handle of one type, whichever backend is behind it; cloning it is cheap.
fn open(config: CacheConfig) -> Result<DynBackend<Profile>> {
    let bytes = match config {
        CacheConfig::Dict(config) => DynBackend::new(DictBackend::from_config(config)?),
        CacheConfig::MemcachePool(config) => {
            DynBackend::new(MemcachePoolBackend::from_config(config)?)
        }
        CacheConfig::Etcd3(config) => DynBackend::new(Etcd3Backend::from_config(config)?),
    };
    Ok(DynBackend::new(Serialized::new(
        KeyMap::namespace(bytes, "profiles"),
        Json,
    )))
}

/// One round trip for all that is cached; the rest is loaded, and cached for five minutes.
async fn profiles(cache: &impl CacheBackend<Value = Profile>, ids: &[&str]) -> Vec<Profile> {
    let cached = cache.get_multi(ids).await.unwrap_or_else(|error| {
        eprintln!("going on without the cache: {error}"); // Says which server, and why.
        ids.iter().map(|_| None).collect()
    });
    let (mut profiles, mut loaded) = (Vec::new(), Vec::new());
    for (id, found) in ids.iter().zip(cached) {
        let profile = match found {
            Some(found) => found.into_payload(),
            None => {
                let profile = load(id).await;
                let ttl = Duration::from_secs(300);
                loaded.push((*id, CachedValue::new(profile.clone()).with_ttl(ttl)));
                profile
            }
        };
        profiles.push(profile);
    }
    if let Err(error) = cache.set_multi(loaded).await {
        eprintln!("not cached: {error}");
    }
    profiles
}
// README: end

/// The slow part.
async fn load(id: &str) -> Profile {
    tokio::time::sleep(Duration::from_millis(200)).await;
    Profile {
        name: format!("user {id}"),
    }
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let config = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {path}: {error}"))?,
        None => "[dict]\nexpiration_time = 60".to_owned(),
    };
    let cache = open(toml::from_str(&config)?)?;
    for round in ["first", "second"] {
        let begin = std::time::Instant::now();
        let profiles = profiles(&cache, &["1", "2", "3"]).await;
        let names: Vec<_> = profiles.into_iter().map(|profile| profile.name).collect();
        println!(
            "{round} round: {} in {:.1?}",
            names.join(", "),
            begin.elapsed()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_readme_shows_what_runs() {
        let (_, from) = include_str!("service.rs")
            .split_once("// README: begin\n")
            .unwrap();
        let (shown, _) = from.split_once("// README: end").unwrap();
        assert!(include_str!("../../README.md").contains(&format!("```rust\n{shown}```")));
    }
}
