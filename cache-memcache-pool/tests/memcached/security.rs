//! Passwords and TLS: what is refused, and how it is reported.

use std::io::{BufRead as _, BufReader, Write as _};

use crate::common::{builder, value};
use cache_core::{CacheBackend as _, ErrorKind};
use test_servers::Memcached;

const PASSWORD: &str = "correct-horse";

#[tokio::test]
async fn a_wrong_or_missing_password_does_not_mark_servers_down() {
    let server = Memcached::builder().auth("me", PASSWORD).start().unwrap();
    let wrong = builder([server.url()])
        .username("me")
        .password("battery-staple");
    let wrong = wrong.build().unwrap();
    let missing = builder([server.url()]).build().unwrap();
    for (cache, says) in [
        (&wrong, "username and password"),
        (&missing, "configure `username`"),
    ] {
        for _ in 0..2 {
            let error = cache.get("k").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            assert!(error.message().contains(says), "{error}");
            assert!(
                !format!("{error:?}").contains("battery-staple"),
                "{error:?}"
            );
            let error = cache.set("k", value("1")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        }
        assert_eq!(cache.stats().servers[0].downs, 0);
    }
    let right = builder([server.url()]).username("me").password(PASSWORD);
    assert!(!format!("{right:?}").contains(PASSWORD));
    let right = right.build().unwrap();
    assert!(!format!("{right:?}").contains(PASSWORD));
    right.set("k", value("1")).await.unwrap();
    assert!(right.get("k").await.unwrap().is_some());
}

#[tokio::test]
async fn a_password_is_not_sent_to_a_server_that_does_not_require_one() {
    let server = Memcached::start().unwrap();
    let cache = builder([server.url()]).username("me").password(PASSWORD);
    let cache = cache.build().unwrap();
    cache.set("k", value("1")).await.unwrap();
    // memcached would have stored it under this name.
    let error = cache.get("auth").await;
    assert_eq!(error.unwrap(), None);
    assert_eq!(server.stats().unwrap()["total_items"], "1");
}

#[cfg(not(feature = "tls"))]
#[test]
fn tls_without_the_feature_is_a_configuration_error() {
    let error = builder(["a"]).tls_enabled(true).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("feature `tls`"), "{error}");
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;

    #[tokio::test]
    async fn an_untrusted_certificate_is_refused_unless_verification_is_disabled() {
        let server = Memcached::builder().tls().start().unwrap();
        let other = Memcached::builder().tls().start().unwrap();
        let cache = builder([server.url()]).tls_enabled(true);
        let wary = cache
            .clone()
            .tls_cafile(other.certificate())
            .build()
            .unwrap();
        let error = wary.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("TLS"), "{error}");
        assert!(error.message().contains("tls_cafile"), "{error}");
        let blind = cache.tls_verify(false).build().unwrap();
        blind.set("k", value("1")).await.unwrap();
        assert!(blind.get("k").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_name_missing_from_the_certificate_is_refused() {
        let server = Memcached::builder().tls().start().unwrap();
        let port = server.port().unwrap();
        let reach = |host: &str| {
            builder([format!("{host}:{port}")])
                .tls_enabled(true)
                .tls_cafile(server.certificate())
                .build()
                .unwrap()
        };
        reach("localhost").set("k", value("1")).await.unwrap();
        let called = |name: &str| {
            let cache = builder([server.url()]).tls_enabled(true);
            let cache = cache.tls_cafile(server.certificate());
            cache.tls_server_name(name).build().unwrap()
        };
        assert!(called("localhost").get("k").await.unwrap().is_some());
        let error = called("other.example").get("k").await.unwrap_err();
        assert!(error.message().contains("tls_server_name"), "{error}");
        let error = reach("127.0.0.2").get("k").await.unwrap_err();
        // memcached listens only on 127.0.0.1 if loopback addresses are distinct.
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    }

    #[tokio::test]
    async fn a_tls_mismatch_does_not_hang() {
        let with = Memcached::builder().tls().start().unwrap();
        let without = Memcached::start().unwrap();
        let plain = builder([with.url()]).build().unwrap();
        let error = plain.get("k").await.unwrap_err();
        let told = [
            ErrorKind::Unavailable,
            ErrorKind::Timeout,
            ErrorKind::Protocol,
        ];
        assert!(told.contains(&error.kind()), "{error}");
        let secured = builder([without.url()])
            .tls_enabled(true)
            .tls_cafile(with.certificate())
            .build()
            .unwrap();
        let error = secured.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let asks = "does it use TLS? `tls_enabled` is set";
        assert!(error.message().contains(asks), "{error}");
    }

    #[tokio::test]
    async fn missing_tls_is_reported() {
        let server = Memcached::builder().tls().start().unwrap();
        let cache = builder([server.url()]).build().unwrap();
        let error = cache.get("k").await.unwrap_err();
        assert!(error.message().contains(&server.url()), "{error}");
        assert!(error.message().contains("tls_enabled"), "{error}");
    }

    #[test]
    fn an_invalid_configuration_is_refused() {
        let cache = builder(["a"]).tls_enabled(true);
        let error = cache.clone().tls_server_name("not a name").build();
        let error = error.unwrap_err();
        assert!(error.message().contains("tls_server_name"), "{error}");
        let error = cache
            .clone()
            .tls_cafile("/no/such/file")
            .build()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.message().contains("/no/such/file"), "{error}");
        assert!(error.message().contains("No such file"), "{error}");
        let error = cache.tls_verify(false).tls_keyfile("k").build();
        let error = error.unwrap_err();
        assert!(error.message().contains("`tls_certfile` is not"), "{error}");
    }

    #[test]
    fn the_certificate_file_may_contain_the_key() {
        let server = Memcached::builder().tls().start().unwrap();
        let cache = builder(["a"]).tls_enabled(true).tls_verify(false);
        let alone = cache.clone().tls_certfile(server.certificate()).build();
        let error = alone.unwrap_err();
        assert!(
            error.message().contains("contains no private key"),
            "{error}"
        );

        let name = format!("cache-memcache-pool-{}-both.pem", std::process::id());
        let both = std::env::temp_dir().join(name);
        let made = std::process::Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .args(["-nodes", "-subj", "/CN=client", "-keyout"])
            .arg(&both)
            .arg("-out")
            .arg(both.with_extension("crt"))
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let mut text = std::fs::read_to_string(&both).unwrap();
        text += &std::fs::read_to_string(both.with_extension("crt")).unwrap();
        std::fs::write(&both, text).unwrap();
        let built = cache.tls_certfile(&both).build();
        std::fs::remove_file(both.with_extension("crt")).unwrap();
        std::fs::remove_file(&both).unwrap();
        built.unwrap();
    }

    #[test]
    fn files_with_the_wrong_content_are_named() {
        let server = Memcached::builder().tls().start().unwrap();
        let certificate = server.certificate();
        let name = format!("cache-memcache-pool-{}-empty", std::process::id());
        let empty = std::env::temp_dir().join(name);
        std::fs::write(&empty, "").unwrap();
        let tls = builder(["a"]).tls_enabled(true);
        let client = |certificate, key| {
            let tls = tls.clone().tls_verify(false);
            tls.tls_certfile(certificate).tls_keyfile(key)
        };
        for (attempt, field, path, lacks) in [
            (
                tls.clone().tls_cafile(&empty),
                "tls_cafile",
                &empty,
                "certificate",
            ),
            (
                client(&empty, &empty),
                "tls_certfile",
                &empty,
                "certificate",
            ),
            (
                client(&certificate, &certificate),
                "tls_keyfile",
                &certificate,
                "private key",
            ),
        ] {
            let error = attempt.build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            let message = error.message();
            assert!(message.contains(field), "{error}");
            assert!(message.contains(&path.display().to_string()), "{error}");
            assert!(message.contains(&format!("no {lacks} in PEM")), "{error}");
        }
        std::fs::remove_file(empty).unwrap();
    }
}

/// A server like memcached 1.6.44, which closes a connection that sends a short line instead of the
/// credentials.
fn strict_server() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let mut is_known = false;
            while let Some(Ok(line)) = lines.next() {
                if line.len() + 1 < 6 && !is_known {
                    break;
                }
                let answer = match line.as_str() {
                    "me correct-horse" => {
                        is_known = true;
                        "STORED"
                    }
                    line if line.starts_with("set auth ") => continue,
                    _ if !is_known => "CLIENT_ERROR unauthenticated",
                    "version" => "VERSION 1.6.44",
                    "mn" => "MN",
                    _ => "EN",
                };
                write!(stream, "{answer}\r\n").unwrap();
            }
        }
    });
    address
}

#[tokio::test]
async fn the_greeting_is_long_enough_for_strict_servers() {
    let url = strict_server();
    let cache = builder([&url]).username("me").password(PASSWORD);
    let cache = cache.build().unwrap();
    assert_eq!(cache.get("k").await.unwrap(), None);
    let url = strict_server();
    let (_, pinged) = builder([&url]).build().unwrap().ping().await.remove(0);
    let error = pinged.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}
