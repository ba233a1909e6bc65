//! What an error says, and what it must not show.

use cache_core::{CachedValue, Error, ErrorKind};

use crate::context::{Context, Outcome};
use crate::failure::ensure;
use crate::rule::{Rule, rules};
use crate::show;

use super::keys::odd_keys;
use super::source::ERRORS;

rules! {
    ($) errors, __rules_of_errors, ERRORS, Rule::as_listed;

    the_refused_key_is_named:
        "An error about an invalid key names this key, and in a multi operation no valid one.";
    the_backend_and_the_reason_are_named:
        "An error names the backend, and has a message that says what is wrong.";
    a_refused_key_is_not_transient: "The error of an invalid key is `InvalidKey`, or `Partial` in a write that also has valid keys, and is not transient.";
    payloads_are_not_shown:
        "Neither `Display` nor `Debug` of an error shows the payload of the call.";
    keys_do_not_break_lines:
        "The `Display` form of an error is one line without control characters, whatever the key or \
         the value.";
    long_keys_are_shortened:
        "The `Display` form of an error is short even if keys or payloads are long.";
}

const PAYLOAD: &str = "this payload is private";

fn value() -> CachedValue<Vec<u8>> {
    CachedValue::new(PAYLOAD.as_bytes().to_vec())
}

/// The error of an operation that refused a key.
struct Refusal {
    operation: &'static str,
    key: String,
    error: Error,
}

/// All errors that can be caused without a fault: refused keys, payloads that are too large, and
/// values that cannot be decoded.
async fn errors(context: &Context) -> Outcome<Vec<Refusal>> {
    let mut errors = refusals(context).await?;
    let cache = context.open().await?;
    let [key, other] = ["k", "other"].map(|name| context.key(name));
    let mut add = |operation, error: Option<Error>| {
        let key = key.clone();
        errors.extend(error.map(|error| Refusal {
            operation,
            key,
            error,
        }));
    };
    if let Some(max) = context.capabilities().max_value {
        let too_large = || value().map(|text| text.repeat(2 * max / PAYLOAD.len() + 1));
        add("set", cache.try_set(&key, too_large()).await?.err());
        let entries = vec![(key.as_str(), too_large()), (other.as_str(), value())];
        add("set_multi", cache.try_set_multi(entries).await?.err());
    }
    if context.capabilities().unreadable_values {
        context.make_unreadable(&cache, &key).await?;
        add("get", cache.try_get(&key).await?.err());
        let mut read = cache.try_get_multi(&[&key]).await?;
        add("get_multi", read.pop().and_then(Result::err));
    }
    Ok(errors)
}

/// The errors of each operation for unusual keys. Either all operations refuse a key, or none.
async fn refusals(context: &Context) -> Outcome<Vec<Refusal>> {
    let cache = context.open().await?;
    let valid = context.key("valid");
    let mut refused = Vec::new();
    for key in odd_keys(&cache, context).await? {
        let entries = vec![(valid.as_str(), value()), (key.as_str(), value())];
        let mut read = cache.try_get_multi(&[&valid, &key]).await?;
        let answers = [
            ("get", cache.try_get(&key).await?.err()),
            ("set", cache.try_set(&key, value()).await?.err()),
            ("get_multi", read.pop().and_then(Result::err)),
            ("set_multi", cache.try_set_multi(entries).await?.err()),
            ("delete", cache.try_delete(&key).await?.err()),
            (
                "delete_multi",
                cache.try_delete_multi(&[&valid, &key]).await?.err(),
            ),
        ];
        let count = answers.iter().filter(|(_, error)| error.is_some()).count();
        ensure!(
            count == 0 || count == answers.len(),
            "{}: expected all operations to refuse the key, or none; {count} of {} did",
            show::key(&key),
            answers.len()
        );
        refused.extend(answers.into_iter().filter_map(|(operation, error)| {
            Some(Refusal {
                operation,
                key: key.clone(),
                error: error?,
            })
        }));
    }
    Ok(refused)
}

async fn the_refused_key_is_named(context: Context) -> Outcome {
    for Refusal {
        operation,
        key,
        error,
    } in refusals(&context).await?
    {
        ensure!(
            error.keys() == [key.as_str()],
            "{operation} {}: expected an error that names only this key, got one that names {}",
            show::key(&key),
            show::keys(error.keys())
        );
    }
    Ok(())
}

async fn the_backend_and_the_reason_are_named(context: Context) -> Outcome {
    for Refusal {
        operation,
        key,
        error,
    } in errors(&context).await?
    {
        let (backend, message) = (error.backend(), error.message());
        ensure!(
            !backend.trim().is_empty(),
            "{operation} {}: expected an error that names the backend, got none",
            show::key(&key)
        );
        ensure!(
            message.trim().len() >= 8,
            "{operation} {}: expected a message that says what is wrong, got {message:?}",
            show::key(&key)
        );
    }
    Ok(())
}

async fn a_refused_key_is_not_transient(context: Context) -> Outcome {
    for Refusal {
        operation,
        key,
        error,
    } in refusals(&context).await?
    {
        // Among valid keys, it is a partial failure.
        let partial = ["set_multi", "delete_multi"].contains(&operation);
        let expected = if partial {
            ErrorKind::Partial
        } else {
            ErrorKind::InvalidKey
        };
        ensure!(
            !error.is_transient() && error.kind() == expected,
            "{operation} {}: expected {expected:?} that is not transient, got {error}",
            show::key(&key)
        );
    }
    Ok(())
}

async fn payloads_are_not_shown(context: Context) -> Outcome {
    // As text, and as the bytes that `Debug` of a `Vec<u8>` prints.
    let bytes = format!("{:?}", PAYLOAD.as_bytes());
    let bytes = bytes.trim_matches(['[', ']']);
    for Refusal {
        operation,
        key,
        error,
    } in errors(&context).await?
    {
        for shown in [error.to_string(), format!("{error:?}")] {
            ensure!(
                !shown.contains(PAYLOAD) && !shown.contains(bytes),
                "{operation} {}: expected an error without the payload, got {shown}",
                show::key(&key)
            );
        }
    }
    Ok(())
}

async fn keys_do_not_break_lines(context: Context) -> Outcome {
    for Refusal {
        operation,
        key,
        error,
    } in errors(&context).await?
    {
        let shown = error.to_string();
        let control = |c: char| c.is_control() || c == '\u{2028}';
        ensure!(
            !shown.contains(control),
            "{operation} {}: expected an error of one line without control characters, got \
             {shown:?}",
            show::key(&key)
        );
    }
    Ok(())
}

async fn long_keys_are_shortened(context: Context) -> Outcome {
    /// Enough for a sentence, three shortened keys and the number of the others.
    const LONGEST: usize = 2_000;
    for Refusal {
        operation,
        key,
        error,
    } in errors(&context).await?
    {
        let len = error.to_string().len();
        ensure!(
            len <= LONGEST,
            "{operation} {}: expected an error of at most {LONGEST} bytes, got {len}",
            show::key(&key)
        );
    }
    Ok(())
}
