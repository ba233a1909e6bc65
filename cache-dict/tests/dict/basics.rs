//! The behavior for a single caller, on a manual clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_core::{CachedValue, Ttl};
use cache_dict::{Clock, DictBackend, DictBuilder, DictConfig, DictStats, ManualClock};

const SECOND: Duration = Duration::from_secs(1);

fn with_ttl(ttl: Duration) -> (DictBackend<String>, ManualClock) {
    let clock = ManualClock::new();
    let builder = DictBackend::builder().expiration_time(ttl);
    (builder.clock(clock.clone()).build().unwrap(), clock)
}

fn value(payload: &str) -> CachedValue<String> {
    CachedValue::new(payload.to_owned())
}

fn payload(cache: &DictBackend<String>, key: &str) -> Option<String> {
    let found = cache.get_sync(key);
    found.map(CachedValue::into_payload)
}

#[test]
fn a_value_is_served_until_its_deadline_and_no_longer() {
    let (cache, clock) = with_ttl(SECOND);
    cache.set_sync("k", value("v"));
    clock.advance(Duration::from_nanos(999_999_999));
    let found = cache.get_sync("k").unwrap();
    assert_eq!(found.ttl(), Ttl::For(Duration::from_nanos(1)));
    clock.advance(Duration::from_nanos(1));
    assert_eq!(payload(&cache, "k"), None);
    assert_eq!(cache.get_multi_sync(&["k", "k"]), [None, None]);
}

#[test]
fn writing_extends_the_lifetime_and_reading_does_not() {
    let (cache, clock) = with_ttl(SECOND);
    cache.set_sync("read", value("v"));
    cache.set_sync("written", value("v"));
    for _ in 0..10 {
        clock.advance(SECOND / 10);
        payload(&cache, "read");
        cache.set_sync("written", value("w"));
    }
    assert_eq!(payload(&cache, "read"), None);
    clock.advance(SECOND / 2);
    assert_eq!(payload(&cache, "written").as_deref(), Some("w"));
}

#[test]
fn the_ttl_of_a_value_takes_precedence_over_the_default() {
    let (cache, clock) = with_ttl(10 * SECOND);
    cache.set_sync("shorter", value("v").with_ttl(SECOND));
    cache.set_sync("longer", value("v").with_ttl(60 * SECOND));
    cache.set_sync("forever", value("v").with_ttl(Duration::MAX));
    cache.set_sync("never", value("v").with_ttl(Ttl::Never));
    cache.set_sync("default", value("v"));
    let left = |key| cache.get_sync(key).map(|found| found.ttl());
    assert_eq!(left("shorter"), Some(Ttl::For(SECOND)));
    assert_eq!(left("forever"), Some(Ttl::Never));
    assert_eq!(left("never"), Some(Ttl::Never));
    clock.advance(SECOND);
    assert_eq!(left("shorter"), None);
    assert_eq!(left("default"), Some(Ttl::For(9 * SECOND)));
    clock.advance(9 * SECOND);
    assert_eq!(left("default"), None);
    assert_eq!(left("longer"), Some(Ttl::For(50 * SECOND)));
    clock.set(Duration::MAX);
    assert_eq!(left("longer"), None);
    assert_eq!(left("forever"), Some(Ttl::Never));
    assert_eq!(left("never"), Some(Ttl::Never));
}

#[test]
fn a_ttl_of_zero_removes_the_old_value() {
    let (cache, _) = with_ttl(SECOND);
    cache.set_sync("k", value("old"));
    cache.set_sync("k", value("new").with_ttl(Duration::ZERO));
    assert_eq!(payload(&cache, "k"), None);
    assert!(cache.is_empty());
    let entries = vec![
        ("a", value("1")),
        ("a", value("2").with_ttl(Duration::ZERO)),
        ("b", value("3")),
    ];
    cache.set_multi_sync(entries);
    assert_eq!(payload(&cache, "a"), None);
    assert_eq!(payload(&cache, "b").as_deref(), Some("3"));
}

