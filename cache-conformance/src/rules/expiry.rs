//! A value is served until its deadline, and never after.

use std::time::{Duration, Instant, SystemTime};

use cache_core::CachedValue;

use crate::Clock;
use crate::context::{Cache, Context, Outcome, Value, show_found, show_key};
use crate::failure::fail;
use crate::rule::{Requirement, Rule, rule};

use super::source::LIFETIMES;

/// A rule of this group: it needs TTLs, and waits.
macro_rules! expiry_rule {
    ($name:ident, $statement:literal) => {
        rule!("expiry", $name, LIFETIMES, $statement)
            .requires(&[Requirement::Ttl])
            .waits()
    };
}

pub(crate) const RULES: &[Rule] = &[
    expiry_rule!(
        own_ttl_expires,
        "A value with a TTL of its own is a miss from its deadline on."
    ),
    expiry_rule!(
        default_ttl_expires,
        "A value without a TTL of its own lives by the backend's default."
    ),
    expiry_rule!(
        not_lost_before_the_deadline,
        "A value is found until its deadline, less the declared granularity, a fraction of a \
         second included."
    ),
    expiry_rule!(
        longer_own_ttl_beats_the_default,
        "A value's own TTL, when longer, replaces the backend's default."
    ),
    expiry_rule!(
        shorter_own_ttl_beats_the_default,
        "A value's own TTL, when shorter, replaces the backend's default."
    ),
    expiry_rule!(
        without_any_ttl_nothing_expires,
        "Without a TTL of its own and with zero as the default a value does not expire."
    ),
    expiry_rule!(
        own_ttl_of_zero_is_expired_at_once,
        "A value whose own TTL is zero is a miss at once, whatever the default."
    ),
    expiry_rule!(
        own_ttl_of_zero_removes_the_old_value,
        "`set` with a TTL of zero leaves no value behind, by `set_multi` too."
    ),
    expiry_rule!(
        tiny_ttls_expire,
        "A TTL of a nanosecond or a millisecond expires, and is not taken for zero or for ever."
    ),
    expiry_rule!(
        huge_ttls_do_not_expire,
        "TTLs beyond 30 days, 32 and 64 bits, up to `Duration::MAX`, never expire early."
    ),
    expiry_rule!(
        a_huge_default_does_not_expire,
        "A default TTL that is too large to represent never expires, and is no error."
    ),
    expiry_rule!(
        a_longer_ttl_replaces_the_deadline,
        "`set` with a longer TTL moves the deadline out."
    ),
    expiry_rule!(
        a_shorter_ttl_replaces_the_deadline,
        "`set` with a shorter TTL moves the deadline in."
    ),
    expiry_rule!(
        set_without_ttl_removes_the_deadline,
        "`set` without a TTL makes a value that had one stay."
    ),
    expiry_rule!(
        delete_removes_the_deadline,
        "The deadline of a deleted value does not strike what is set under its key afterwards."
    ),
    expiry_rule!(
        reading_does_not_prolong,
        "`get` and `get_multi`, however often, leave the deadline where it is."
    ),
    expiry_rule!(
        get_multi_misses_the_expired,
        "`get_multi` answers an expired value as a miss in its place, also when asked twice."
    ),
    expiry_rule!(
        set_multi_keeps_each_ttl,
        "`set_multi` gives each value its own TTL, and the others the default."
    ),
    expiry_rule!(
        set_multi_applies_the_default,
        "`set_multi` applies the default TTL to values without one."
    ),
    expiry_rule!(
        the_last_of_repeated_keys_sets_the_deadline,
        "A key that is repeated in `set_multi` has the deadline of its last value."
    ),
    expiry_rule!(
        an_expired_key_can_be_set_again,
        "`set` after expiry is as any other `set`."
    ),
    expiry_rule!(
        deleting_the_expired_succeeds,
        "`delete` and `delete_multi` of an expired value are no error."
    ),
    expiry_rule!(
        the_clock_starts_at_set,
        "A TTL counts from `set`, not from the cached time."
    ),
    expiry_rule!(
        many_expire_together,
        "Hundreds of values with one deadline are all served before it, and none after."
    ),
    expiry_rule!(
        expired_values_stay_expired,
        "An expired value does not come back, whatever happens to other keys."
    ),
];

/// A lifetime short enough to wait for, and long enough for the granularity to leave some.
fn short(context: &Context) -> Duration {
    (context.capabilities().granularity() * 2).max(Duration::from_millis(300))
}

const HOUR: Duration = Duration::from_secs(3600);

fn value() -> Value {
    CachedValue::new(b"value".to_vec())
}

