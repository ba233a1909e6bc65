//! TLS connections.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use cache_core::{CacheBackend, ErrorKind};
use test_servers::{Etcd, Memcached};

use crate::{backend, heavy, payload, value};

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_certificate_is_accepted() {
    let _place = heavy();
    let etcd = Etcd::builder().tls().start().unwrap();
    let backend = backend([etcd.endpoint()])
        .tls_enabled(true)
        .tls_cafile(etcd.certificate())
        .build()
        .unwrap();
    backend.set("k", value("v")).await.unwrap();
    assert_eq!(
        payload(backend.get("k").await.unwrap()),
        Some(b"v".to_vec())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_certificate_is_refused() {
    let _place = heavy();
    let etcd = Etcd::builder().tls().start().unwrap();
    let another = Etcd::builder().tls().start().unwrap();
    let of = |etcd: &Etcd| backend([etcd.endpoint()]).tls_enabled(true);
    let attempts = [
        // It is not signed by a trusted authority.
        of(&etcd),
        // It is signed by another authority.
        of(&etcd).tls_cafile(another.certificate()),
    ];
    for attempt in attempts {
        let error = attempt.build().unwrap().get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(&etcd.endpoint()), "{error}");
        assert!(error.message().contains("`tls_cafile`"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tls_mismatch_is_reported() {
    let _place = heavy();
    let with = Etcd::builder().tls().start().unwrap();
    let without = Etcd::start().unwrap();
    let no_etcd = Memcached::start().unwrap();
    let secured = |endpoint| {
        let secured = backend([endpoint]).tls_enabled(true);
        secured.tls_cafile(with.certificate())
    };
    for (attempt, is_set) in [
        (backend([with.endpoint()]), "`tls_enabled` is not set"),
        (
            backend([with.endpoint()])
                .username("app")
                .password("secret"),
            "`tls_enabled` is not set",
        ),
        (secured(without.endpoint()), "`tls_enabled` is set"),
        (secured(no_etcd.url()), "`tls_enabled` is set"),
    ] {
        let backend = attempt.build().unwrap();
        let began = Instant::now();
        let error = backend.set("k", value("v")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(is_set), "{error}");
        // Long before the 30 seconds that a call may take.
        assert!(began.elapsed() < Duration::from_secs(15), "{error}");
    }
}

#[test]
fn missing_files_are_named() {
    let missing = backend(["a:1".to_owned()]).tls_enabled(true);
    let error = missing
        .clone()
        .tls_cafile("/no/such/file")
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.message().contains("tls_cafile"), "{error}");
    assert!(error.message().contains("/no/such/file"), "{error}");
    let error = missing.tls_certfile("/no/such/file").build().unwrap_err();
    assert!(error.message().contains("tls_certfile"), "{error}");
}

#[tokio::test]
async fn a_key_for_another_certificate_is_a_configuration_error() {
    let _place = heavy();
    let etcd = Etcd::builder().tls().start().unwrap();
    let output = Command::new("openssl").arg("genrsa").output();
    let output = output.expect("openssl is installed");
    assert!(output.status.success(), "{output:?}");
    let key = file("another-key", std::str::from_utf8(&output.stdout).unwrap());
    let junk = file(
        "junk",
        "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n",
    );
    for key in [key, junk] {
        let backend = backend([etcd.endpoint()])
            .tls_enabled(true)
            .tls_cafile(etcd.certificate())
            .tls_certfile(etcd.certificate())
            .tls_keyfile(&key)
            .build()
            .unwrap();
        std::fs::remove_file(key).unwrap();
        let error = backend.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.message().contains("`tls_keyfile`"), "{error}");
    }
}

/// A temporary file with this content.
fn file(name: &str, content: &str) -> PathBuf {
    let name = format!("cache-etcd3-{}-{name}", std::process::id());
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

#[test]
fn files_with_the_wrong_content_are_named() {
    let certificate = file(
        "certificate",
        "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
    );
    let key = file(
        "key",
        "-----BEGIN EC PRIVATE KEY-----\nAA==\n-----END EC PRIVATE KEY-----\n",
    );
    let empty = file("empty", "");
    let half = file("half", "-----BEGIN CERTIFICATE-----\nAA==\n");
    let damaged = file(
        "damaged",
        "-----BEGIN CERTIFICATE-----\n?\n-----END CERTIFICATE-----\n",
    );
    let tls = backend(["a:1".to_owned()]).tls_enabled(true);
    let client = |certificate, key| tls.clone().tls_certfile(certificate).tls_keyfile(key);
    let authorities = |file| tls.clone().tls_cafile(file);
    for (attempt, field, path, lacks) in [
        (authorities(&empty), "tls_cafile", &empty, "certificate"),
        (authorities(&key), "tls_cafile", &key, "certificate"),
        (authorities(&half), "tls_cafile", &half, "certificate"),
        (authorities(&damaged), "tls_cafile", &damaged, "certificate"),
        (client(&key, &key), "tls_certfile", &key, "certificate"),
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
        assert!(message.contains(&format!("`{field}`")), "{error}");
        assert!(message.contains(&path.display().to_string()), "{error}");
        assert!(message.contains(&format!("no {lacks} in PEM")), "{error}");
    }
    client(&certificate, &key).build().unwrap();
    for path in [certificate, key, empty, half, damaged] {
        std::fs::remove_file(path).unwrap();
    }
}
