//! The cached time of a value, and the time it has left.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_core::{CachedValue, Ttl};

use crate::Expiry;
use crate::context::{Cache, Context, Outcome};
use crate::failure::{ensure, fail};
use crate::rule::{Requirement, Rule, rules};
use crate::show;

use super::keys::{kept_values, set_kept};
use super::life::{HOUR, LONG, Life};
use super::source::METADATA;

rules! {
    ($) metadata, __rules_of_metadata, METADATA, Rule::as_listed;

    the_cached_time_comes_back:
        "`cached_at` of a value that was read equals what was set, to a microsecond.";
    old_and_future_times_are_kept:
        "A cached time in 1970, 2038 or 2106, a year ago or tomorrow is returned unchanged.";
    set_replaces_the_cached_time:
        "`set` also replaces the cached time, even with an older one or for an equal payload.";
    reading_does_not_touch_the_cached_time:
        "The cached time is the same at each read.";
    multi_operations_keep_the_cached_time:
        "`set_multi` keeps and `get_multi` returns each value's own cached time, that of the last \
         value if a key is repeated.";
    every_value_has_its_metadata:
        "Values of any length, under any key that is kept, have their own cached time and time left.";
    no_expiry_is_never: "`ttl()` of a value that never expires is `Never` when it is read.";
    the_time_left_is_returned:
        "After `set` and `set_multi`, `get` and `get_multi` return the time that the value has left as its `ttl()`.",
        requires(&[Requirement::Ttl]);
    the_time_left_of_the_default_is_returned:
        "`ttl()` is also the time left for values that use the backend's default TTL.",
        requires(&[Requirement::Ttl]);
    the_time_left_decreases:
        "At a later read, `ttl()` is less by the time that has passed.",
        requires(&[Requirement::Ttl]), waits();
}

fn value_at(cached_at: SystemTime) -> CachedValue<Vec<u8>> {
    CachedValue::new(b"value".to_vec()).with_cached_at(cached_at)
}

/// `found` has the cached time `expected`, to a microsecond.
fn tells(key: &str, found: Option<&CachedValue<Vec<u8>>>, expected: SystemTime) -> Outcome {
    let Some(found) = found else {
        fail!("get {}: expected \"value\", got a miss", show::key(key));
    };
    let got = found.cached_at();
    let apart = got
        .duration_since(expected)
        .unwrap_or_else(|error| error.duration());
    ensure!(
        apart <= Duration::from_micros(1),
        "get {}, cached_at: {}",
        show::key(key),
        show::expected_time(expected, got)
    );
    Ok(())
}

async fn comes_back(cache: &Cache, key: &str, cached_at: SystemTime) -> Outcome {
    let value = value_at(cached_at);
    // As the value returns it: times that it cannot represent are not the backend's fault.
    let cached_at = value.cached_at();
    cache.set(key, value).await?;
    tells(key, cache.get(key).await?.as_ref(), cached_at)
}

async fn the_cached_time_comes_back(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    comes_back(&cache, &key, SystemTime::now()).await?;
    for micros in [0, 1, 10, 99_999, 100_000, 123_456, 500_000, 999_999] {
        let cached_at = UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_000 + micros);
        comes_back(&cache, &key, cached_at).await?;
    }
    Ok(())
}

async fn old_and_future_times_are_kept(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    let now = SystemTime::now();
    for cached_at in [
        UNIX_EPOCH - 50 * 365 * 24 * HOUR,
        UNIX_EPOCH - Duration::from_secs(1),
        UNIX_EPOCH,
        UNIX_EPOCH + Duration::from_micros(1),
        UNIX_EPOCH + Duration::from_secs(1),
        // Around the limits of 31 and 32 bits of seconds.
        UNIX_EPOCH + Duration::from_secs((1 << 31) - 1),
        UNIX_EPOCH + Duration::from_secs(1 << 31),
        UNIX_EPOCH + Duration::new(1 << 32, 123_456_000),
        now - 24 * 365 * HOUR,
        now - HOUR,
        now + 24 * HOUR,
    ] {
        comes_back(&cache, &key, cached_at).await?;
    }
    Ok(())
}