#[test]
fn a_default_ttl_of_zero_or_beyond_the_clock_means_no_expiry() {
    for ttl in [Duration::ZERO, Duration::MAX] {
        let (cache, clock) = with_ttl(ttl);
        cache.set_sync("k", value("v"));
        clock.set(Duration::MAX);
        cache.set_sync("other", value("v"));
        assert_eq!(
            cache.get_sync("k").map(|found| found.ttl()),
            Some(Ttl::Never)
        );
    }
}

#[test]
fn expired_values_stay_expired_when_the_clock_steps_back() {
    let (cache, clock) = with_ttl(60 * SECOND);
    clock.set(1000 * SECOND);
    cache.set_sync("old", value("v"));
    clock.set(1060 * SECOND);
    assert_eq!(payload(&cache, "old"), None);
    clock.set(5 * SECOND);
    assert_eq!(payload(&cache, "old"), None);
    // Time stops until the clock has caught up, and the lifetime of a new value counts from then.
    cache.set_sync("new", value("v"));
    clock.set(1119 * SECOND);
    assert_eq!(payload(&cache, "new").as_deref(), Some("v"));
    clock.set(1120 * SECOND);
    assert_eq!(payload(&cache, "new"), None);
    cache.purge();
    assert!(cache.is_empty());
}

#[test]
fn steps_of_the_wall_clock_do_not_affect_expiry() {
    let cache = DictBackend::builder()
        .expiration_time(3600 * SECOND)
        .build()
        .unwrap();
    // As written by a caller whose clock is wrong.
    for cached_at in [UNIX_EPOCH, SystemTime::now() + 100_000 * SECOND] {
        cache.set_sync("k", CachedValue::new(1).with_cached_at(cached_at));
        let found = cache.get_sync("k").unwrap();
        assert_eq!(found.cached_at(), cached_at);
        assert!(found.ttl().duration().unwrap() > 3500 * SECOND);
    }
}

#[test]
fn metadata_is_replaced_with_the_value() {
    let (cache, _) = with_ttl(Duration::ZERO);
    let at = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    cache.set_sync("k", value("1").with_ttl(SECOND));
    cache.set_sync("k", value("2").with_cached_at(at));
    let found = cache.get_sync("k").unwrap();
    assert_eq!((found.cached_at(), found.ttl()), (at, Ttl::Never));
}

#[test]
fn the_empty_key_is_a_key_like_any_other() {
    let (cache, _) = with_ttl(SECOND);
    assert_eq!(payload(&cache, ""), None);
    cache.set_sync("", value("v"));
    cache.set_sync("\0", value("w"));
    assert_eq!(payload(&cache, "").as_deref(), Some("v"));
    let entries = vec![("", value("1")), ("", value("2"))];
    cache.set_multi_sync(entries);
    assert_eq!(payload(&cache, "").as_deref(), Some("2"));
    cache.delete_sync("");
    assert_eq!(payload(&cache, ""), None);
    assert_eq!(cache.len(), 1);
}

#[test]
fn keys_of_any_length_and_content_are_distinguished() {
    let (cache, _) = with_ttl(SECOND);
    let long = "k".repeat(1 << 20);
    let longer = "k".repeat((1 << 20) + 1);
    let mut keys: Vec<String> = (0..100).map(|len| "a".repeat(len)).collect();
    keys.extend([long, longer]);
    // Digests are stored in a packed form; keys that only resemble one are not.
    let digest = "0123456789abcdef0123456789abcdef01234567";
    keys.extend([digest.to_owned(), digest.to_uppercase()]);
    keys.extend((0..40).map(|at| [&digest[..at], "g", &digest[at + 1..]].concat()));
    keys.extend(
        [
            "k", "K", " k", "k ", "k\r\n", "k\0", "\0", "\0\0", "é", "e\u{301}",
        ]
        .map(str::to_owned),
    );
    for key in &keys {
        cache.set_sync(key, value(key));
    }
    assert_eq!(cache.len(), keys.len());
    for key in &keys {
        assert_eq!(payload(&cache, key).as_ref(), Some(key));
        cache.delete_sync(key);
        assert_eq!(payload(&cache, key), None);
    }
    assert!(cache.is_empty());
}