/// Between which moments a value was set, and how long it lives.
#[derive(Clone, Copy)]
struct Life {
    ttl: Duration,
    before: Instant,
    after: Instant,
}

impl Life {
    /// Sets through `set`, and notes when.
    async fn starts(
        context: &Context,
        ttl: Duration,
        set: impl Future<Output = Outcome>,
    ) -> Outcome<Self> {
        let before = context.now();
        set.await?;
        let after = context.now();
        Ok(Self { ttl, before, after })
    }

    /// From when on the value must not be served.
    fn over(&self, context: &Context) -> Instant {
        // By a manual clock to the dot. Else the backend may go by dates, and the clock of
        // dates is being trimmed while the other is not.
        let margin = match context.capabilities().clock {
            Clock::Manual => Duration::ZERO,
            Clock::Real => Duration::from_millis(25),
        };
        self.after + self.ttl + margin
    }

    /// `found` by a read that took place between these two moments is as it has to be. Near
    /// the deadline either answer will do, so that a slow machine makes nothing wrong.
    fn judge(
        &self,
        context: &Context,
        key: &str,
        read: (Instant, Instant),
        found: Option<&Value>,
    ) -> Outcome {
        let (began, ended) = read;
        let sure = self
            .ttl
            .saturating_sub(context.capabilities().granularity());
        if found.is_some() && began >= self.over(context) {
            fail!(
                "{}: expected a miss {:?} after the deadline, got {}",
                show_key(key),
                began.saturating_duration_since(self.after + self.ttl),
                show_found(found)
            );
        }
        if found.is_none() && ended < self.before + sure {
            fail!(
                "{}: expected a value {:?} before the deadline, got a miss",
                show_key(key),
                (self.before + self.ttl).saturating_duration_since(ended)
            );
        }
        Ok(())
    }

    /// Reads once, by `get` and by `get_multi`, and judges.
    async fn check(&self, context: &Context, cache: &Cache, key: &str) -> Outcome {
        let began = context.now();
        let single = cache.get(key).await?;
        let multi = cache.get_multi(&[key, key]).await?;
        let read = (began, context.now());
        self.judge(context, key, read, single.as_ref())?;
        for found in &multi {
            self.judge(context, key, read, found.as_ref())?;
        }
        Ok(())
    }

    /// Reads a few times up to the deadline, once right after it and once later.
    async fn runs(&self, context: &Context, cache: &Cache, key: &str) -> Outcome {
        for percent in [0, 25, 50, 75, 90, 99] {
            let moment = self.before + self.ttl * percent / 100;
            context.wait_until(moment).await;
            self.check(context, cache, key).await?;
        }
        self.ends(context, cache, key).await
    }

    /// Waits for the deadline and reads.
    async fn ends(&self, context: &Context, cache: &Cache, key: &str) -> Outcome {
        context.wait_until(self.over(context)).await;
        self.check(context, cache, key).await?;
        context.wait(self.ttl.min(Duration::from_millis(50))).await;
        self.check(context, cache, key).await
    }
}

async fn own_ttl_expires(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    let ttl = short(&context);
    let life = Life::starts(&context, ttl, cache.set(&key, value().with_ttl(ttl))).await?;
    life.ends(&context, &cache, &key).await
}

async fn default_ttl_expires(context: Context) -> Outcome {
    let ttl = short(&context);
    let cache = context.open_with(ttl).await?;
    let key = context.key("k");
    let life = Life::starts(&context, ttl, cache.set(&key, value())).await?;
    life.runs(&context, &cache, &key).await
}

async fn not_lost_before_the_deadline(context: Context) -> Outcome {
    let cache = context.open().await?;
    // A fraction of a second that is lost in a whole number of them shows.
    let unit = context
        .capabilities()
        .granularity()
        .max(Duration::from_millis(300));
    for (number, ttl) in [unit, unit * 5 / 2, unit * 39 / 10].iter().enumerate() {
        let key = context.key(&format!("k{number}"));
        let life = Life::starts(&context, *ttl, cache.set(&key, value().with_ttl(*ttl))).await?;
        life.runs(&context, &cache, &key).await?;
    }
    Ok(())
}

async fn longer_own_ttl_beats_the_default(context: Context) -> Outcome {
    let default = short(&context);
    let cache = context.open_with(default).await?;
    let key = context.key("k");
    let life = Life::starts(&context, HOUR, cache.set(&key, value().with_ttl(HOUR))).await?;
    context.wait(default + Duration::from_millis(50)).await;
    life.check(&context, &cache, &key).await
}

