//! Which TTL applies to a value: its own, or else the backend's default.

use std::time::Duration;

use cache_core::Ttl;

use crate::Clock;
use crate::context::{Context, Outcome};
use crate::failure::ensure;
use crate::rule::{Rule, rules};
use crate::rules::source::LIFETIMES;

use super::value;
use crate::rules::life::{HOUR, LONG, Life, short};
use crate::show;

rules! {
    ($) expiry, __rules_of_expiry_ttls, LIFETIMES, Rule::needs_ttl;

    own_ttl_expires: "A value with its own TTL is a miss from its deadline on.";
    default_ttl_expires: "A value without its own TTL expires by the backend's default.";
    not_lost_before_the_deadline:
        "A value with its own TTL or the default is found until its deadline, less the declared \
         granularity, to a fraction of a second.";
    longer_own_ttl_beats_the_default:
        "A value's own TTL, when longer, replaces the backend's default.";
    shorter_own_ttl_beats_the_default:
        "A value's own TTL, when shorter, replaces the backend's default.";
    never_beats_the_default:
        "A value with `Ttl::Never` does not expire, whatever the backend's default, in any write.";
    long_lifetimes_end_on_time:
        "Lifetimes of minutes, days, and more than thirty days end on time, to the minute.";
    without_any_ttl_nothing_expires:
        "A value without its own TTL does not expire if the default is zero.";
    own_ttl_of_zero_is_expired_at_once:
        "A value whose own TTL is zero is an immediate miss, whatever the default.";
    own_ttl_of_zero_removes_the_old_value:
        "`set` and `set_multi` with a TTL of zero leave no value behind.";
    tiny_ttls_expire:
        "A TTL of a nanosecond or a millisecond, or such a default, expires, and is mistaken neither \
         for zero nor for no expiry.";
    huge_ttls_do_not_expire:
        "TTLs beyond 30 days, 32 and 64 bits, up to `Duration::MAX`, never expire early.";
    a_huge_default_does_not_expire:
        "A default TTL beyond 30 days, or 32 or 64 bits, never expires early, and is not an error.";
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
    // Detects that a fraction of a second is lost when it is stored in whole seconds.
    let unit = context
        .capabilities()
        .granularity()
        .max(Duration::from_millis(300));
    for (number, ttl) in [unit, unit * 5 / 2, unit * 39 / 10].into_iter().enumerate() {
        let by_default = context.open_with(ttl).await?;
        let [one, two, three] =
            ["one", "two", "three"].map(|name| context.key(&format!("{name}{number}")));
        let life = Life::starts(&context, ttl, async {
            cache.set(&one, value().with_ttl(ttl)).await?;
            cache.set_multi(vec![(&two, value().with_ttl(ttl))]).await?;
            by_default.set(&three, value()).await
        })
        .await?;
        for percent in [0, 25, 50, 75, 90, 99, 100] {
            context.wait_until(life.before + ttl * percent / 100).await;
            life.check(&context, &cache, &one).await?;
            life.check(&context, &cache, &two).await?;
            life.check(&context, &by_default, &three).await?;
        }
        life.ends(&context, &cache, &one).await?;
        cache.miss(&two).await?;
        by_default.miss(&three).await?;
    }
    Ok(())
}

async fn longer_own_ttl_beats_the_default(context: Context) -> Outcome {
    let default = short(&context);
    let cache = context.open_with(default).await?;
    let [one, two, three] = ["one", "two", "three"].map(|name| context.key(name));
    let longer = || value().with_ttl(LONG);
    let life = Life::starts(&context, LONG, async {
        cache.set(&one, longer()).await?;
        cache.set_multi(vec![(&two, longer())]).await?;
        // A value that replaces one without its own TTL.
        cache.set_multi(vec![(&three, value())]).await?;
        cache
            .set_multi(vec![(&three, longer()), (&two, longer())])
            .await
    })
    .await?;
    context.wait(default + Duration::from_millis(50)).await;
    for key in [&one, &two, &three] {
        life.check(&context, &cache, key).await?;
    }
    Ok(())
}

