//! [`Task`]: a task that is aborted with its waiter; [`all`]: concurrency without tasks.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// How many parts of a request are in flight when they are sent one by one.
pub(crate) const ONE_BY_ONE: usize = 16;

/// A task that is aborted when this is dropped.
pub(crate) struct Task<T>(JoinHandle<T>);

impl<T: Send + 'static> Task<T> {
    pub(crate) fn spawn(runtime: &Handle, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(runtime.spawn(work))
    }
}

impl<T> Future for Task<T> {
    /// `None`: the runtime shut down.
    type Output = Option<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        Pin::new(&mut self.0).poll(context).map(Result::ok)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The results of `work` on each of `items`, in order, `at_a_time` of them concurrently. They run
/// within the calling task.
pub(crate) async fn all<I, R, F>(
    items: Vec<I>,
    at_a_time: usize,
    mut work: impl FnMut(I) -> F,
) -> Vec<R>
where
    F: Future<Output = R>,
{
    let mut items = items.into_iter();
    let mut results: Vec<Option<R>> = Vec::new();
    let mut running: Vec<(usize, Pin<Box<F>>)> = Vec::new();
    std::future::poll_fn(move |context| {
        loop {
            while running.len() < at_a_time {
                let Some(item) = items.next() else { break };
                running.push((results.len(), Box::pin(work(item))));
                results.push(None);
            }
            let before = running.len();
            running.retain_mut(|(position, future)| match future.as_mut().poll(context) {
                Poll::Pending => true,
                Poll::Ready(result) => {
                    if let Some(slot) = results.get_mut(*position) {
                        *slot = Some(result);
                    }
                    false
                }
            });
            if running.is_empty() && items.len() == 0 {
                return Poll::Ready(results.drain(..).flatten().collect());
            }
            // Those that have ended make room for others, which have to be polled once.
            if running.len() == before || items.len() == 0 {
                return Poll::Pending;
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn results_are_in_order_and_concurrency_is_bounded() {
        use std::cell::Cell;

        let running = Cell::new(0);
        let most = Cell::new(0);
        let results = all((0..50_u64).collect(), 8, |i| {
            let (running, most) = (&running, &most);
            async move {
                running.set(running.get() + 1);
                most.set(most.get().max(running.get()));
                tokio::time::sleep(std::time::Duration::from_millis(i % 7)).await;
                running.set(running.get() - 1);
                i
            }
        })
        .await;
        assert_eq!(results, (0..50).collect::<Vec<_>>());
        assert_eq!(most.get(), 8);
        assert_eq!(all(vec![0; 0], 8, async |i| i).await, [0; 0]);
    }
}