async fn set_replaces_the_cached_time(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    let now = SystemTime::now();
    for cached_at in [now - HOUR, now, now - 2 * HOUR] {
        comes_back(&cache, &key, cached_at).await?;
    }
    cache
        .set_multi(vec![(&key, value_at(now - 3 * HOUR))])
        .await?;
    tells(&key, cache.get(&key).await?.as_ref(), now - 3 * HOUR)
}

async fn reading_does_not_touch_the_cached_time(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    let cached_at = SystemTime::now() - HOUR;
    cache.set(&key, value_at(cached_at)).await?;
    for _ in 0..3 {
        tells(&key, cache.get(&key).await?.as_ref(), cached_at)?;
        for found in cache.get_multi(&[&key, &key]).await? {
            tells(&key, found.as_ref(), cached_at)?;
        }
    }
    Ok(())
}

async fn multi_operations_keep_the_cached_time(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = context.keys(5);
    let now = SystemTime::now();
    let times: Vec<SystemTime> = (1..=5).map(|hours| now - hours * HOUR).collect();
    let entries = keys
        .iter()
        .zip(&times)
        .map(|(key, cached_at)| (key.as_str(), value_at(*cached_at)))
        .collect();
    cache.set_multi(entries).await?;
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = cache.get_multi(&asked).await?;
    for (key, (found, cached_at)) in asked.iter().zip(found.iter().zip(&times)) {
        tells(key, found.as_ref(), *cached_at)?;
    }
    for (key, cached_at) in keys.iter().zip(&times) {
        tells(key, cache.get(key).await?.as_ref(), *cached_at)?;
    }
    many_keep_the_cached_time(&context, &cache).await
}

/// With a miss at every third position, and the first key repeated at the end.
async fn many_keep_the_cached_time(context: &Context, cache: &Cache) -> Outcome {
    let keys = context.keys(context.within_capacity(300));
    let is_set = |place: usize| place % 3 != 1;
    let now = SystemTime::now();
    let at = |place: usize| now - HOUR * u32::try_from(place).unwrap_or_default();
    let all = || keys.iter().map(String::as_str).enumerate();
    let set = all().filter(|(place, _)| is_set(*place));
    let mut entries: Vec<_> = set.map(|(place, key)| (key, value_at(at(place)))).collect();
    let first = keys.first().map(String::as_str).unwrap_or_default();
    let last = value_at(at(keys.len()));
    entries.push((first, last));
    let asked: Vec<&str> = all().map(|(_, key)| key).collect();
    cache.delete_multi(&asked).await?;
    cache.set_multi(entries).await?;
    for (place, found) in cache.get_multi(&asked).await?.iter().enumerate() {
        let key = asked.get(place).copied().unwrap_or_default();
        match place {
            0 => tells(key, found.as_ref(), at(keys.len()))?,
            _ if is_set(place) => tells(key, found.as_ref(), at(place))?,
            _ => ensure!(
                found.is_none(),
                "get_multi, at {}: expected a miss, got {}",
                show::key(key),
                show::found(found.as_ref())
            ),
        }
    }
    Ok(())
}

async fn every_value_has_its_metadata(context: Context) -> Outcome {
    let cache = context.open().await?;
    let expires = context.capabilities().expiry != Expiry::None;
    let cached_at = SystemTime::now() - HOUR;
    let kept = kept_values(&context, &cache).await?;
    let value = |payload: &[u8]| {
        let value = CachedValue::new(payload.to_vec()).with_cached_at(cached_at);
        if expires { value.with_ttl(LONG) } else { value }
    };
    for in_one_call in [false, true] {
        let set = set_kept(&cache, &kept, value, in_one_call);
        let life = Life::starts(&context, LONG, set).await?;
        for (key, payload) in &kept {
            let mut found = cache.get_multi(&[key, key]).await?;
            found.push(Some(cache.hit(key, payload).await?));
            for found in &found {
                tells(key, found.as_ref(), cached_at)?;
            }
            if expires {
                is_left(&context, &cache, key, life).await?;
            }
        }
    }
    Ok(())
}

