//! [`Detached`]: requests that are awaited to their end even if their callers drop them.
//!
//! Members of etcd 3.5.0 to 3.5.6 panic if a transaction that only reads is cancelled while it
//! executes (etcd issues 14110 and 14891). No other request needs this: etcd ignores the
//! cancellation of a write, and answers that of a single read with an error.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;

/// While the detached requests of a connection take this much memory, no further ones are sent: a
/// server that does not keep up would have to execute them for nobody.
const MAX_BYTES: usize = 1024 * 1024;

/// What a detached request takes besides its content.
const TASK_BYTES: usize = 8 * 1024;

/// How long a detached request is awaited. By default etcd responds within 7 s, or the connection
/// is found to be dead within 9 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// The detached requests of one connection.
pub(crate) struct Detached {
    runtime: Handle,
    pending: Arc<Pending>,
}

struct Pending {
    bytes: AtomicUsize,
    /// Notified when a detached request has ended.
    ended: Notify,
    /// Counts the responses of the connection.
    answers: Arc<AtomicU64>,
}

impl Detached {
    pub(crate) fn new(runtime: Handle, answers: Arc<AtomicU64>) -> Self {
        let pending = Pending {
            bytes: AtomicUsize::new(0),
            ended: Notify::new(),
            answers,
        };
        Self {
            runtime,
            pending: Arc::new(pending),
        }
    }

    /// Sends a request of `bytes` once there is room. If this future is then dropped before the
    /// response, a task awaits it.
    pub(crate) async fn run<F, T, E>(&self, bytes: usize, request: F) -> Result<T, E>
    where
        F: Future<Output = Result<T, E>> + Send + 'static,
        Result<T, E>: Send,
    {
        let pending = &self.pending;
        loop {
            let ended = pending.ended.notified();
            if pending.bytes.load(Ordering::Acquire) < MAX_BYTES {
                break;
            }
            ended.await;
        }
        let mut request = DetachOnDrop {
            request: Some(Box::pin(request)),
            bytes: bytes + TASK_BYTES,
            detached: self,
        };
        std::future::poll_fn(|context| request.poll(context)).await
    }
}

/// A request that was sent.
struct DetachOnDrop<'a, F, T, E>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    Result<T, E>: Send,
{
    /// `None` after the response.
    request: Option<Pin<Box<F>>>,
    bytes: usize,
    detached: &'a Detached,
}

impl<F, T, E> DetachOnDrop<'_, F, T, E>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    Result<T, E>: Send,
{
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<T, E>> {
        let Some(request) = &mut self.request else {
            return Poll::Pending;
        };
        let polled = request.as_mut().poll(context);
        if polled.is_ready() {
            self.request = None;
        }
        polled
    }
}

impl<F, T, E> Drop for DetachOnDrop<'_, F, T, E>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    Result<T, E>: Send,
{
    fn drop(&mut self) {
        let Some(request) = self.request.take() else {
            return;
        };
        let taken = Taken::new(&self.detached.pending, self.bytes);
        self.detached.runtime.spawn(async move {
            if let Ok(Ok(_)) = timeout(PATIENCE, request).await {
                taken.pending.answers.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// The memory of a detached request.
struct Taken {
    pending: Arc<Pending>,
    bytes: usize,
}

impl Taken {
    fn new(pending: &Arc<Pending>, bytes: usize) -> Self {
        pending.bytes.fetch_add(bytes, Ordering::AcqRel);
        Self {
            pending: Arc::clone(pending),
            bytes,
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.pending.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.pending.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::sync::oneshot;
    use tokio::time::sleep;

    use super::*;

    type Outcome = Result<(), ()>;

    fn detached() -> Detached {
        Detached::new(Handle::current(), Arc::default())
    }

    fn tasks() -> usize {
        Handle::current().metrics().num_alive_tasks()
    }

    /// Polls it once, then drops it.
    async fn give_up(request: impl Future<Output = Outcome>) {
        let request = std::pin::pin!(request);
        tokio::select! {
            biased;
            _ = request => panic!("it was answered"),
            () = std::future::ready(()) => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_request_is_awaited_if_it_was_sent() {
        let detached = detached();
        for is_sent in [false, true] {
            let (ended, has_ended) = oneshot::channel();
            let request = detached.run(10, async move {
                sleep(Duration::from_secs(1)).await;
                let _ = ended.send(());
                Outcome::Ok(())
            });
            if is_sent {
                give_up(request).await;
            } else {
                drop(request);
            }
            assert_eq!(has_ended.await.is_ok(), is_sent);
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(detached.pending.bytes.load(Ordering::Relaxed), 0);
        assert_eq!(detached.pending.answers.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_response_reaches_the_caller_and_leaves_no_task() {
        let detached = detached();
        let before = tasks();
        let answer = detached.run(10, async { Result::<_, ()>::Ok(1) }).await;
        assert_eq!(answer, Ok(1));
        assert_eq!(tasks(), before);
    }

    #[tokio::test(start_paused = true)]
    async fn dropped_requests_are_bounded_in_memory_and_time() {
        let detached = detached();
        let before = tasks();
        for _ in 0..10_000 {
            give_up(detached.run(100, pending())).await;
        }
        let most = MAX_BYTES / (100 + TASK_BYTES) + 1;
        assert_eq!(tasks() - before, most);
        let began = tokio::time::Instant::now();
        assert_eq!(detached.run(100, async { Outcome::Ok(()) }).await, Ok(()));
        assert_eq!(began.elapsed().as_secs(), PATIENCE.as_secs());
        sleep(Duration::from_secs(1)).await;
        assert_eq!(tasks(), before);
    }
}
