//! Concurrency for rules.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::context::Outcome;
use crate::failure::{Failure, fail};

/// Runs each future in its own task. Returns their outputs, or the first failure, when all have
/// ended.
pub(super) async fn at_once<T, F>(tasks: impl IntoIterator<Item = F>) -> Outcome<Vec<T>>
where
    F: Future<Output = Outcome<T>> + Send + 'static,
    T: Send + 'static,
{
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut outputs = Vec::new();
    for task in tasks {
        outputs.push(match task.await {
            Ok(ended) => ended,
            Err(error) => Err(Failure::new(format!(
                "a task of the rule ended unexpectedly: {error}"
            ))),
        });
    }
    outputs.into_iter().collect()
}

/// [`at_once`] for futures without an output.
pub(super) async fn together<F>(tasks: impl IntoIterator<Item = F>) -> Outcome
where
    F: Future<Output = Outcome> + Send + 'static,
{
    at_once(tasks).await.map(drop)
}

/// Tasks that run until each has done its rounds, so that none ends before another has begun.
#[derive(Clone, Default)]
pub(super) struct Race(Arc<AtomicUsize>);

/// One of the tasks of a [`Race`].
pub(super) struct Racer {
    race: Race,
    rounds_left: usize,
}

impl Race {
    /// Adds a task that has to do this many rounds. All are added before the first begins.
    pub(super) fn enter(&self, rounds: usize) -> Racer {
        self.0.fetch_add(1, Ordering::SeqCst);
        Racer {
            race: self.clone(),
            rounds_left: rounds.max(1),
        }
    }
}

impl Racer {
    /// Yields to other tasks. Returns whether there is another round.
    pub(super) async fn goes_on(&mut self) -> bool {
        tokio::task::yield_now().await;
        if self.rounds_left > 0 {
            self.rounds_left -= 1;
            if self.rounds_left == 0 {
                self.race.0.fetch_sub(1, Ordering::SeqCst);
            }
            return true;
        }
        self.race.0.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Racer {
    fn drop(&mut self) {
        // The task failed, so the others need not wait for it.
        if self.rounds_left > 0 {
            self.race.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Polls both in turn, on one thread, so that they overlap unless the first poll completes one. The
/// one that begins first continues second.
pub(super) async fn both<T>(
    one: impl Future<Output = T>,
    other: impl Future<Output = T>,
) -> (T, T) {
    let (mut one, mut other) = (Box::pin(one), Box::pin(other));
    let (mut first, mut second) = (None, None);
    let mut has_begun = false;
    std::future::poll_fn(move |context| {
        if !has_begun && let Poll::Ready(result) = one.as_mut().poll(context) {
            first = Some(result);
        }
        if second.is_none()
            && let Poll::Ready(result) = other.as_mut().poll(context)
        {
            second = Some(result);
        }
        if has_begun
            && first.is_none()
            && let Poll::Ready(result) = one.as_mut().poll(context)
        {
            first = Some(result);
        }
        has_begun = true;
        match (first.take(), second.take()) {
            (Some(first), Some(second)) => Poll::Ready((first, second)),
            results => {
                (first, second) = results;
                Poll::Pending
            }
        }
    })
    .await
}

/// Polls `future`, and drops it if it is still pending after `polls` polls.
pub(super) async fn drop_at_poll<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    if polls == 0 {
        drop(future);
        return None;
    }
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |context| match future.as_mut().poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending if left <= 1 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// The duration of the longest poll of the call, and of the whole call.
pub(super) async fn longest_poll<T>(call: impl Future<Output = T>) -> (Duration, Duration) {
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    let mut call = Box::pin(call);
    std::future::poll_fn(|context| {
        let polled = Instant::now();
        let poll = call.as_mut().poll(context).map(drop);
        longest = longest.max(polled.elapsed());
        poll
    })
    .await;
    (longest, began.elapsed())
}

/// Counts the polls of `future`.
pub(super) fn counted<T>(
    future: impl Future<Output = T> + Send,
) -> (impl Future<Output = T> + Send, Arc<AtomicUsize>) {
    let polls = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&polls);
    let mut future = Box::pin(future);
    let counting = std::future::poll_fn(move |context| {
        count.fetch_add(1, Ordering::Relaxed);
        future.as_mut().poll(context)
    });
    (counting, polls)
}

/// Polls all futures in turn, in the task of the caller, until each has ended.
pub(super) async fn interleaved<T>(futures: impl IntoIterator<Item = T>) -> Outcome
where
    T: Future<Output = Outcome>,
{
    let mut running: Vec<Pin<Box<T>>> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(move |context| {
        let mut failed = None;
        running.retain_mut(|future| match future.as_mut().poll(context) {
            Poll::Pending => true,
            Poll::Ready(ended) => {
                if let (Err(failure), None) = (ended, &failed) {
                    failed = Some(failure);
                }
                false
            }
        });
        match failed {
            Some(failure) => Poll::Ready(Err(failure)),
            None if running.is_empty() => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    })
    .await
}

/// Runs blocking work on a thread of its own.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(ended) => ended,
        Err(error) => fail!("it panicked: {error}"),
    }
}