/// `ttl()` of what `get` and `get_multi` find under `key`.
async fn lifetimes(cache: &Cache, key: &str) -> Outcome<Vec<Ttl>> {
    let mut found = cache.get_multi(&[key, key]).await?;
    found.push(cache.get(key).await?);
    let ttl = |found: Option<CachedValue<Vec<u8>>>| match found {
        Some(found) => Ok(found.ttl()),
        None => fail!("get {}: expected \"value\", got a miss", show::key(key)),
    };
    found.into_iter().map(ttl).collect()
}

async fn no_expiry_is_never(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    cache.put(&key, "value").await?;
    for ttl in lifetimes(&cache, &key).await? {
        ensure!(
            ttl == Ttl::Never,
            "get {key:?}, ttl(): expected Ttl::Never, got {}",
            show::ttl(ttl)
        );
    }
    Ok(())
}

/// `ttl()` of the value under `key` is the time it has left. Rounding in the store may make it
/// shorter by the declared granularity.
async fn is_left(context: &Context, cache: &Cache, key: &str, life: Life) -> Outcome {
    // Dates are stored as floats, and the wall clock differs slightly from the monotonic clock.
    const TOLERANCE: Duration = Duration::from_millis(20);
    let before_read = context.now();
    let left = lifetimes(cache, key).await?;
    let after_read = context.now();
    let most = life
        .ttl
        .saturating_sub(before_read.saturating_duration_since(life.after))
        + TOLERANCE;
    let least = life
        .sure
        .saturating_duration_since(after_read)
        .saturating_sub(TOLERANCE);
    for left in left {
        ensure!(
            left.duration()
                .is_some_and(|left| (least..=most).contains(&left)),
            "get {}, ttl(): {}",
            show::key(key),
            show::expected_left(least, most, left)
        );
    }
    Ok(())
}

async fn set_with_ttl(context: &Context, cache: &Cache, key: &str, ttl: Duration) -> Outcome<Life> {
    let value = CachedValue::new(b"value".to_vec()).with_ttl(ttl);
    Life::starts(context, ttl, cache.set(key, value)).await
}

async fn the_time_left_is_returned(context: Context) -> Outcome {
    let cache = context.open().await?;
    // Shorter ones may be lost at once.
    let least = 2 * context.capabilities().granularity();
    let ttls = [30, 60, 3600, 86_400, 30 * 86_400, 31 * 86_400].map(Duration::from_secs);
    let ttls = ttls.into_iter().filter(|ttl| *ttl > least);
    for (number, ttl) in ttls.enumerate() {
        let [key, other] = ["k", "other"].map(|name| context.key(&format!("{name}{number}")));
        let life = set_with_ttl(&context, &cache, &key, ttl).await?;
        is_left(&context, &cache, &key, life).await?;
        let value = || CachedValue::new(b"value".to_vec()).with_ttl(ttl);
        let set = cache.set_multi(vec![(&key, value()), (&other, value())]);
        let life = Life::starts(&context, ttl, set).await?;
        is_left(&context, &cache, &key, life).await?;
        is_left(&context, &cache, &other, life).await?;
    }
    Ok(())
}

async fn the_time_left_of_the_default_is_returned(context: Context) -> Outcome {
    let cache = context.open_with(LONG).await?;
    let (one, two) = (context.key("one"), context.key("two"));
    let life = Life::starts(&context, LONG, async {
        cache.put(&one, "value").await?;
        cache.put_multi(&[(&two, b"value")]).await
    })
    .await?;
    for key in [&one, &two] {
        is_left(&context, &cache, key, life).await?;
    }
    Ok(())
}

async fn the_time_left_decreases(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    let life = set_with_ttl(&context, &cache, &key, LONG).await?;
    for _ in 0..3 {
        is_left(&context, &cache, &key, life).await?;
        context.wait(Duration::from_millis(150)).await;
    }
    is_left(&context, &cache, &key, life).await
}
