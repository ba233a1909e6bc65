//! Several instances on one store, several users of one instance.

use std::time::{Duration, SystemTime};

use cache_core::{CachedValue, ErrorKind};

use crate::context::{Context, Outcome};
use crate::failure::{ensure, fail};
use crate::rule::{Requirement, Rule, rules};
use crate::show;

use super::life::{HOUR, LONG, Life, short};
use super::source::SHARING;
use super::tasks::together;

rules! {
    ($) sharing, __rules_of_sharing, SHARING, Rule::as_listed;

    a_second_instance_sees_what_is_set:
        "Each instance finds what the other has set, by single and multi calls.";
    a_second_instance_sees_what_is_replaced:
        "A value that the other instance replaced is no longer served.";
    a_second_instance_sees_what_is_deleted:
        "A value that the other instance deleted is no longer served.";
    a_second_instance_sees_a_miss_filled:
        "A key that was a miss is found once the other instance has set it.";
    metadata_is_shared: "The cached time is the same through every instance.";
    deadlines_are_shared:
        "A value is a miss through every instance from its deadline on, and has the same time \
         left.", requires(&[Requirement::Ttl]), waits();
    an_instance_outlives_the_other:
        "After one instance is dropped, the other works and finds everything that was set.";
    instances_write_at_the_same_time:
        "All values that several instances set at the same time are found through each of them.";
    namespaces_are_separate:
        "Namespaces share nothing, even if they look alike once joined with their keys.";
    foreign_data_is_left_alone:
        "Operations on some keys do not change other data in the same store.";
}

async fn a_second_instance_sees_what_is_set(context: Context) -> Outcome {
    let one = context.open().await?;
    let two = context.again(&one).await?;
    let keys = context.keys(4);
    for (from, to) in [(&one, &two), (&two, &one)] {
        for key in &keys {
            from.put(key, key.as_str()).await?;
            to.hit(key, key).await?;
        }
        let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
        let expected: Vec<_> = asked.iter().map(|key| Some(key.as_bytes())).collect();
        to.answers(&asked, &expected).await?;
        from.delete_multi(&asked).await?;
        let entries: Vec<(&str, &[u8])> = asked.iter().map(|key| (*key, &b"multi"[..])).collect();
        from.put_multi(&entries).await?;
        to.answers(&asked, &[Some(&b"multi"[..]); 4]).await?;
        from.delete_multi(&asked).await?;
    }
    Ok(())
}

async fn a_second_instance_sees_what_is_replaced(context: Context) -> Outcome {
    let one = context.open().await?;
    let two = context.again(&one).await?;
    let key = context.key("k");
    for round in 0..3 {
        let (old, new) = (format!("old {round}"), format!("new {round}"));
        one.put(&key, old.as_str()).await?;
        // A backend that keeps a copy creates it now.
        two.hit(&key, &old).await?;
        one.put(&key, new.as_str()).await?;
        two.hit(&key, &new).await?;
        two.answers(&[&key], &[Some(new.as_bytes())]).await?;
    }
    Ok(())
}

async fn a_second_instance_sees_what_is_deleted(context: Context) -> Outcome {
    let one = context.open().await?;
    let two = context.again(&one).await?;
    let (key, other) = (context.key("k"), context.key("other"));
    for (from, to) in [(&one, &two), (&two, &one)] {
        for key in [&key, &other] {
            from.put(key, "value").await?;
            to.hit(key, "value").await?;
        }
        from.delete(&key).await?;
        to.miss(&key).await?;
        from.delete_multi(&[&other]).await?;
        to.answers(&[&key, &other], &[None; 2]).await?;
    }
    Ok(())
}

async fn a_second_instance_sees_a_miss_filled(context: Context) -> Outcome {
    let one = context.open().await?;
    let two = context.again(&one).await?;
    for key in context.keys(3) {
        two.miss(&key).await?;
        two.answers(&[&key], &[None]).await?;
        one.put(&key, "value").await?;
        two.hit(&key, "value").await?;
    }
    Ok(())
}

async fn metadata_is_shared(context: Context) -> Outcome {
    let one = context.open().await?;
    let two = context.again(&one).await?;
    let key = context.key("k");
    let cached_at = SystemTime::now() - HOUR;
    let value = CachedValue::new(b"value".to_vec()).with_cached_at(cached_at);
    one.set(&key, value).await?;
    let through = [one.hit(&key, "value").await?, two.hit(&key, "value").await?];
    let [first, second] = through.map(|found| found.cached_at());
    ensure!(
        first == second,
        "get {key:?} through the other instance, cached_at: {}",
        show::expected_time(first, second)
    );
    Ok(())
}

