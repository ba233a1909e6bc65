//! A value that cannot be decoded is an error at its own key only.

use cache_core::ErrorKind;

use crate::context::{Context, Outcome};
use crate::failure::{ensure, fail};
use crate::rule::{Requirement, Rule, rules};
use crate::show;

use super::source::PARTS;

const UNREADABLE: &[Requirement] = &[Requirement::UnreadableValues];

rules! {
    ($) unreadable, __rules_of_unreadable, PARTS, Rule::as_listed;

    an_unreadable_value_is_a_decode_error:
        "`get` of a value that cannot be decoded is a `Decode` error that names the key, not a miss.", requires(UNREADABLE);
    it_fails_alone_in_get_multi:
        "A value that cannot be decoded is an error at each position of its key in `get_multi`, and \
         does not affect the others.", requires(UNREADABLE);
    it_can_be_replaced_and_deleted:
        "A value that cannot be decoded can be overwritten and deleted.", requires(UNREADABLE);
}

async fn an_unreadable_value_is_a_decode_error(context: Context) -> Outcome {
    let cache = context.open().await?;
    let key = context.key("k");
    context.make_unreadable(&cache, &key).await?;
    for _ in 0..2 {
        match cache.try_get(&key).await? {
            Err(error) if error.kind() == ErrorKind::Decode && error.keys() == [key.as_str()] => {
                ensure!(
                    !error.is_transient(),
                    "get {}: expected a Decode error that is not transient, got {error}",
                    show::key(&key)
                );
            }
            other => fail!(
                "get {}: expected a Decode error that names the key, got {}",
                show::key(&key),
                show::answer(&other)
            ),
        }
    }
    Ok(())
}

async fn it_fails_alone_in_get_multi(context: Context) -> Outcome {
    let cache = context.open().await?;
    let keys = context.keys(12);
    let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
    for unreadable in [vec![0], vec![5], vec![11], vec![1, 2, 9]] {
        let entries: Vec<(&str, &[u8])> = asked.iter().map(|key| (*key, key.as_bytes())).collect();
        cache.put_multi(&entries).await?;
        for place in &unreadable {
            if let Some(key) = asked.get(*place) {
                context.make_unreadable(&cache, key).await?;
            }
        }
        // Each key twice.
        let twice: Vec<&str> = asked.iter().chain(&asked).copied().collect();
        let answers = cache.try_get_multi(&twice).await?;
        for (place, (key, answer)) in twice.iter().zip(&answers).enumerate() {
            let place = place % asked.len();
            let is_right = match answer {
                Ok(Some(found)) => {
                    !unreadable.contains(&place) && found.payload() == key.as_bytes()
                }
                Ok(None) => false,
                Err(error) => {
                    unreadable.contains(&place)
                        && error.kind() == ErrorKind::Decode
                        && error.keys() == [*key]
                }
            };
            let expected = if unreadable.contains(&place) {
                "a Decode error that names the key".to_owned()
            } else {
                format!("\"{key}\"")
            };
            ensure!(
                is_right,
                "get_multi, at {}, where the unreadable are at {unreadable:?}: expected \
                 {expected}, got {}",
                show::key(key),
                show::answer(answer)
            );
        }
    }
    Ok(())
}

async fn it_can_be_replaced_and_deleted(context: Context) -> Outcome {
    let cache = context.open().await?;
    let [one, two, three, four] = ["one", "two", "three", "four"].map(|name| context.key(name));
    for key in [&one, &two, &three, &four] {
        context.make_unreadable(&cache, key).await?;
    }
    cache.put(&one, "value").await?;
    cache.put_multi(&[(&two, b"value")]).await?;
    cache.delete(&three).await?;
    cache.delete_multi(&[&four]).await?;
    cache
        .answers(
            &[&one, &two, &three, &four],
            &[Some(b"value"), Some(b"value"), None, None],
        )
        .await
}
