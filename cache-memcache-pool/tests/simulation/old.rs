//! Servers older than memcached 1.6.10, which read values as commands, never receive any.

use std::time::Duration;

use cache_core::{CacheBackend as _, CachedValue, Error, ErrorKind};
use cache_memcache_pool::{MemcachePoolBackend, MetaRequest};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::network::Kind;
use crate::rng::Rng;
use crate::server::{Farm, fast};
use crate::setup::{SECOND, builder, farm, fault};

/// A payload that empties a server which reads it as commands.
fn value() -> CachedValue<Vec<u8>> {
    CachedValue::new(b"\r\nflush_all\r\n".to_vec())
}

/// Writes in every way that sends a value. Returns the errors.
async fn write_all(cache: &MemcachePoolBackend) -> Vec<Error> {
    let many: Vec<String> = (0..300).map(|key| format!("k{key}")).collect();
    let many = many.iter().map(|key| (key.as_str(), value())).collect();
    let both = tokio::join!(cache.get("k"), cache.set("k", value()));
    let errors = [
        cache.set("k", value()).await.err(),
        cache.set("with a space", value()).await.err(),
        cache
            .set_multi(vec![("k", value()), ("l", value())])
            .await
            .err(),
        cache.set_multi(many).await.err(),
        cache
            .meta(MetaRequest::set("k", *b"\r\nflush_all\r\n"))
            .await
            .err(),
        both.1.err(),
    ];
    errors.into_iter().flatten().collect()
}

/// Checks that the first server has received nothing but commands without values.
fn assert_no_value_was_sent(farm: &Farm) {
    let server = &farm.0[0];
    assert!(server.versions() > 0, "it was never asked for its version");
    assert_eq!(server.misread(), Vec::<String>::new());
    assert!(server.has("before"), "it was emptied");
}

#[tokio::test(start_paused = true)]
async fn no_value_is_sent_to_an_old_server() {
    let farm = farm(1, &[fault(Kind::Old, Duration::ZERO, SECOND * 600)], |_| {});
    farm.0[0].put("before", Vec::new());
    for password in [false, true] {
        farm.0[0].require_password(password);
        let mut cache = builder(&farm);
        if password {
            cache = cache.username("me").password("correct-horse");
        }
        let cache = cache.build().unwrap();
        // Probes come in between.
        for _ in 0..20 {
            let errors = write_all(&cache).await;
            assert_eq!(errors.len(), 6, "{errors:?}");
            for error in errors {
                let message = error.message();
                assert!(message.contains("1.6.9"), "{error}");
                assert!(message.contains("memcached 1.6.10 or later"), "{error}");
                assert!(message.contains("`protocol`"), "{error}");
            }
            sleep(SECOND / 10).await;
        }
        assert!(cache.stats().servers[0].downs > 0);
        assert_no_value_was_sent(&farm);
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_call_to_an_old_server_says_what_to_do() {
    let farm = farm(1, &[fault(Kind::Old, Duration::ZERO, SECOND * 600)], |_| {});
    farm.0[0].put("before", Vec::new());
    let error = builder(&farm).build().unwrap().set("k", value()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(
        error.message().contains("memcached 1.6.10 or later"),
        "{error}"
    );
    assert_no_value_was_sent(&farm);
}

#[tokio::test(start_paused = true)]
async fn no_value_is_sent_to_an_old_server_that_replaces_another() {
    // With and without an outage in between, which a probe ends.
    for outage in [Duration::ZERO, SECOND] {
        let old = SECOND + outage;
        let faults = [
            fault(Kind::Restart, SECOND, old),
            fault(Kind::Old, old, SECOND * 600),
        ];
        let farm = farm(1, &faults, |_| {});
        let start = Instant::now();
        // Its mark is a value as well.
        let cache = builder(&farm).pool_expire_on_reconnect(true);
        let cache = cache.dead_retry(SECOND / 4).build().unwrap();
        assert!(write_all(&cache).await.is_empty());
        sleep_until(start + SECOND + SECOND / 1000).await;
        if !outage.is_zero() {
            assert_eq!(write_all(&cache).await.len(), 6);
            sleep_until(start + old + SECOND / 1000).await;
        }
        farm.0[0].put("before", Vec::new());
        for _ in 0..20 {
            assert_eq!(write_all(&cache).await.len(), 6);
            sleep(SECOND / 10).await;
        }
        assert_no_value_was_sent(&farm);
    }
}

#[tokio::test(start_paused = true)]
async fn each_connection_asks_for_the_version_once() {
    let farm = farm(1, &[], |_| {});
    let cache = builder(&farm).build().unwrap();
    for _ in 0..100 {
        assert!(write_all(&cache).await.is_empty());
    }
    let connects = cache.stats().servers[0].connects;
    assert_eq!(farm.0[0].versions(), connects);
    // It is no call of a user.
    let server = &cache.stats().servers[0];
    assert_eq!(server.calls, 100 * (1 + 1 + 1 + 1 + 2 + 300 + 1));
}

#[tokio::test(start_paused = true)]
async fn only_values_wait_for_the_version_and_only_once() {
    let (start, latency) = (Instant::now(), SECOND / 100);
    let mut link = fast(start);
    (link.latency, link.per_kilobyte) = (latency, Duration::ZERO);
    let farm = Farm::start(vec![link], &[], start, &mut Rng::new(7));
    for is_read in [true, false] {
        let cache = builder(&farm).build().unwrap();
        for round_trips in if is_read { [2, 1] } else { [3, 1] } {
            let begun = Instant::now();
            if is_read {
                cache.get("k").await.unwrap();
            } else {
                cache.set("k", value()).await.unwrap();
            }
            let took = begun.elapsed();
            let expected = latency * 2 * round_trips;
            // Timers count whole milliseconds.
            assert!(took >= expected && took < expected + latency, "{took:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_waits_for_the_version_can_be_withdrawn() {
    let farm = farm(1, &[], |link| link.latency = SECOND / 10);
    let cache = builder(&farm).socket_timeout(SECOND * 2).build().unwrap();
    // The connection is open after 0.2 s, the version known after 0.4 s.
    for patience in [SECOND / 10, SECOND * 3 / 10] {
        let set = cache.set("k", value());
        assert!(timeout(patience, set).await.is_err());
        assert_eq!(cache.stats().servers[0].in_flight, 0);
    }
    assert_eq!(cache.get("k").await.unwrap(), None);
    sleep(SECOND).await;
    assert!(!farm.0[0].has("k"));
    cache.set("k", value()).await.unwrap();
    assert_eq!(cache.stats().servers[0].connects, 1);
}

#[tokio::test(start_paused = true)]
async fn a_write_does_not_wait_for_the_version_past_its_deadline() {
    let farm = farm(
        1,
        &[fault(Kind::Drip, Duration::ZERO, SECOND * 600)],
        |_| {},
    );
    let cache = builder(&farm).build().unwrap();
    let begun = Instant::now();
    let error = cache.set("k", value()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    let took = begun.elapsed();
    assert!(took <= SECOND + SECOND / 100, "{took:?}");
    assert!(!farm.0[0].has("k"));
}
