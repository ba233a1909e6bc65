//! Endpoints that are not what they should be: members of another cluster, or not etcd.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache_core::{CacheBackend, ErrorKind, ServerEvent};
use cache_etcd3::Etcd3Backend;
use test_servers::Etcd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::{all, backend, eventually, heavy, payload, value};

/// The position and the failure of each endpoint that is out of use.
fn out_of_use(backend: &Etcd3Backend) -> Vec<(usize, String)> {
    let endpoints = backend.stats().endpoints.into_iter().enumerate();
    let out = endpoints.filter(|(_, endpoint)| endpoint.down_for.is_some());
    out.map(|(at, endpoint)| (at, endpoint.failure.unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_of_two_clusters_is_used() {
    let _place = heavy();
    let mut clusters = [Etcd::start().unwrap(), Etcd::start().unwrap()];
    let endpoints = clusters.each_ref().map(Etcd::endpoint);
    let events: Arc<Mutex<Vec<ServerEvent>>> = Arc::default();
    let told = Arc::clone(&events);
    let backend = backend(endpoints.clone())
        .on_server_event(move |event| told.lock().unwrap().push(event.clone()))
        .build()
        .unwrap();
    let keys: Vec<String> = (0..20).map(|i| format!("k{i}")).collect();
    for key in &keys {
        backend.set(key, value(key.as_bytes())).await.unwrap();
    }
    for key in &keys {
        let found = payload(backend.get(key).await.unwrap());
        assert_eq!(found, Some(key.clone().into_bytes()));
    }
    let names: Vec<&str> = keys.iter().map(String::as_str).collect();
    assert!(
        all(backend.get_multi(&names).await)
            .iter()
            .all(Option::is_some)
    );

    let out = out_of_use(&backend);
    let [(foreign, failure)] = out.as_slice() else {
        panic!("{out:?}");
    };
    let used = 1 - foreign;
    // Both clusters, and the other endpoint.
    assert!(failure.contains(&endpoints[used]), "{failure}");
    assert!(failure.contains("`endpoints` must be"), "{failure}");
    {
        let events = events.lock().unwrap();
        let [ServerEvent::Down { .. }] = events.as_slice() else {
            panic!("{events:?}");
        };
    }

    // The other one is not used even if it is the only one left.
    clusters[used].kill().unwrap();
    let error = backend.get("k1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    for endpoint in &endpoints {
        assert!(error.message().contains(endpoint), "{error}");
    }
    backend.set("k1", value("lost")).await.unwrap_err();
    clusters[used].restart().unwrap();
    eventually(
        Duration::from_secs(60),
        "the value",
        async || matches!(backend.get("k1").await, Ok(Some(found)) if found.payload() == b"k1"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_rebuilt_under_the_same_addresses_is_used() {
    let _place = heavy();
    let (old, new) = (Etcd::start().unwrap(), Etcd::start().unwrap());
    let addresses = [
        Address::of(&old).await,
        Address::of(&old).await,
        Address::of(&old).await,
    ];
    let endpoints = addresses.each_ref().map(|address| address.endpoint.clone());
    let backend = backend(endpoints).build().unwrap();
    for i in 0..6 {
        backend.set(&format!("k{i}"), value("old")).await.unwrap();
    }
    assert_eq!(out_of_use(&backend), []);

    // A single member that moves is not followed.
    addresses[0].becomes(&new);
    eventually(Duration::from_secs(60), "the first is out", async || {
        for i in 0..6 {
            let found = backend.get(&format!("k{i}")).await.unwrap();
            assert_eq!(payload(found), Some(b"old".to_vec()), "{i}");
        }
        matches!(out_of_use(&backend).as_slice(), [(0, _)])
    })
    .await;

    // Connections end while the addresses are reused.
    addresses[1].becomes(&new);
    addresses[2].becomes(&new);
    for i in 0..6 {
        assert!(backend.get(&format!("k{i}")).await.unwrap().is_none());
        backend.set(&format!("k{i}"), value("new")).await.unwrap();
    }
    eventually(Duration::from_secs(60), "all in use", async || {
        let found = backend.get("k1").await.unwrap();
        assert_eq!(payload(found), Some(b"new".to_vec()));
        out_of_use(&backend).is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_http_server_is_passed_over() {
    let _place = heavy();
    let etcd = Etcd::start().unwrap();
    for answer in [Answer::Unimplemented, Answer::NotFound, Answer::Page] {
        let other = other_server(answer).await;
        let endpoints = [other.clone(), etcd.endpoint()];
        let backend = backend(endpoints).build().unwrap();
        for i in 0..10 {
            let key = format!("k{i}");
            backend.set(&key, value("v")).await.unwrap();
            assert!(backend.get(&key).await.unwrap().is_some());
            let names = [key.as_str(), "k0"];
            assert!(
                all(backend.get_multi(&names).await)
                    .iter()
                    .all(Option::is_some)
            );
            backend.delete(&key).await.unwrap();
            backend.set("k0", value("v")).await.unwrap();
        }
        let out = out_of_use(&backend);
        let [(0, failure)] = out.as_slice() else {
            panic!("{answer:?}: {out:?}");
        };
        assert!(failure.contains("API of etcd 3"), "{answer:?}: {failure}");
        // Once, until its next probe.
        assert_eq!(backend.stats().failovers, 1, "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_says_that_no_endpoint_is_etcd() {
    for answer in [Answer::Unimplemented, Answer::NotFound, Answer::Page] {
        let others = [other_server(answer).await, other_server(answer).await];
        let backend = backend(others.clone()).build().unwrap();
        let error = backend.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{answer:?}: {error}");
        let error = backend.set("k", value("v")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{answer:?}: {error}");
        for other in others {
            assert!(error.message().contains(&other), "{error}");
        }
    }
}

/// An address whose server can be exchanged.
struct Address {
    endpoint: String,
    server: watch::Sender<String>,
}

impl Address {
    async fn of(etcd: &Etcd) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let (server, current) = watch::channel(etcd.endpoint());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut current = current.clone();
                tokio::spawn(async move {
                    let server = current.borrow_and_update().clone();
                    let mut far = TcpStream::connect(server).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = current.changed() => {}
                    }
                });
            }
        });
        Self { endpoint, server }
    }

    fn becomes(&self, etcd: &Etcd) {
        self.server.send(etcd.endpoint()).unwrap();
    }
}

/// What a server that is not etcd responds to each request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// gRPC: the method is not implemented.
    Unimplemented,
    /// A web server: status 404.
    NotFound,
    /// A web server: status 200 and a page.
    Page,
}

/// Starts an HTTP/2 server and returns its address.
async fn other_server(answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer));
        }
    });
    address
}

/// The frames of HTTP/2 that a client sends to a server that has nothing to tell.
async fn serve(mut stream: TcpStream, answer: Answer) -> Option<()> {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const PING: u8 = 6;
    const END_OF_STREAM: u8 = 1;
    const ACKNOWLEDGED: u8 = 1;
    const END_OF_HEADERS: u8 = 4;
    const PREFACE: usize = 24;
    // Status codes by their position in HPACK's static table.
    const OK: u8 = 0x88;
    const NOT_FOUND: u8 = 0x8d;

    let mut preface = [0; PREFACE];
    stream.read_exact(&mut preface).await.ok()?;
    send(&mut stream, SETTINGS, 0, [0; 4], b"").await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.ok()?;
        match kind {
            SETTINGS | PING if flags & ACKNOWLEDGED == 0 => {
                let echo = if kind == PING { payload } else { Vec::new() };
                send(&mut stream, kind, ACKNOWLEDGED, [0; 4], &echo).await?;
            }
            DATA | HEADERS if flags & END_OF_STREAM != 0 => {
                let end = END_OF_HEADERS | END_OF_STREAM;
                match answer {
                    Answer::Unimplemented => {
                        let status = [&[OK, 0, 11][..], b"grpc-status", &[2], b"12"].concat();
                        send(&mut stream, HEADERS, end, id, &status).await?;
                    }
                    Answer::NotFound => send(&mut stream, HEADERS, end, id, &[NOT_FOUND]).await?,
                    Answer::Page => {
                        send(&mut stream, HEADERS, END_OF_HEADERS, id, &[OK]).await?;
                        send(&mut stream, DATA, END_OF_STREAM, id, b"<html></html>").await?;
                    }
                }
            }
            _ => {}
        }
    }
}

async fn send(
    stream: &mut TcpStream,
    kind: u8,
    flags: u8,
    id: [u8; 4],
    payload: &[u8],
) -> Option<()> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&[a, b, c, kind, flags][..], &id].concat();
    stream.write_all(&[&head, payload].concat()).await.ok()
}
