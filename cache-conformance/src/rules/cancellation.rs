//! A future may be dropped at any await.

use cache_core::{CacheBackend, CachedValue};

use crate::context::{Cache, Context, Outcome, show_found};
use crate::failure::{Failure, fail};
use crate::rule::{Rule, rule};

use super::source::CANCELLATION;
use super::tasks::{drop_at_poll, together};

pub(crate) const RULES: &[Rule] = &[
    rule!(
        "cancellation",
        get_may_be_dropped,
        CANCELLATION,
        "`get` dropped before or at any poll leaves the backend right for the next caller."
    ),
    rule!(
        "cancellation",
        set_may_be_dropped,
        CANCELLATION,
        "`set` dropped before or at any poll leaves the old value or the new one, and the backend \
         right."
    ),
    rule!(
        "cancellation",
        delete_may_be_dropped,
        CANCELLATION,
        "`delete` dropped before or at any poll leaves the value or a miss, and the backend right."
    ),
    rule!(
        "cancellation",
        get_multi_may_be_dropped,
        CANCELLATION,
        "`get_multi` dropped before or at any poll leaves the backend right for the next caller."
    ),
    rule!(
        "cancellation",
        set_multi_may_be_dropped,
        CANCELLATION,
        "`set_multi` dropped before or at any poll leaves each key's old value or its new one."
    ),
    rule!(
        "cancellation",
        delete_multi_may_be_dropped,
        CANCELLATION,
        "`delete_multi` dropped before or at any poll leaves each key's value or a miss."
    ),
    rule!(
        "cancellation",
        a_thousand_drops_leak_nothing,
        CANCELLATION,
        "After a thousand dropped calls a hundred calls at once all succeed."
    ),
    rule!(
        "cancellation",
        drops_do_not_disturb_other_callers,
        CANCELLATION,
        "While some calls are dropped others, on the same handle, get their own answers."
    ),
];

#[derive(Clone, Copy, PartialEq)]
enum Call {
    Get,
    Set,
    Delete,
    GetMulti,
    SetMulti,
    DeleteMulti,
}

const CALLS: [Call; 6] = [
    Call::Get,
    Call::Set,
    Call::Delete,
    Call::GetMulti,
    Call::SetMulti,
    Call::DeleteMulti,
];

impl Call {
    /// Begins the call, and drops it at a poll. Whether it ended before.
    async fn dropped_at(self, cache: &Cache, keys: &[&str], polls: usize) -> Outcome<bool> {
        let backend = cache.raw();
        let new = || CachedValue::new(b"new".to_vec());
        let Some(key) = keys.first() else {
            return Ok(true);
        };
        let entries = || keys.iter().map(|key| (*key, new())).collect();
        let ended = match self {
            Self::Get => drop_at_poll(async { backend.get(key).await.map(drop) }, polls).await,
            Self::Set => drop_at_poll(backend.set(key, new()), polls).await,
            Self::Delete => drop_at_poll(backend.delete(key), polls).await,
            Self::GetMulti => {
                let get = async {
                    let found = backend.get_multi(keys).await;
                    found.into_iter().try_for_each(|found| found.map(drop))
                };
                drop_at_poll(get, polls).await
            }
            Self::SetMulti => drop_at_poll(backend.set_multi(entries()), polls).await,
            Self::DeleteMulti => drop_at_poll(backend.delete_multi(keys), polls).await,
        };
        match ended {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(Failure::new(format!("a call failed: {error}"))),
        }
    }

    /// What a key that held "old" may hold afterwards.
    fn may_leave(self) -> &'static [Option<&'static [u8]>] {
        match self {
            Self::Get | Self::GetMulti => &[Some(b"old")],
            Self::Set | Self::SetMulti => &[Some(b"old"), Some(b"new")],
            Self::Delete | Self::DeleteMulti => &[Some(b"old"), None],
        }
    }
}