async fn deadlines_are_shared(context: Context) -> Outcome {
    let one = context.open().await?;
    let two = context.again(&one).await?;
    let (brief, long) = (context.key("brief"), context.key("long"));
    let ttl = short(&context);
    let value = || CachedValue::new(b"value".to_vec());
    one.set(&long, value().with_ttl(LONG)).await?;
    let life = Life::starts(&context, ttl, one.set(&brief, value().with_ttl(ttl))).await?;
    let left = two.hit(&long, "value").await?.ttl();
    let slack = Duration::from_secs(120) + context.capabilities().granularity();
    let least = LONG.saturating_sub(slack);
    ensure!(
        left.duration()
            .is_some_and(|left| (least..=LONG).contains(&left)),
        "get {long:?} through the other instance, ttl(): {}",
        show::expected_left(least, LONG, left)
    );
    context.wait_until(life.over).await;
    two.answers(&[&brief, &long], &[None, Some(b"value")])
        .await?;
    one.answers(&[&brief, &long], &[None, Some(b"value")]).await
}

async fn an_instance_outlives_the_other(context: Context) -> Outcome {
    let one = context.open().await?;
    let two = context.again(&one).await?;
    let three = context.again(&two).await?;
    let (key, other) = (context.key("k"), context.key("other"));
    one.put(&key, "value").await?;
    two.hit(&key, "value").await?;
    drop(one);
    two.hit(&key, "value").await?;
    two.put(&other, "other").await?;
    drop(two);
    three
        .answers(&[&key, &other], &[Some(b"value"), Some(b"other")])
        .await?;
    three.delete_multi(&[&key, &other]).await?;
    three.miss(&key).await
}

async fn instances_write_at_the_same_time(context: Context) -> Outcome {
    const INSTANCES: usize = 3;
    const KEYS: usize = 30;
    let mut instances = vec![context.open().await?];
    for _ in 1..INSTANCES {
        if let Some(first) = instances.first() {
            instances.push(context.again(first).await?);
        }
    }
    let keys = context.keys(INSTANCES * KEYS);
    let writers = instances
        .iter()
        .zip(keys.chunks(KEYS))
        .map(|(cache, keys)| {
            let (cache, keys) = (cache.clone(), keys.to_vec());
            async move {
                for key in &keys {
                    cache.put(key, key.as_str()).await?;
                }
                Ok(())
            }
        });
    together(writers).await?;
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    let expected: Vec<_> = asked.iter().map(|key| Some(key.as_bytes())).collect();
    for cache in &instances {
        cache.answers(&asked, &expected).await?;
    }
    Ok(())
}

async fn namespaces_are_separate(context: Context) -> Outcome {
    let cache = context.open().await?;
    // For each pair, some way to join namespace and key gives the same name.
    let names = [
        ("a", "b:c"),
        ("a:b", "c"),
        ("a", "b"),
        ("a%3Ab", "c"),
        ("a:", "b"),
        ("A", "b"),
        ("a ", "b"),
    ];
    let mut views = Vec::new();
    for (namespace, key) in names {
        let view = cache.in_namespace(&context.key(namespace));
        let payload = format!("{namespace} and {key}");
        match view
            .try_set(key, CachedValue::new(payload.clone().into_bytes()))
            .await?
        {
            Ok(()) => views.push((view, key, payload)),
            Err(error) if error.kind() == ErrorKind::InvalidKey => {}
            Err(error) => fail!(
                "set {key:?} in the namespace {namespace:?}: expected success or InvalidKey, got \
                 {error}"
            ),
        }
    }
    for deleted in 0..=views.len() {
        for (position, (view, key, payload)) in views.iter().enumerate() {
            if position >= deleted {
                view.hit(key, payload).await?;
            } else {
                view.miss(key).await?;
            }
        }
        if let Some((view, key, _)) = views.get(deleted) {
            view.delete(key).await?;
        }
    }
    Ok(())
}

async fn foreign_data_is_left_alone(context: Context) -> Outcome {
    let stranger = context.open().await?;
    let cache = context.again(&stranger).await?;
    let foreign = ["foreign", "foreign:1", "k", "k:", "k0", "k:0"].map(|name| context.key(name));
    for key in &foreign {
        stranger.put(key, format!("foreign {key}")).await?;
    }
    let own: Vec<String> = (0..20)
        .map(|i| context.key(&format!("k:own:{i}")))
        .collect();
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let entries: Vec<(&str, &[u8])> = own.iter().map(|key| (*key, &b"own"[..])).collect();
    for _ in 0..2 {
        cache.put_multi(&entries).await?;
        for key in own.iter().take(5) {
            let brief = CachedValue::new(b"brief".to_vec()).with_ttl(Duration::ZERO);
            cache.set(key, brief).await?;
            cache.delete(key).await?;
        }
        cache.delete_multi(&own).await?;
    }
    for key in &foreign {
        stranger.hit(key, format!("foreign {key}")).await?;
    }
    Ok(())
}
