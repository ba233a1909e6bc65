//! Encrypted connections.

use std::time::Duration;

use cache_conformance::servers::Etcd;
use cache_core::{CacheBackend, ErrorKind};

use crate::{alone, backend, payload, value};

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_is_trusted_is_accepted() {
    let _alone = alone();
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
async fn what_cannot_be_trusted_is_refused() {
    let _alone = alone();
    let etcd = Etcd::builder().tls().start().unwrap();
    let another = Etcd::builder().tls().start().unwrap();
    let call_timeout = Duration::from_secs(3);
    let of = |etcd: &Etcd| backend([etcd.endpoint()]).call_timeout(call_timeout);
    let attempts = [
        // Nobody signed it.
        of(&etcd).tls_enabled(true),
        // Somebody else's.
        of(&etcd)
            .tls_enabled(true)
            .tls_cafile(another.certificate()),
        // No TLS spoken to a server that does.
        of(&etcd),
    ];
    for attempt in attempts {
        let error = attempt.build().unwrap().get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(&etcd.endpoint()), "{error}");
    }
}

#[test]
fn files_that_are_missing_are_named() {
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
    assert!(error.message().contains("tls_keyfile"), "{error}");
}
