//! Who writes a request: the caller while the connection is idle, and the connection's task
//! otherwise. What goes wrong while a caller does it is not the caller's fault.

use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use cache_core::{CacheBackend as _, ErrorKind};
use cache_memcache_pool::MemcachePoolBackend;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use crate::network::Socket;
use crate::server::Farm;
use crate::setup::{TIMEOUT, builder, farm};

/// Runs at each write, and says whether the socket has room.
type Hook = Arc<Mutex<Box<dyn FnMut() -> bool + Send>>>;

/// A socket that tells of its writes.
struct Hooked(Socket, Hook);

impl AsyncRead for Hooked {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Hooked {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !(self.1.lock().unwrap())() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A backend with one connection, on which one call was made.
async fn used(farm: &Farm, hook: &Hook) -> MemcachePoolBackend {
    let (net, hook) = (farm.clone(), Arc::clone(hook));
    let cache = builder(farm).pool_maxsize(1).connect_with(move |address| {
        let (net, address, hook) = (net.clone(), address.to_owned(), Arc::clone(&hook));
        async move { Ok(Hooked(net.connect(address).await?, hook)) }
    });
    let cache = cache.build().unwrap();
    cache.get("k").await.unwrap();
    cache
}

fn hook() -> Hook {
    Arc::new(Mutex::new(Box::new(|| true)))
}

fn set(hook: &Hook, run: impl FnMut() -> bool + Send + 'static) {
    *hook.lock().unwrap() = Box::new(run);
}

/// The tasks that write from now on; a test itself has none.
fn writers(hook: &Hook) -> Arc<Mutex<Vec<Option<Id>>>> {
    let writers = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&writers);
    set(hook, move || {
        seen.lock().unwrap().push(tokio::task::try_id());
        true
    });
    writers
}

#[tokio::test(start_paused = true)]
async fn a_single_caller_writes_and_many_leave_it_to_the_task() {
    let (farm, hook) = (farm(1, &[], |_| {}), hook());
    let cache = used(&farm, &hook).await;
    let writers = writers(&hook);
    for _ in 0..10 {
        cache.get("k").await.unwrap();
        cache.get_multi(&["a", "b"]).await.remove(0).unwrap();
    }
    assert_eq!(std::mem::take(&mut *writers.lock().unwrap()), [None; 20]);

    let mut tasks = JoinSet::new();
    for _ in 0..100 {
        let cache = cache.clone();
        tasks.spawn(async move {
            for _ in 0..10 {
                cache.get("k").await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let writers = writers.lock().unwrap();
    // The first caller found an idle connection.
    let by_task = writers.iter().filter(|&&writer| writer == writers[1]);
    assert_eq!(by_task.count(), writers.len() - 1);
    assert!(writers.len() < 100, "{} writes", writers.len());
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_caller_writes_ends_the_connection_and_not_the_caller() {
    let (farm, hook) = (farm(1, &[], |_| {}), hook());
    let cache = used(&farm, &hook).await;
    set(&hook, || panic!("a bug in the transport"));
    let begun = Instant::now();
    for _ in 0..5 {
        let error = cache.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("`connect_with`"), "{error}");
    }
    // The pauses between attempts, but no wait for a timer.
    assert!(begun.elapsed() < TIMEOUT, "{:?}", begun.elapsed());
    let server = &cache.stats().servers[0];
    assert_eq!(server.downs, 0, "it is not the server's fault");
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_request_that_found_no_room_leaves_no_suspicion() {
    let (farm, hook) = (farm(1, &[], |_| {}), hook());
    let cache = used(&farm, &hook).await;
    set(&hook, || false);
    let mut call = Box::pin(cache.get("k"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_pending());
    drop(call);
    set(&hook, || true);
    tokio::time::sleep(TIMEOUT * 4).await;
    let server = &cache.stats().servers[0];
    assert_eq!((server.connects, server.timeouts, server.downs), (1, 0, 0));
    assert_eq!(server.connections, 1, "{server:?}");
    cache.get("k").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_has_used_up_its_budget_leaves_the_write_to_the_task() {
    let (farm, hook) = (farm(1, &[], |_| {}), hook());
    let cache = used(&farm, &hook).await;
    let writers = writers(&hook);
    let mut call = Box::pin(cache.get("k"));
    std::future::poll_fn(|cx| {
        while tokio::task::coop::has_budget_remaining() {
            let _ = std::pin::pin!(tokio::task::coop::consume_budget()).poll(cx);
        }
        call.as_mut().poll(cx)
    })
    .await
    .unwrap();
    assert!(writers.lock().unwrap()[0].is_some());
}

#[test]
fn a_runtime_that_is_shut_down_while_a_caller_writes_ends_the_call() {
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let handle = runtime.handle().clone();
    let hook = hook();
    let cache = runtime.block_on(async {
        let farm = farm(1, &[], |_| {});
        used(&farm, &hook).await
    });
    let mut runtime: Option<Runtime> = Some(runtime);
    set(&hook, move || {
        if let Some(runtime) = runtime.take() {
            runtime.shutdown_background();
        }
        true
    });
    let _within = handle.enter();
    let mut call = pin!(cache.get("k"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_pending());
    let Poll::Ready(Err(error)) = call.poll(&mut cx) else {
        panic!("it waits for a task that is gone");
    };
    assert!(error.message().contains("shut down"), "{error}");
}
