//! The cache of a service. The configuration file selects the backend, the values have a custom
//! type, and the service keeps working while the cache is down. The README shows the part between
//! the two marks.
//!
//! ```text
//! cargo run --package xtask --example service -- cache.toml
//! ```

// README: begin
use std::time::Duration;

use cache_core::{CacheBackend, CacheBackendExt, CachedValue, Call, DynBackend, Json, Result};
use cache_dict::{DictBackend, DictConfig};
use cache_etcd3::{Etcd3Backend, Etcd3Config};
use cache_memcache_pool::{MemcachePoolBackend, MemcachePoolConfig};
use serde::{Deserialize, Serialize};

/// `[dict]`, `[memcache_pool]` or `[etcd3]` in the configuration file, with the arguments of each.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Config {
    Dict(DictConfig),
    MemcachePool(MemcachePoolConfig),
    Etcd3(Etcd3Config),
}

#[derive(Clone, Serialize, Deserialize)]
struct Profile {
    name: String,
}

/// One handle of one type, whichever backend is behind it; cloning it is cheap. Errors are
/// logged, with the server and the reason. If the cache is down, they are then misses.
fn open(config: Config) -> Result<DynBackend<Profile>> {
    let bytes = match config {
        Config::Dict(config) => DictBackend::from_config(config)?.into_dyn(),
        Config::MemcachePool(config) => MemcachePoolBackend::from_config(config)?.into_dyn(),
        Config::Etcd3(config) => Etcd3Backend::from_config(config)?.into_dyn(),
    };
    let typed = bytes.namespace("profiles").typed(Json).observed(log_errors);
    Ok(typed.miss_on_error().into_dyn())
}

fn log_errors(call: &Call<'_>) {
    if let Some(error) = call.error {
        eprintln!("{} failed: {error}", call.operation.as_str());
    }
}

/// One round trip for all that is cached; the rest is loaded, and cached for five minutes.
async fn profiles(cache: &DynBackend<Profile>, ids: &[&str]) -> Vec<Profile> {
    let mut profiles = Vec::new();
    let mut loaded = Vec::new();
    for (id, cached) in ids.iter().zip(cache.get_multi(ids).await) {
        let profile = match cached {
            Ok(Some(cached)) => cached.into_payload(),
            _ => {
                let profile = load(id).await;
                let fresh = CachedValue::new(profile.clone()).with_ttl(Duration::from_secs(300));
                loaded.push((*id, fresh));
                profile
            }
        };
        profiles.push(profile);
    }
    let _ = cache.set_multi(loaded).await; // An error was logged; the profiles are there.
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
    use super::*;

    #[test]
    fn a_configuration_is_written_without_its_password() {
        let secret = "username = \"me\"\npassword = \"hunter2\"\n";
        let memcached: MemcachePoolConfig = toml::from_str(secret).unwrap();
        let etcd: Etcd3Config = toml::from_str(secret).unwrap();
        assert_eq!(memcached.password.as_deref(), Some("hunter2"));
        assert_eq!(etcd.password.as_deref(), Some("hunter2"));
        for written in [toml::to_string(&memcached), toml::to_string(&etcd)] {
            let written = written.unwrap();
            assert!(
                written.contains("me") && !written.contains("hunter2"),
                "{written}"
            );
        }
    }

    #[test]
    fn the_readme_shows_what_runs() {
        let (_, from) = include_str!("service.rs")
            .split_once("// README: begin\n")
            .unwrap();
        let (shown, _) = from.split_once("// README: end").unwrap();
        assert!(include_str!("../../README.md").contains(&format!("```rust\n{shown}```")));
    }
}
