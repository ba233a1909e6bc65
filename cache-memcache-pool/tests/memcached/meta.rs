//! Meta commands issued by callers.

use cache_core::{CacheBackend as _, ErrorKind};
use cache_memcache_pool::{MemcachePoolBackend, MetaRequest, MetaResponse, MetaStatus, Protocol};
use test_servers::Memcached;

use crate::common::{CALL_LIMIT, builder, key_on, servers, urls, value};

async fn ask(cache: &MemcachePoolBackend, request: MetaRequest) -> MetaResponse {
    let name = format!("{request:?}");
    let response = cache.meta(request).await;
    response.unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[tokio::test]
async fn counters_are_incremented_and_decremented() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).build().unwrap();
    // The last two are sent in base64.
    for key in ["visits", "visits of today", "é\n"] {
        let count = || MetaRequest::arithmetic(key).flag('v');
        assert_eq!(ask(&cache, count()).await.status(), MetaStatus::NotFound);
        let created = ask(&cache, count().flag_with('N', 0).flag_with('J', 5)).await;
        assert_eq!(
            (created.status(), created.value()),
            (MetaStatus::Value, &b"5"[..])
        );
        assert_eq!(ask(&cache, count()).await.value(), b"6");
        let down = ask(&cache, count().flag_with('M', 'D').flag_with('D', 4)).await;
        assert_eq!(down.into_value(), b"2");
        let quiet = ask(&cache, MetaRequest::arithmetic(key)).await;
        assert_eq!(
            (quiet.status(), quiet.value()),
            (MetaStatus::Done, &b""[..])
        );
    }
}

#[tokio::test]
async fn a_cached_value_can_be_touched_and_read_as_stored() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).build().unwrap();
    cache.set("k", value("a|b")).await.unwrap();
    let touch = || MetaRequest::get("k").flag_with('T', 300);
    assert_eq!(ask(&cache, touch()).await.status(), MetaStatus::Done);
    let found = ask(&cache, touch().flag('t').flag('v').flag('f')).await;
    let left: u32 = found.flag('t').unwrap().parse().unwrap();
    assert!((1..=300).contains(&left), "{left}");
    assert_eq!(found.flag('f'), Some("0"));
    assert_eq!(found.flag('c'), None);
    assert!(found.value().starts_with(b"{\"ct\": "));
    assert!(found.value().ends_with(b"}|a|b"));
    let about = ask(&cache, MetaRequest::debug("k")).await;
    let about = String::from_utf8(about.into_value()).unwrap();
    assert!(about.contains("size="), "{about}");
    assert_eq!(
        ask(&cache, MetaRequest::noop("k")).await.status(),
        MetaStatus::Done
    );
    assert_eq!(
        ask(&cache, MetaRequest::delete("k")).await.status(),
        MetaStatus::Done
    );
    assert_eq!(
        ask(&cache, MetaRequest::delete("k")).await.status(),
        MetaStatus::NotFound
    );
    assert_eq!(ask(&cache, touch()).await.status(), MetaStatus::Missing);
    assert_eq!(
        ask(&cache, MetaRequest::debug("k")).await.status(),
        MetaStatus::Missing
    );
}

#[tokio::test]
async fn compare_and_swap_fails_after_a_concurrent_change() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).build().unwrap();
    let set = |value: &str| MetaRequest::set("k", value);
    assert_eq!(ask(&cache, set("1")).await.status(), MetaStatus::Done);
    let found = ask(&cache, MetaRequest::get("k").flag('c')).await;
    let unique = found.flag('c').unwrap();
    let changed = ask(&cache, set("2").flag_with('C', unique)).await;
    assert_eq!(changed.status(), MetaStatus::Done);
    let late = ask(&cache, set("3").flag_with('C', unique)).await;
    assert_eq!(late.status(), MetaStatus::Exists);
    let none = MetaRequest::set("none", "3").flag_with('C', unique);
    assert_eq!(ask(&cache, none).await.status(), MetaStatus::NotFound);
    assert_eq!(
        ask(&cache, MetaRequest::get("k").flag('v')).await.value(),
        b"2"
    );
}

#[tokio::test]
async fn add_append_and_prepend_depend_on_an_existing_value() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).build().unwrap();
    let with = |value: &str, mode| MetaRequest::set("k", value).flag_with('M', mode);
    assert_eq!(
        ask(&cache, with("b", 'A')).await.status(),
        MetaStatus::NotStored
    );
    assert_eq!(ask(&cache, with("b", 'E')).await.status(), MetaStatus::Done);
    assert_eq!(
        ask(&cache, with("x", 'E')).await.status(),
        MetaStatus::NotStored
    );
    assert_eq!(
        ask(&cache, with("c\r\n", 'A')).await.status(),
        MetaStatus::Done
    );
    assert_eq!(ask(&cache, with("a", 'P')).await.status(), MetaStatus::Done);
    assert_eq!(
        ask(&cache, MetaRequest::get("k").flag('v')).await.value(),
        b"abc\r\n"
    );
}

