//! A future may be dropped at any await.

use cache_core::{CacheBackend, CachedValue};

use crate::context::{Cache, Context, Outcome};
use crate::failure::{Failure, fail};
use crate::rule::{Rule, rules};
use crate::show;

use super::source::CANCELLATION;
use super::tasks::{drop_at_poll, together};

rules! {
    ($) cancellation, __rules_of_cancellation, CANCELLATION, Rule::as_listed;

    get_may_be_dropped:
        "`get` dropped before or at any poll leaves the backend correct for the next caller.";
    set_may_be_dropped:
        "`set` dropped before or at any poll leaves the old value or the new one, and the backend \
         correct.";
    delete_may_be_dropped:
        "`delete` dropped before or at any poll leaves the value or a miss, and the backend \
         correct.";
    get_multi_may_be_dropped:
        "`get_multi` dropped before or at any poll leaves the backend correct for the next caller.";
    set_multi_may_be_dropped:
        "`set_multi` dropped before or at any poll leaves each key's old value or its new one.";
    delete_multi_may_be_dropped:
        "`delete_multi` dropped before or at any poll leaves each key's value or a miss.";
    large_values_may_be_dropped:
        "Calls with large values, dropped at any poll, leave values whole and the backend correct.";
    a_thousand_drops_leak_nothing:
        "After a thousand dropped calls, a hundred concurrent calls all succeed.";
    drops_do_not_disturb_other_callers:
        "While some calls are dropped, others on the same handle get their own results.";
}

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
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::Delete => "delete",
            Self::GetMulti => "get_multi",
            Self::SetMulti => "set_multi",
            Self::DeleteMulti => "delete_multi",
        }
    }

    /// Starts the call and drops it at a poll. Returns whether it ended before.
    async fn dropped_at(self, cache: &Cache, keys: &[&str], polls: usize) -> Outcome<bool> {
        self.with_payload(cache, keys, b"new", polls).await
    }

    /// The same, with this payload for writes.
    async fn with_payload(
        self,
        cache: &Cache,
        keys: &[&str],
        payload: &[u8],
        polls: usize,
    ) -> Outcome<bool> {
        let backend = cache.raw();
        let new = || CachedValue::new(payload.to_vec());
        let Some(key) = keys.first() else {
            return Ok(true);
        };
        for key in keys {
            cache.will_write(key);
        }
        let entries = || keys.iter().map(|key| (*key, new())).collect();
        let call = async {
            match self {
                Self::Get => backend.get(key).await.map(drop),
                Self::Set => backend.set(key, new()).await,
                Self::Delete => backend.delete(key).await,
                Self::GetMulti => {
                    let found = backend.get_multi(keys).await;
                    found.into_iter().try_for_each(|found| found.map(drop))
                }
                Self::SetMulti => backend.set_multi(entries()).await,
                Self::DeleteMulti => backend.delete_multi(keys).await,
            }
        };
        let what = format!(
            "{} {}, dropped at poll {polls}",
            self.name(),
            show::keys(keys)
        );
        let shown = |ended: &Option<_>| match ended {
            Some(_) => "it ended before".to_owned(),
            None => "dropped".to_owned(),
        };
        let call = drop_at_poll(call, polls);
        match cache.call(what, call, shown).await? {
            None => Ok(false),
            Some(Ok(())) => Ok(true),
            Some(Err(error)) => Err(Failure::new(format!(
                "{} {}: expected success, got the error \"{error}\"",
                self.name(),
                show::keys(keys)
            ))),
        }
    }

    /// The possible states of a key that held "old".
    fn may_leave(self) -> &'static [Option<&'static [u8]>] {
        match self {
            Self::Get | Self::GetMulti => &[Some(b"old")],
            Self::Set | Self::SetMulti => &[Some(b"old"), Some(b"new")],
            Self::Delete | Self::DeleteMulti => &[Some(b"old"), None],
        }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Get | Self::GetMulti => "\"old\"",
            Self::Set | Self::SetMulti => "\"old\" or \"new\"",
            Self::Delete | Self::DeleteMulti => "\"old\" or a miss",
        }
    }
}

