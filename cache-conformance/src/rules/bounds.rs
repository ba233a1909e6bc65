//! Every call ends, in any task, with any number of concurrent calls.

use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll, Waker};

use crate::context::{Cache, Context, Outcome};
use crate::failure::{Failure, ensure};
use crate::rule::{Rule, rules};

use super::source::BOUNDS;
use super::tasks::{blocking, counted, interleaved, together};

rules! {
    ($) bounds, __rules_of_bounds, BOUNDS, Rule::as_listed;

    calls_may_move_between_tasks:
        "A call that was first polled in one task can end in another: the last waker is woken.";
    many_calls_at_once_all_end: "Hundreds of concurrent calls all succeed.";
    calls_of_one_task_do_not_wait_for_each_other:
        "Calls that one task polls in turn all end: none holds a resource that another needs while it waits.";
    one_thread_is_enough: "The backend works in a runtime of a single thread.";
    many_calls_in_sequence_succeed:
        "More than a thousand calls on one instance all succeed.";
    waiting_is_not_polling: "A pending call wakes its task only when it can make progress.";
}

/// Sets, reads and deletes a key by single and by multi calls.
async fn round_trip(cache: &Cache, key: &str) -> Outcome {
    cache.put(key, key).await?;
    cache.hit(key, key).await?;
    cache
        .answers(&[key, key], &[Some(key.as_bytes()); 2])
        .await?;
    cache.delete(key).await?;
    cache.put_multi(&[(key, key.as_bytes())]).await?;
    cache.hit(key, key).await?;
    cache.delete_multi(&[key]).await?;
    cache.miss(key).await
}

async fn calls_may_move_between_tasks(context: Context) -> Outcome {
    let cache = context.open().await?;
    for key in context.keys(20) {
        let mut call = Box::pin({
            let (cache, key) = (cache.clone(), key.clone());
            async move { round_trip(&cache, &key).await }
        });
        // Polled once with a waker that does nothing.
        let polled = call
            .as_mut()
            .poll(&mut TaskContext::from_waker(Waker::noop()));
        match polled {
            Poll::Ready(ended) => ended?,
            Poll::Pending => together([call]).await?,
        }
    }
    Ok(())
}

async fn many_calls_at_once_all_end(context: Context) -> Outcome {
    let cache = context.open().await?;
    let calls = context.keys(300).into_iter().map(|key| {
        let cache = cache.clone();
        async move {
            cache.put(&key, key.as_str()).await?;
            cache.hit(&key, &key).await?;
            cache.delete(&key).await
        }
    });
    together(calls).await
}

async fn calls_of_one_task_do_not_wait_for_each_other(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("shared");
    cache.put(&key, "value").await?;
    let keys = context.keys(40);
    let calls = keys.iter().map(|own| {
        let (cache, key) = (&cache, &key);
        async move {
            cache.hit(key, "value").await?;
            round_trip(cache, own).await
        }
    });
    interleaved(calls).await
}

async fn one_thread_is_enough(context: Context) -> Outcome {
    blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new(format!("cannot start a Tokio runtime: {error}")))?;
        runtime.block_on(async {
            let cache = context.open().await?;
            round_trip(&cache, &context.key("k")).await?;
            let keys = context.keys(10);
            interleaved(keys.iter().map(|key| round_trip(&cache, key))).await
        })
    })
    .await
}

async fn many_calls_in_sequence_succeed(context: Context) -> Outcome {
    const CALLS: usize = 1_300;
    const AT_ONCE: usize = 20;
    let cache = &context.open().await?;
    let keys = context.keys(AT_ONCE);
    for round in 0..CALLS / AT_ONCE / 2 {
        let payload = &format!("{round}");
        let calls = keys.iter().map(|key| async move {
            cache.put(key, payload.as_str()).await?;
            cache.hit(key, payload).await?;
            Ok(())
        });
        interleaved(calls).await?;
    }
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    cache.delete_multi(&keys).await?;
    cache.answers(&keys, &[None; AT_ONCE]).await
}

async fn waiting_is_not_polling(context: Context) -> Outcome {
    /// A call over a network is polled a handful of times.
    const POLLS: usize = 1_000;
    let cache = context.open().await?;
    for key in context.keys(5) {
        let (call, polls) = counted(round_trip(&cache, &key));
        call.await?;
        let polls = polls.load(Ordering::Relaxed);
        ensure!(
            polls <= POLLS,
            "eight calls were polled {polls} times: they wake their task without a reason"
        );
    }
    Ok(())
}
