//! Users, passwords, permissions, and tokens that expire.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use cache_core::{CacheBackend, Error, ErrorKind, Result};
use cache_etcd3::Etcd3Builder;
use etcd_client::{Client, ConnectOptions, Permission, PermissionType};
use test_servers::Etcd;

use crate::{backend, heavy, payload, requests, value};

const PASSWORD: &str = "correct horse";

/// Enables authentication, with a user `app` that has all permissions under `app/`.
async fn turn_on(etcd: &Etcd) {
    let mut client = Client::connect([etcd.endpoint()], None).await.unwrap();
    client.user_add("root", PASSWORD, None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("app", PASSWORD, None).await.unwrap();
    client.role_add("app").await.unwrap();
    let permission = Permission::new(PermissionType::Readwrite, "app/").with_prefix();
    client
        .role_grant_permission("app", permission)
        .await
        .unwrap();
    client.user_grant_role("app", "app").await.unwrap();
    client.auth_enable().await.unwrap();
}

async fn root(etcd: &Etcd) -> Client {
    let root = ConnectOptions::new().with_user("root", PASSWORD);
    let root = Client::connect([etcd.endpoint()], Some(root)).await;
    root.unwrap()
}

/// Adds a user. The token of the client that does so may expire meanwhile.
async fn add_user(etcd: &Etcd, name: &str) {
    loop {
        match root(etcd).await.user_add(name, PASSWORD, None).await {
            Err(error) if error.to_string().contains("invalid auth token") => {}
            added => {
                added.unwrap();
                return;
            }
        }
    }
}

fn app(etcd: &Etcd) -> Etcd3Builder {
    backend([etcd.endpoint()])
        .prefix("app/")
        .username("app")
        .password(PASSWORD)
}

fn assert_shows_no_password(error: &Error) {
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(PASSWORD), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expired_is_renewed() {
    let _place = heavy();
    let etcd = Etcd::builder().arg("--auth-token-ttl=1").start().unwrap();
    turn_on(&etcd).await;
    let backend = app(&etcd).build().unwrap();
    let began = Instant::now();
    backend.set("k", value("1")).await.unwrap();
    for _ in 0..2 {
        // The server removes expired tokens once a second.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let mut calls = tokio::task::JoinSet::new();
        for i in 0..32 {
            let backend = backend.clone();
            calls.spawn(async move {
                let key = format!("k{i}");
                backend.set(&key, value("2")).await?;
                let found = backend.get_multi(&["k", &key]).await;
                found.into_iter().collect::<Result<Vec<_>>>()
            });
        }
        for found in calls.join_all().await {
            assert!(found.unwrap().iter().all(Option::is_some));
        }
    }
    // Far fewer than calls. A token is used for a second at least, however slow the machine is.
    let connects = backend.stats().endpoints[0].connects;
    let seconds = began.elapsed().as_secs();
    assert!(
        (3..=seconds * 2).contains(&connects),
        "{connects} tokens in {seconds} s"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_token_is_renewed_when_it_expires_and_when_users_change() {
    let _place = heavy();
    let keys = std::env::temp_dir().join(format!("cache-etcd3-jwt-{}", std::process::id()));
    std::fs::create_dir_all(&keys).unwrap();
    let (private, public) = (keys.join("private.pem"), keys.join("public.pem"));
    let openssl = |args: &[&str], from: Option<&Path>, to: &Path| {
        let mut command = Command::new("openssl");
        command.args(args);
        if let Some(from) = from {
            command.arg("-in").arg(from);
        }
        let output = command
            .arg("-out")
            .arg(to)
            .output()
            .expect("openssl is installed");
        assert!(output.status.success(), "{output:?}");
    };
    openssl(&["genrsa", "-traditional"], None, &private);
    openssl(&["rsa", "-pubout"], Some(&private), &public);
    let etcd = Etcd::builder()
        .arg(format!(
            "--auth-token=jwt,pub-key={},priv-key={},sign-method=RS256,ttl=2s",
            public.display(),
            private.display()
        ))
        .start()
        .unwrap();
    std::fs::remove_dir_all(&keys).unwrap();
    turn_on(&etcd).await;
    let backend = app(&etcd).build().unwrap();
    backend.set("k", value("1")).await.unwrap();
    // The users change while the token is valid.
    add_user(&etcd, "another").await;
    backend.set("k", value("2")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    backend.set("k", value("3")).await.unwrap();
    assert_eq!(
        payload(backend.get("k").await.unwrap()),
        Some(b"3".to_vec())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_permissions_are_reported() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    turn_on(&etcd).await;
    let backend = app(&etcd).prefix("other/").build().unwrap();
    let errors = [
        backend.get("k").await.unwrap_err(),
        backend.set("k", value("1")).await.unwrap_err(),
        backend.delete("k").await.unwrap_err(),
        backend.get_multi(&["k", "k"]).await.remove(1).unwrap_err(),
        backend
            .set_multi(vec![("k", value("1")), ("l", value("2"))])
            .await
            .unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert_eq!(error.keys()[0], "k");
        assert!(!error.is_transient());
        assert_shows_no_password(&error);
    }
    // The server is not at fault and stays in use.
    assert_eq!(backend.stats().endpoints[0].down_for, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_permission_does_not_fail_others() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    turn_on(&etcd).await;
    let backend = app(&etcd).prefix("").build().unwrap();
    // Concurrent sets share transactions, which are refused as a whole.
    let mut calls = tokio::task::JoinSet::new();
    for i in 0..128 {
        let backend = backend.clone();
        let (is_permitted, key) = match i % 5 {
            0 => (false, format!("other/{i}")),
            _ => (true, format!("app/{i}")),
        };
        calls.spawn(async move {
            let outcome = backend.set(&key, value("v")).await;
            (is_permitted, key, outcome)
        });
    }
    for (is_permitted, key, outcome) in calls.join_all().await {
        if is_permitted {
            outcome.unwrap();
            assert!(backend.get(&key).await.unwrap().is_some(), "{key}");
        } else {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
            assert_eq!(error.keys(), [key]);
        }
    }
    assert!(backend.stats().transactions > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_and_a_missing_password_are_refused() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    turn_on(&etcd).await;
    let wrong = app(&etcd).password("wrong secret").build().unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let wrong = wrong.clone();
        calls.spawn(async move { wrong.get("k").await.unwrap_err() });
    }
    for error in calls.join_all().await {
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(error.message().contains("`password`"), "{error}");
        assert!(!format!("{error} {error:?}").contains("wrong secret"));
    }
    // A write that fails because of the password is not repeated without a comparison. A slow
    // machine may repeat a few of them anyway.
    let labels = "grpc_method=\"Authenticate\",grpc_service=\"etcdserverpb.Auth\"";
    let name = format!("grpc_server_started_total{{{labels},grpc_type=\"unary\"}}");
    let before = etcd.metric(&name).unwrap();
    for _ in 0..10 {
        wrong.set("k", value("1")).await.unwrap_err();
        wrong.delete("k").await.unwrap_err();
    }
    let tried = etcd.metric(&name).unwrap() - before;
    assert!(tried < 35.0, "{tried} attempts for 20 calls");
    let nobody = backend([etcd.endpoint()]).build().unwrap();
    let error = nobody.set("k", value("1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    assert!(error.message().contains("configure `username`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn authentication_may_be_enabled_while_a_service_runs() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    let backend = app(&etcd).build().unwrap();
    backend.set("k", value("1")).await.unwrap();
    turn_on(&etcd).await;
    assert_eq!(
        payload(backend.get("k").await.unwrap()),
        Some(b"1".to_vec())
    );
    backend.set("k", value("2")).await.unwrap();
    assert_eq!(
        payload(backend.get("k").await.unwrap()),
        Some(b"2".to_vec())
    );
}

/// Lets the user write keys below `log/`, but not read them.
async fn allow_writing_logs(etcd: &Etcd) {
    let permission = Permission::new(PermissionType::Write, "log/").with_prefix();
    let granted = root(etcd)
        .await
        .role_grant_permission("app", permission)
        .await;
    granted.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_the_user_may_write_but_not_read_are_written() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    turn_on(&etcd).await;
    allow_writing_logs(&etcd).await;
    for [first, second] in [["app/", "log/"], ["log/", "app/"]] {
        let backend = app(&etcd).prefix("").build().unwrap();
        for prefix in [first, second] {
            let keys = [format!("{prefix}a"), format!("{prefix}b")];
            let names = keys.each_ref().map(String::as_str);
            backend.set(names[0], value("1")).await.unwrap();
            let entries = names.map(|key| (key, value("2"))).into();
            backend.set_multi(entries).await.unwrap();
            backend.delete(names[0]).await.unwrap();
            backend.delete_multi(&names).await.unwrap();
        }
        let entries = vec![("app/c", value("1")), ("log/c", value("1"))];
        backend.set_multi(entries).await.unwrap();
        let error = backend.set("other/c", value("1")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        let error = backend.get("log/c").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_user_may_not_read_does_not_expose_others_to_late_writes() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    turn_on(&etcd).await;
    allow_writing_logs(&etcd).await;
    let backend = app(&etcd).prefix("").build().unwrap();
    // The first write shows that keys with this prefix cannot be compared.
    backend.set("log/a", value("1")).await.unwrap();
    let (txns, puts) = (requests(&etcd, "Txn"), requests(&etcd, "Put"));
    backend.set("app/a", value("1")).await.unwrap();
    assert_eq!(requests(&etcd, "Txn") - txns, 1, "it is compared");
    backend.set("log/a", value("2")).await.unwrap();
    backend.set("log/b", value("2")).await.unwrap();
    assert_eq!(requests(&etcd, "Put") - puts, 2, "one request each");
    let entries = vec![("app/a", value("3")), ("log/a", value("3"))];
    backend.set_multi(entries).await.unwrap();
    assert_eq!(requests(&etcd, "Txn") - txns, 2, "one transaction");
    assert_eq!(requests(&etcd, "Put") - puts, 2);
    // Both are compared with an older revision at first.
    let other = app(&etcd).prefix("").build().unwrap();
    other.set("app/a", value("4")).await.unwrap();
    backend.set("app/a", value("5")).await.unwrap();
    assert_eq!(requests(&etcd, "Txn") - txns, 6, "a retry of each");
}
