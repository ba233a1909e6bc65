//! What an error tells, and what it keeps to itself.

use cache_core::{CachedValue, Error, ErrorKind};

use crate::context::{Context, Outcome};
use crate::failure::{ensure, fail};
use crate::rule::{Rule, rule};

use super::source::ERRORS;

pub(crate) const RULES: &[Rule] = &[
    rule!(
        "errors",
        the_refused_key_is_named,
        ERRORS,
        "An `InvalidKey` names the key that was refused, and in a multi call no valid one."
    ),
    rule!(
        "errors",
        the_backend_and_the_reason_are_named,
        ERRORS,
        "An error names the backend, and says in words what is wrong."
    ),
    rule!(
        "errors",
        a_refused_key_is_not_transient,
        ERRORS,
        "An `InvalidKey` does not ask the caller to try again."
    ),
    rule!(
        "errors",
        payloads_are_not_shown,
        ERRORS,
        "Neither `Display` nor `Debug` of an error shows the payload that was to be set."
    ),
    rule!(
        "errors",
        keys_do_not_break_lines,
        ERRORS,
        "The `Display` form of an error is one line without control characters, whatever the key."
    ),
    rule!(
        "errors",
        long_keys_are_shortened,
        ERRORS,
        "The `Display` form of an error stays short when the key is long or the keys are many."
    ),
];

const PAYLOAD: &str = "this payload is private";

fn value() -> CachedValue<Vec<u8>> {
    CachedValue::new(PAYLOAD.as_bytes().to_vec())
}

/// What each operation says of a key, where it refuses it.
async fn refusals(context: &Context, key: &str) -> Outcome<Vec<(&'static str, Error)>> {
    let cache = context.open().await?;
    let valid = context.key("valid");
    let entries = vec![(valid.as_str(), value()), (key, value())];
    let answers = [
        ("get", cache.try_get(key).await?.err()),
        ("set", cache.try_set(key, value()).await?.err()),
        ("delete", cache.try_delete(key).await?.err()),
        (
            "get_multi",
            cache.try_get_multi(&[&valid, key]).await?.err(),
        ),
        ("set_multi", cache.try_set_multi(entries).await?.err()),
        (
            "delete_multi",
            cache.try_delete_multi(&[&valid, key]).await?.err(),
        ),
    ];
    let refused = answers.into_iter();
    Ok(refused
        .filter_map(|(operation, error)| Some((operation, error?)))
        .collect())
}

/// What each operation says of the empty key, which every backend refuses.
async fn refusals_of_empty(context: &Context) -> Outcome<Vec<(&'static str, Error)>> {
    let refused = refusals(context, "").await?;
    ensure!(
        refused.len() == 6,
        "six operations were given the empty key, {} refused it",
        refused.len()
    );
    Ok(refused)
}

async fn the_refused_key_is_named(context: Context) -> Outcome {
    for (operation, error) in refusals_of_empty(&context).await? {
        ensure!(
            error.keys() == [""],
            "{operation} of the empty key: the error names the keys {:?} instead of \"\"",
            error.keys()
        );
    }
    Ok(())
}

async fn the_backend_and_the_reason_are_named(context: Context) -> Outcome {
    for (operation, error) in refusals_of_empty(&context).await? {
        let (backend, message) = (error.backend(), error.message());
        ensure!(
            !backend.trim().is_empty(),
            "{operation}: the error names no backend"
        );
        ensure!(
            message.trim().len() >= 8,
            "{operation}: the error's message says nothing: {message:?}"
        );
    }
    Ok(())
}

async fn a_refused_key_is_not_transient(context: Context) -> Outcome {
    for (operation, error) in refusals_of_empty(&context).await? {
        ensure!(
            !error.is_transient() && error.kind() == ErrorKind::InvalidKey,
            "{operation} of the empty key: expected an InvalidKey that is not transient, got {:?}",
            error.kind()
        );
    }
    Ok(())
}

/// Keys that some backend or other refuses; the empty one is refused by all.
fn odd_keys(context: &Context) -> Vec<String> {
    let mut keys = vec![
        String::new(),
        context.key("a\r\nb"),
        context.key("a\0b"),
        context.key("a\u{1b}[31mb"),
        context.key("a\u{2028}b\u{85}c"),
    ];
    for len in [300, 5_000, 70_000] {
        keys.push(context.key(&"x".repeat(len)));
        keys.push(context.key(&"x\r\n".repeat(len / 3)));
    }
    keys
}

async fn payloads_are_not_shown(context: Context) -> Outcome {
    for key in odd_keys(&context) {
        for (operation, error) in refusals(&context, &key).await? {
            for shown in [error.to_string(), format!("{error:?}")] {
                // As text, and as the bytes that `Debug` of a `Vec<u8>` prints.
                let bytes = format!("{:?}", PAYLOAD.as_bytes());
                let bytes = bytes.trim_matches(['[', ']']);
                if shown.contains(PAYLOAD) || shown.contains(bytes) {
                    fail!("{operation}: the error shows the payload: {shown}");
                }
            }
        }
    }
    Ok(())
}

async fn keys_do_not_break_lines(context: Context) -> Outcome {
    for key in odd_keys(&context) {
        for (operation, error) in refusals(&context, &key).await? {
            let shown = error.to_string();
            let control = |c: char| c.is_control() || c == '\u{2028}';
            ensure!(
                !shown.contains(control),
                "{operation}: the error breaks the line it is logged in: {shown:?}"
            );
        }
    }
    Ok(())
}

async fn long_keys_are_shortened(context: Context) -> Outcome {
    /// Enough for a sentence, three shortened keys and the number of the others.
    const LONGEST: usize = 2_000;
    for key in odd_keys(&context) {
        for (operation, error) in refusals(&context, &key).await? {
            let len = error.to_string().len();
            ensure!(
                len <= LONGEST,
                "{operation}: the error is {len} bytes long; {LONGEST} are enough for anybody's log"
            );
        }
    }
    Ok(())
}