async fn shorter_own_ttl_beats_the_default(context: Context) -> Outcome {
    let cache = context.open_with(HOUR).await?;
    let (key, other) = (context.key("k"), context.key("other"));
    let ttl = short(&context);
    cache.put(&other, "value").await?;
    let life = Life::starts(&context, ttl, cache.set(&key, value().with_ttl(ttl))).await?;
    life.ends(&context, &cache, &key).await?;
    cache.hit(&other, "value").await?;
    Ok(())
}

async fn without_any_ttl_nothing_expires(context: Context) -> Outcome {
    let cache = context.open_with(Duration::ZERO).await?;
    let (one, two) = (context.key("one"), context.key("two"));
    cache.set(&one, value()).await?;
    cache.put_multi(&[(&two, b"value")]).await?;
    for _ in 0..2 {
        cache
            .answers(&[&one, &two], &[Some(&b"value"[..]); 2])
            .await?;
        context.wait(short(&context)).await;
    }
    // Time that need not be slept through is cheap.
    if context.capabilities().clock == Clock::Manual {
        context.wait(HOUR * 24 * 365).await;
    }
    cache
        .answers(&[&one, &two], &[Some(&b"value"[..]); 2])
        .await
}

async fn own_ttl_of_zero_is_expired_at_once(context: Context) -> Outcome {
    for default in [Duration::ZERO, HOUR] {
        let cache = context.open_with(default).await?;
        let (one, two) = (context.key("one"), context.key("two"));
        let expired = || value().with_ttl(Duration::ZERO);
        cache.set(&one, expired()).await?;
        cache.set_multi(vec![(&two, expired())]).await?;
        cache.miss(&one).await?;
        cache.miss(&two).await?;
        cache.answers(&[&one, &two], &[None; 2]).await?;
    }
    Ok(())
}

async fn own_ttl_of_zero_removes_the_old_value(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [one, two, three] = ["one", "two", "three"].map(|name| context.key(name));
    for key in [&one, &two, &three] {
        cache.put(key, "old").await?;
    }
    let expired = || value().with_ttl(Duration::ZERO);
    cache.set(&one, expired()).await?;
    let entries = vec![(two.as_str(), expired()), (three.as_str(), value())];
    cache.set_multi(entries).await?;
    cache
        .answers(&[&one, &two, &three], &[None, None, Some(b"value")])
        .await
}

async fn tiny_ttls_expire(context: Context) -> Outcome {
    let cache = context.open().await?;
    let ttls = [1, 1_000, 999_999, 1_000_000, 1_000_001].map(Duration::from_nanos);
    let keys = context.keys(ttls.len());
    for (key, ttl) in keys.iter().zip(ttls) {
        cache.put(key, "old").await?;
        cache.set(key, value().with_ttl(ttl)).await?;
    }
    context.wait(Duration::from_millis(30)).await;
    for key in &keys {
        cache.miss(key).await?;
    }
    Ok(())
}

async fn huge_ttls_do_not_expire(context: Context) -> Outcome {
    let cache = context.open().await?;
    let day = 86_400;
    let seconds = [
        30 * day - 1,
        30 * day,
        30 * day + 1,
        365 * day,
        1 << 31,
        (1 << 31) + 1,
        1 << 32,
        (1 << 32) + 1,
        9_223_372_036, // 2⁶³ nanoseconds
        9_223_372_037,
        18_446_744_074,        // 2⁶⁴ nanoseconds
        9_223_372_036_854_775, // 2⁶³ milliseconds
        i64::MAX as u64,
        u64::MAX,
    ];
    let mut ttls: Vec<Duration> = seconds.map(Duration::from_secs).to_vec();
    ttls.push(Duration::MAX);
    let keys = context.keys(2 * ttls.len());
    let (singles, multis) = keys.split_at(ttls.len());
    for (key, ttl) in singles.iter().zip(&ttls) {
        cache.set(key, value().with_ttl(*ttl)).await?;
    }
    let entries = multis
        .iter()
        .zip(&ttls)
        .map(|(key, ttl)| (key.as_str(), value().with_ttl(*ttl)))
        .collect();
    cache.set_multi(entries).await?;
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let expected = vec![Some(&b"value"[..]); keys.len()];
    cache.answers(&keys, &expected).await?;
    context.wait(short(&context)).await;
    cache.answers(&keys, &expected).await
}

async fn a_huge_default_does_not_expire(context: Context) -> Outcome {
    let cache = context.open_with(Duration::MAX).await?;
    let (one, two) = (context.key("one"), context.key("two"));
    cache.put(&one, "value").await?;
    cache.put_multi(&[(&two, b"value")]).await?;
    context.wait(short(&context)).await;
    cache
        .answers(&[&one, &two], &[Some(&b"value"[..]); 2])
        .await
}