/// Drops the call unpolled, at its first poll, its second, and so on until it ends before.
async fn may_be_dropped(context: &Context, call: Call) -> Outcome {
    /// A call that wakes its task without end is another rule's matter.
    const MOST_POLLS: usize = 60;
    /// How often each poll is tried, since an answer comes early or late.
    const TIMES: usize = 3;
    let cache = context.open().await?;
    let neighbour = context.key("neighbour");
    cache.put(&neighbour, "untouched").await?;
    for polls in 0..MOST_POLLS {
        let mut always_ended = true;
        for time in 0..TIMES {
            let keys: Vec<String> = (0..5)
                .map(|i| context.key(&format!("{polls}:{time}:{i}")))
                .collect();
            let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
            let old: Vec<(&str, &[u8])> = keys.iter().map(|key| (*key, &b"old"[..])).collect();
            cache.put_multi(&old).await?;
            always_ended &= call.dropped_at(&cache, &keys, polls).await?;
            for (key, found) in keys.iter().zip(cache.get_multi(&keys).await?) {
                let payload = found.as_ref().map(|found| found.payload().as_slice());
                if !call.may_leave().contains(&payload) {
                    fail!(
                        "{key:?} held \"old\", and {} after a call that was dropped at poll {polls}",
                        show_found(found.as_ref())
                    );
                }
            }
            is_right(context, &cache, &neighbour).await?;
        }
        if always_ended {
            return Ok(());
        }
    }
    Ok(())
}

/// The next callers get their own answers.
async fn is_right(context: &Context, cache: &Cache, neighbour: &str) -> Outcome {
    let (key, absent) = (context.key("next"), context.key("absent"));
    cache.hit(neighbour, "untouched").await?;
    cache.miss(&absent).await?;
    cache.put(&key, "next").await?;
    cache
        .answers(
            &[&absent, &key, neighbour],
            &[None, Some(b"next"), Some(b"untouched")],
        )
        .await?;
    cache.delete(&key).await?;
    cache.miss(&key).await
}

async fn get_may_be_dropped(context: Context) -> Outcome {
    may_be_dropped(&context, Call::Get).await
}

async fn set_may_be_dropped(context: Context) -> Outcome {
    may_be_dropped(&context, Call::Set).await
}

async fn delete_may_be_dropped(context: Context) -> Outcome {
    may_be_dropped(&context, Call::Delete).await
}

async fn get_multi_may_be_dropped(context: Context) -> Outcome {
    may_be_dropped(&context, Call::GetMulti).await
}

async fn set_multi_may_be_dropped(context: Context) -> Outcome {
    may_be_dropped(&context, Call::SetMulti).await
}

async fn delete_multi_may_be_dropped(context: Context) -> Outcome {
    may_be_dropped(&context, Call::DeleteMulti).await
}

async fn a_thousand_drops_leak_nothing(context: Context) -> Outcome {
    const ROUNDS: usize = 20;
    const AT_ONCE: usize = 50;
    let cache = context.open().await?;
    let neighbour = context.key("neighbour");
    cache.put(&neighbour, "untouched").await?;
    for round in 0..ROUNDS {
        let dropped = (0..AT_ONCE).map(|i| {
            let cache = cache.clone();
            let keys = [context.key(&format!("a{i}")), context.key(&format!("b{i}"))];
            let call = CALLS.get((round + i) % CALLS.len()).copied();
            async move {
                let keys = keys.each_ref().map(String::as_str);
                let Some(call) = call else { return Ok(()) };
                call.dropped_at(&cache, &keys, 1 + i % 3).await?;
                Ok(())
            }
        });
        together(dropped).await?;
    }
    let calls = (0..100).map(|i| {
        let (cache, neighbour) = (cache.clone(), neighbour.clone());
        let key = context.key(&format!("after-{i}"));
        async move {
            cache.put(&key, "after").await?;
            cache.hit(&key, "after").await?;
            cache.hit(&neighbour, "untouched").await?;
            Ok(())
        }
    });
    together(calls).await
}

async fn drops_do_not_disturb_other_callers(context: Context) -> Outcome {
    const ROUNDS: usize = 25;
    let cache = context.open().await?;
    let tasks = (0..12).map(|task| {
        let cache = cache.clone();
        let keys = [
            context.key(&format!("{task}:a")),
            context.key(&format!("{task}:b")),
        ];
        async move {
            let [a, b] = keys.each_ref().map(String::as_str);
            for round in 0..ROUNDS {
                if task % 3 == 0 {
                    for call in CALLS {
                        call.dropped_at(&cache, &[a, b], 1 + round % 3).await?;
                    }
                } else {
                    let payload = format!("{round} of {a}");
                    cache.put(a, payload.as_str()).await?;
                    cache.hit(a, &payload).await?;
                    let found = Some(payload.as_bytes());
                    cache.answers(&[a, b, a], &[found, None, found]).await?;
                }
            }
            Ok(())
        }
    });
    together(tasks).await
}
