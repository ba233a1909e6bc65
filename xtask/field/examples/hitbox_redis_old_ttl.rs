//! hitbox-redis: a value without a TTL keeps the TTL of the value that it replaces.
//! Rules: expiry::never_beats_the_default, expiry::set_without_ttl_removes_the_deadline,
//! races::a_set_at_the_deadline_stays. Argument: the address of a Redis, `127.0.0.1:6379`.

use chrono::{TimeDelta, Utc};
use hitbox_backend::Backend;
use hitbox_core::{CacheKey, CacheValue};
use hitbox_redis::{ConnectionMode, RedisBackend};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let redis = std::env::args().nth(1).ok_or("needs an address")?;
    let mode = ConnectionMode::single(format!("redis://{redis}"));
    let backend = RedisBackend::builder().connection(mode).build()?;
    let key = CacheKey::from_str("key", "");
    let soon = Some(Utc::now() + TimeDelta::seconds(2));
    for (value, expires) in [("old", soon), ("new", None)] {
        let value = CacheValue::new(value.into(), expires, None);
        backend.write(&key, value).await?;
    }
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    println!("{:?}", backend.read(&key).await?);
    Ok(())
}