async fn a_longer_ttl_replaces_the_deadline(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = context.keys(2);
    let ttl = short(&context);
    for key in &keys {
        cache.set(key, value().with_ttl(ttl)).await?;
    }
    let [one, two] = keys.as_slice() else {
        return Ok(());
    };
    let longer = || value().with_ttl(HOUR);
    let life = Life::starts(&context, HOUR, cache.set(one, longer())).await?;
    cache.set_multi(vec![(two, longer())]).await?;
    context.wait(ttl + Duration::from_millis(50)).await;
    life.check(&context, &cache, one).await?;
    life.check(&context, &cache, two).await
}

async fn a_shorter_ttl_replaces_the_deadline(context: Context) -> Outcome {
    let cache = context.open().await?;
    let (one, two) = (context.key("one"), context.key("two"));
    cache.set(&one, value().with_ttl(HOUR)).await?;
    cache.put(&two, "for ever").await?;
    let ttl = short(&context);
    let shorter = || value().with_ttl(ttl);
    let life = Life::starts(&context, ttl, async {
        cache.set(&one, shorter()).await?;
        cache.set_multi(vec![(&two, shorter())]).await
    })
    .await?;
    life.ends(&context, &cache, &one).await?;
    cache.answers(&[&one, &two], &[None; 2]).await
}

async fn set_without_ttl_removes_the_deadline(context: Context) -> Outcome {
    let cache = context.open().await?;
    let (one, two) = (context.key("one"), context.key("two"));
    let ttl = short(&context);
    for key in [&one, &two] {
        cache.set(key, value().with_ttl(ttl)).await?;
    }
    cache.put(&one, "stays").await?;
    cache.put_multi(&[(&two, b"stays")]).await?;
    context.wait(ttl + Duration::from_millis(50)).await;
    cache
        .answers(&[&one, &two], &[Some(&b"stays"[..]); 2])
        .await
}

async fn delete_removes_the_deadline(context: Context) -> Outcome {
    let cache = context.open().await?;
    let (one, two) = (context.key("one"), context.key("two"));
    let ttl = short(&context);
    for key in [&one, &two] {
        cache.set(key, value().with_ttl(ttl)).await?;
    }
    cache.delete(&one).await?;
    cache.delete_multi(&[&two]).await?;
    for key in [&one, &two] {
        cache.put(key, "stays").await?;
    }
    context.wait(ttl + Duration::from_millis(50)).await;
    // What a backend reaps, it reaps when something else is set.
    cache.put(&context.key("other"), "other").await?;
    cache
        .answers(&[&one, &two], &[Some(&b"stays"[..]); 2])
        .await
}

async fn reading_does_not_prolong(context: Context) -> Outcome {
    const READS: u32 = 20;
    let ttl = short(&context);
    let cache = context.open_with(ttl).await?;
    let (own, default) = (context.key("own"), context.key("default"));
    let life = Life::starts(&context, ttl, async {
        cache.set(&own, value().with_ttl(ttl)).await?;
        cache.set(&default, value()).await
    })
    .await?;
    for read in 1..=READS {
        for key in [&own, &default] {
            cache.get(key).await?;
            cache.get_multi(&[key, key]).await?;
        }
        context.wait_until(life.before + ttl * read / READS).await;
    }
    context.wait_until(life.over(&context)).await;
    cache.answers(&[&own, &default], &[None; 2]).await
}

async fn get_multi_misses_the_expired(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [stays, goes] = ["stays", "goes"].map(|name| context.key(name));
    cache.put(&stays, "value").await?;
    let ttl = short(&context);
    let life = Life::starts(&context, ttl, cache.set(&goes, value().with_ttl(ttl))).await?;
    context.wait_until(life.over(&context)).await;
    // No `get` before it, which might remove what is expired.
    let hit: Option<&[u8]> = Some(b"value");
    cache
        .answers(&[&goes, &stays, &goes, &stays], &[None, hit, None, hit])
        .await
}

async fn set_multi_keeps_each_ttl(context: Context) -> Outcome {
    let cache = context.open_with(HOUR).await?;
    let [brief, longer, default] = ["brief", "longer", "default"].map(|name| context.key(name));
    let ttl = short(&context);
    let life = Life::starts(&context, ttl, async {
        let entries = vec![
            (default.as_str(), value()),
            (brief.as_str(), value().with_ttl(ttl)),
            (longer.as_str(), value().with_ttl(2 * HOUR)),
        ];
        cache.set_multi(entries).await
    })
    .await?;
    life.runs(&context, &cache, &brief).await?;
    let hit: Option<&[u8]> = Some(b"value");
    cache
        .answers(&[&brief, &longer, &default], &[None, hit, hit])
        .await
}