#[test]
fn the_last_value_of_a_repeated_key_wins_in_set_multi() {
    let (cache, _) = with_ttl(SECOND);
    // Repeated keys that are close together and far apart.
    let keys: Vec<String> = (0..5_000).map(|n| format!("k{}", n % 700)).collect();
    let entries = keys.iter().enumerate();
    let entries = entries.map(|(n, key)| (key.as_str(), value(&n.to_string())));
    cache.set_multi_sync(entries.collect());
    assert_eq!(cache.len(), 700);
    for (n, key) in keys.iter().enumerate().skip(4_300) {
        assert_eq!(payload(&cache, key), Some(n.to_string()));
    }
    let asked: Vec<&str> = keys.iter().map(String::as_str).chain(["none"]).collect();
    let found = cache.get_multi_sync(&asked);
    assert_eq!(found.len(), asked.len());
    for (n, found) in found.iter().enumerate().take(5_000) {
        let last = 4_300 + (n % 700 + 700 - 4_300 % 700) % 700;
        assert_eq!(*found.as_ref().unwrap().payload(), last.to_string());
    }
    assert_eq!(found[5_000], None);
    cache.delete_multi_sync(&asked[1..]);
    assert!(cache.is_empty());
}

#[test]
fn set_multi_replaces_and_adds_values_in_a_large_cache() {
    let cache = DictBackend::builder().build().unwrap();
    let name = |n: u32| format!("key {n}");
    // More than 512 in each shard: the entries are loaded before they are written.
    for n in 0..100_000 {
        cache.set_sync(&name(n), CachedValue::new(n));
    }
    let keys: Vec<String> = (99_900..100_100).map(name).collect();
    let values = (1..).map(CachedValue::new);
    cache.set_multi_sync(keys.iter().map(String::as_str).zip(values).collect());
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = cache.get_multi_sync(&keys).into_iter().flatten();
    assert!(found.map(CachedValue::into_payload).eq(1..=200));
    assert_eq!(cache.len(), 100_100);
}

#[test]
fn a_cleared_cache_can_be_used_again() {
    let (cache, clock) = with_ttl(SECOND);
    for n in 0..1_000 {
        cache.set_sync(&format!("{n}"), value("v"));
    }
    cache.clear();
    assert!(cache.is_empty());
    cache.set_sync("k", value("v"));
    assert_eq!(cache.len(), 1);
    clock.advance(SECOND);
    cache.purge();
    assert!(cache.is_empty());
    assert_eq!(cache.stats().expired, 1);
}

#[test]
fn debug_shows_the_configuration_and_no_values() {
    let (cache, _) = with_ttl(SECOND);
    cache.set_sync("user", value("password"));
    let shown = format!("{cache:?}");
    assert!(shown.contains("expiration_time: 1s"), "{shown}");
    assert!(
        !shown.contains("password") && !shown.contains("user"),
        "{shown}"
    );
}

#[test]
fn clones_share_their_entries() {
    let cache = DictBackend::from_config(DictConfig::default()).unwrap();
    cache.clone().set_sync("k", CachedValue::new(1));
    assert!(cache.get_sync("k").is_some());
}

#[test]
fn public_types_implement_the_common_traits() {
    fn is_shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}
    fn is_an_object(_: &dyn Clock) {}
    is_shared::<DictBackend<String>>();
    is_shared::<DictBuilder<String>>();
    is_shared::<DictConfig>();
    is_shared::<DictStats>();
    is_shared::<ManualClock>();
    is_an_object(&ManualClock::new());
}