#[tokio::test]
async fn large_values_are_stored_unchanged() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).build().unwrap();
    let large: Vec<u8> = (0..=u8::MAX).cycle().take(600_000).collect();
    ask(&cache, MetaRequest::set("k", large.clone())).await;
    let found = ask(&cache, MetaRequest::get("k").flag('v').flag('s')).await;
    assert_eq!(found.flag('s'), Some("600000"));
    assert_eq!(found.into_value(), large);

    let small = builder([server.url()]).server_max_value_length(1000);
    let small = small.socket_timeout(CALL_LIMIT);
    let small = small.build().unwrap();
    let error = small
        .meta(MetaRequest::get("k").flag('v'))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
    let huge = MetaRequest::set("k", vec![b'x'; 2_000_000]);
    let error = small.meta(huge).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueTooLarge);
    assert_eq!(small.stats().servers[0].connects, 1);
}

#[tokio::test]
async fn a_refused_command_is_an_error_and_keeps_the_connection() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).socket_timeout(CALL_LIMIT);
    let cache = cache.build().unwrap();
    ask(&cache, MetaRequest::set("k", "text")).await;
    for (request, words) in [
        (MetaRequest::arithmetic("k"), "non-numeric"),
        (
            MetaRequest::set("k", "v\r\nmn").flag_with('M', 'Z'),
            "invalid mode",
        ),
        (
            MetaRequest::set("k", "v\r\nmn")
                .flag_with('T', 1)
                .flag_with('T', 2),
            "duplicate",
        ),
        (
            MetaRequest::set("k", "v\r\nmn").flag_with('F', "x"),
            "bad command line",
        ),
        (MetaRequest::get("k").flag('Z'), "invalid flag"),
        (
            MetaRequest::get("k").flag_with('T', "1".repeat(32)),
            "bad token",
        ),
        (
            "tfslhcvmnopr"
                .chars()
                .fold(MetaRequest::set("k", "v\r\nmn"), MetaRequest::flag),
            "invalid flag",
        ),
    ] {
        let name = format!("{request:?}");
        let error = cache.meta(request).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Backend, "{name}: {error}");
        assert!(error.message().contains(words), "{name}: {error}");
        assert!(error.message().contains(&server.url()), "{name}: {error}");
        assert_eq!(error.keys(), ["k"]);
        // The next response belongs to the next request.
        assert_eq!(
            ask(&cache, MetaRequest::get("k").flag('v')).await.value(),
            b"text"
        );
    }
    assert_eq!(cache.stats().servers[0].connects, 1);
}

#[tokio::test]
async fn invalid_requests_are_refused_with_the_reason() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).build().unwrap();
    for (request, kind, words) in [
        (MetaRequest::get(""), ErrorKind::InvalidKey, "empty"),
        (
            MetaRequest::get("x".repeat(251)),
            ErrorKind::InvalidKey,
            "250",
        ),
        (MetaRequest::get("k").flag('q'), ErrorKind::Encode, "quiet"),
        (
            MetaRequest::get("k").flag_with('T', "1\r\nmn"),
            ErrorKind::Encode,
            "printable",
        ),
    ] {
        let key = request.key().to_owned();
        let error = cache.meta(request).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(words), "{error}");
        assert_eq!(error.keys(), [key]);
    }
    assert_eq!(cache.stats().servers[0].connects, 0);

    let classic = builder([server.url()]).protocol(Protocol::Classic);
    let error = classic.build().unwrap().meta(MetaRequest::get("k")).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("protocol"), "{error}");
}

#[tokio::test]
async fn commands_are_routed_by_key_and_fail_over() {
    let mut servers = servers(3);
    let cache = builder(urls(&servers)).build().unwrap();
    for n in 0..30 {
        let key = format!("k{n}");
        cache.set(&key, value("v")).await.unwrap();
        let found = ask(&cache, MetaRequest::get(key)).await;
        assert_eq!(found.status(), MetaStatus::Done);
    }
    let key = key_on(&cache, 1).await;
    let count = || MetaRequest::arithmetic(&*key).flag('v').flag_with('N', 0);
    let count = || count().flag_with('J', 1);
    assert_eq!(ask(&cache, count()).await.value(), b"1");
    servers[1].kill().unwrap();
    // The command that is sent may be the one that sees the connection close, and is not retried
    // then.
    let mut counted = 0;
    for _ in 0..10 {
        match cache.meta(count()).await {
            Ok(found) => {
                counted += 1;
                assert_eq!(found.value(), counted.to_string().as_bytes());
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Timeout, "{error}"),
        }
    }
    assert!(counted >= 9, "{counted}");
    assert!(cache.stats().servers[1].down_for.is_some());

    let homes = builder(urls(&servers)).failover(false).build().unwrap();
    let error = homes.meta(count()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