async fn never_beats_the_default(context: Context) -> Outcome {
    let default = short(&context);
    let cache = context.open_with(default).await?;
    let [one, two, three] = ["one", "two", "three"].map(|name| context.key(name));
    let never = || value().with_ttl(Ttl::Never);
    cache.set(&one, never()).await?;
    cache
        .set_multi(vec![(&two, never()), (&three, value())])
        .await?;
    cache.set(&three, never()).await?;
    context.wait(default + Duration::from_millis(50)).await;
    if context.capabilities().clock == Clock::Manual {
        context.wait(HOUR * 24 * 365).await;
    }
    for key in [&one, &two, &three] {
        let found = cache.hit(key, "value").await?;
        ensure!(
            found.ttl() == Ttl::Never,
            "get {key:?}, ttl(): expected Ttl::Never, got {}",
            show::ttl(found.ttl())
        );
    }
    Ok(())
}

async fn long_lifetimes_end_on_time(context: Context) -> Outcome {
    const MINUTE: Duration = Duration::from_secs(60);
    let cache = context.open_with(HOUR).await?;
    let day = 24 * HOUR;
    let ttls = [
        5 * MINUTE,
        61 * MINUTE,
        day,
        10 * day,
        30 * day,
        31 * day,
        400 * day,
    ];
    // Shorter ones may be lost at once.
    let least = 2 * context.capabilities().granularity();
    let ttls = ttls.into_iter().filter(|ttl| *ttl > least);
    for (number, ttl) in ttls.enumerate() {
        let [one, two] = ["one", "two"].map(|name| context.key(&format!("{name}{number}")));
        let long = || value().with_ttl(ttl);
        let life = Life::starts(&context, ttl, async {
            cache.set(&one, long()).await?;
            cache.set_multi(vec![(&two, long()), (&one, long())]).await
        })
        .await?;
        // By a real clock, it is enough that the value is not gone at once.
        life.check(&context, &cache, &one).await?;
        life.check(&context, &cache, &two).await?;
        if context.capabilities().clock == Clock::Manual {
            life.runs(&context, &cache, &one).await?;
            life.ends(&context, &cache, &two).await?;
        } else {
            let left = cache.hit(&two, "value").await?.ttl();
            // Allows for a little jitter.
            let least = ttl.saturating_sub(context.capabilities().granularity() + MINUTE);
            ensure!(
                left.duration()
                    .is_some_and(|left| (least..=ttl).contains(&left)),
                "get {two:?}, ttl(): {}",
                show::expected_left(least, ttl, left)
            );
        }
    }
    Ok(())
}

async fn shorter_own_ttl_beats_the_default(context: Context) -> Outcome {
    let cache = context.open_with(LONG).await?;
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
    // Without sleeping, time costs nothing.
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
    for default in ttls {
        let cache = context.open_with(default).await?;
        let (one, two) = (context.key("by-default"), context.key("by-default-too"));
        cache.put(&one, "value").await?;
        cache.put_multi(&[(&two, b"value")]).await?;
        context.wait(Duration::from_millis(30)).await;
        cache.answers(&[&one, &two], &[None; 2]).await?;
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
    let days = [30, 31, 400].map(|days| days * 86_400);
    let bits = [1 << 31, (1 << 32) + 1, 18_446_744_074, u64::MAX];
    let defaults = days.into_iter().chain(bits).map(Duration::from_secs);
    let mut caches = Vec::new();
    for (number, default) in defaults.chain([Duration::MAX]).enumerate() {
        let cache = context.open_with(default).await?;
        let [one, two] = ["one", "two"].map(|name| context.key(&format!("{name}{number}")));
        cache.put(&one, "value").await?;
        cache.put_multi(&[(&two, b"value")]).await?;
        caches.push((cache, one, two));
    }
    context.wait(short(&context)).await;
    for (cache, one, two) in &caches {
        cache
            .answers(&[one, two], &[Some(&b"value"[..]); 2])
            .await?;
    }
    Ok(())
}