/// Drops the call before its first poll, at its first, its second, and so on, until it ends before.
async fn may_be_dropped(context: &Context, call: Call) -> Outcome {
    /// Another rule is about calls that wake their task in a loop.
    const MOST_POLLS: usize = 60;
    /// How often each poll is tried, because responses arrive early or late.
    const TIMES: usize = 3;
    let cache = context.open().await?;
    let neighbor = context.key("neighbor");
    cache.put(&neighbor, "untouched").await?;
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
                        "get_multi, at {key:?}: it held \"old\" until a {} that was dropped at poll \
                         {polls}: expected {}, got {}",
                        call.name(),
                        call.expected(),
                        show::found(found.as_ref())
                    );
                }
            }
            if let Some(key) = keys.first() {
                can_be_used(&cache, key, call).await?;
            }
            is_right(context, &cache, &neighbor).await?;
        }
        if always_ended {
            return Ok(());
        }
    }
    Ok(())
}

/// The next calls with the key of a dropped call end. A write that was sent may still be applied.
async fn can_be_used(cache: &Cache, key: &str, dropped: Call) -> Outcome {
    if matches!(dropped, Call::Get | Call::GetMulti) {
        cache.hit(key, "old").await?;
    }
    cache.put(key, "after").await?;
    let found = cache.get(key).await?;
    let payload = found.as_ref().map(|found| found.payload().as_slice());
    if payload != Some(b"after") && !dropped.may_leave().contains(&payload) {
        fail!(
            "get {}, set to \"after\" after a {} that was dropped: expected this value, or {} if \
             the dropped call was applied late; got {}",
            show::key(key),
            dropped.name(),
            dropped.expected(),
            show::found(found.as_ref())
        );
    }
    cache.delete(key).await
}

/// The next callers get their own results.
async fn is_right(context: &Context, cache: &Cache, neighbor: &str) -> Outcome {
    let (key, absent) = (context.key("next"), context.key("absent"));
    cache.hit(neighbor, "untouched").await?;
    cache.miss(&absent).await?;
    cache.put(&key, "next").await?;
    cache
        .answers(
            &[&absent, &key, neighbor],
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

/// Over a network, large values are sent and received in parts.
async fn large_values_may_be_dropped(context: Context) -> Outcome {
    /// In a call of several keys; more than the buffers of a connection hold.
    const TOTAL: usize = 4 * 1024 * 1024;
    const MOST_KEYS: usize = 8;
    const MOST_POLLS: usize = 12;
    let cache = context.open().await?;
    let neighbor = context.key("neighbor");
    cache.put(&neighbor, "untouched").await?;
    let len = context.capabilities().large_value();
    let keys = context.keys((TOTAL / len.max(1)).clamp(2, MOST_KEYS));
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let [old, new] = [0, 1].map(|_| context.rng().bytes(len));
    // Writes last, because one that was dropped may be applied late.
    let calls = [Call::Get, Call::GetMulti, Call::Set, Call::SetMulti];
    for call in calls {
        for polls in 1..=MOST_POLLS {
            let entries: Vec<(&str, &[u8])> = keys.iter().map(|key| (*key, &*old)).collect();
            cache.put_multi(&entries).await?;
            let ended = call.with_payload(&cache, &keys, &new, polls).await?;
            for (key, found) in keys.iter().zip(cache.get_multi(&keys).await?) {
                let payload = found.as_ref().map(CachedValue::payload);
                let is_new = call.may_leave().contains(&Some(b"new")) && payload == Some(&new);
                if payload != Some(&old) && !is_new {
                    fail!(
                        "get_multi, at {key:?}, after a {} that was dropped at poll {polls}: \
                         expected one of the values that were set; {}",
                        call.name(),
                        show::expected_payload(Some(&old), found.as_ref())
                    );
                }
            }
            is_right(&context, &cache, &neighbor).await?;
            if ended {
                break;
            }
        }
    }
    cache.delete_multi(&keys).await
}

async fn a_thousand_drops_leak_nothing(context: Context) -> Outcome {
    const ROUNDS: usize = 20;
    const AT_ONCE: usize = 50;
    let cache = context.open().await?;
    let neighbor = context.key("neighbor");
    cache.put(&neighbor, "untouched").await?;
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
        let (cache, neighbor) = (cache.clone(), neighbor.clone());
        let key = context.key(&format!("after-{i}"));
        async move {
            cache.put(&key, "after").await?;
            cache.hit(&key, "after").await?;
            cache.hit(&neighbor, "untouched").await?;
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