async fn set_multi_applies_the_default(context: Context) -> Outcome {
    let ttl = short(&context);
    let cache = context.open_with(ttl).await?;
    let (one, two) = (context.key("one"), context.key("two"));
    let entries: [(&str, &[u8]); 2] = [(&one, b"value"), (&two, b"value")];
    let life = Life::starts(&context, ttl, cache.put_multi(&entries)).await?;
    life.runs(&context, &cache, &one).await?;
    cache.answers(&[&one, &two], &[None; 2]).await
}

async fn the_last_of_repeated_keys_sets_the_deadline(context: Context) -> Outcome {
    let cache = context.open().await?;
    let (stays, goes) = (context.key("stays"), context.key("goes"));
    let ttl = short(&context);
    let brief = || value().with_ttl(ttl);
    let life = Life::starts(&context, ttl, async {
        let entries = vec![
            (stays.as_str(), brief()),
            (goes.as_str(), value()),
            (stays.as_str(), value()),
            (goes.as_str(), brief()),
        ];
        cache.set_multi(entries).await
    })
    .await?;
    life.ends(&context, &cache, &goes).await?;
    cache
        .answers(&[&goes, &stays], &[None, Some(b"value")])
        .await
}

async fn an_expired_key_can_be_set_again(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    let ttl = short(&context);
    for _ in 0..2 {
        let life = Life::starts(&context, ttl, cache.set(&key, value().with_ttl(ttl))).await?;
        life.check(&context, &cache, &key).await?;
        life.ends(&context, &cache, &key).await?;
    }
    cache.put(&key, "stays").await?;
    cache.hit(&key, "stays").await?;
    Ok(())
}

async fn deleting_the_expired_succeeds(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [one, two, stays] = ["one", "two", "stays"].map(|name| context.key(name));
    cache.put(&stays, "value").await?;
    let ttl = short(&context);
    let life = Life::starts(&context, ttl, async {
        cache.set(&one, value().with_ttl(ttl)).await?;
        cache.set(&two, value().with_ttl(ttl)).await
    })
    .await?;
    context.wait_until(life.over(&context)).await;
    cache.delete(&one).await?;
    cache.delete_multi(&[&one, &two]).await?;
    cache
        .answers(&[&one, &two, &stays], &[None, None, Some(b"value")])
        .await
}

async fn the_clock_starts_at_set(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [past, future] = ["past", "future"].map(|name| context.key(name));
    let now = SystemTime::now();
    let ttl = short(&context);
    let old = value().with_cached_at(now - 2 * HOUR).with_ttl(HOUR);
    cache.set(&past, old).await?;
    cache.hit(&past, "value").await?;
    let early = value().with_cached_at(now + HOUR).with_ttl(ttl);
    let life = Life::starts(&context, ttl, cache.set(&future, early)).await?;
    life.ends(&context, &cache, &future).await?;
    cache.hit(&past, "value").await?;
    Ok(())
}

async fn many_expire_together(context: Context) -> Outcome {
    const KEYS: usize = 400;
    let cache = context.open().await?;
    let ttl = short(&context) * 3;
    let keys = context.keys(KEYS);
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let life = Life::starts(&context, ttl, async {
        let entries = keys.iter().map(|key| (*key, value().with_ttl(ttl)));
        cache.set_multi(entries.collect()).await
    })
    .await?;
    for moment in [life.after, life.before + ttl / 2, life.over(&context)] {
        context.wait_until(moment).await;
        let began = context.now();
        let found = cache.get_multi(&keys).await?;
        let read = (began, context.now());
        for (key, found) in keys.iter().zip(&found) {
            life.judge(&context, key, read, found.as_ref())?;
        }
    }
    Ok(())
}

async fn expired_values_stay_expired(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    let ttl = short(&context);
    cache.put(&key, "older").await?;
    let life = Life::starts(&context, ttl, cache.set(&key, value().with_ttl(ttl))).await?;
    life.ends(&context, &cache, &key).await?;
    let others = context.keys(20);
    for other in &others {
        cache.put(other, "other").await?;
    }
    cache.delete(&context.key("k0")).await?;
    for _ in 0..2 {
        cache.miss(&key).await?;
        context.wait(ttl / 2).await;
    }
    cache.miss(&key).await
}
