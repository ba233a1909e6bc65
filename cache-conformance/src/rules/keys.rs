//! A key is kept to the letter, or refused.

use cache_core::{CachedValue, ErrorKind};

use crate::context::{Cache, Context, Outcome, show_key};
use crate::failure::{ensure, fail};
use crate::rule::{Rule, rule};

use super::source::KEYS;

pub(crate) const RULES: &[Rule] = &[
    rule!(
        "keys",
        the_empty_key_is_refused,
        KEYS,
        "Every operation refuses the empty key with `InvalidKey`."
    ),
    rule!(
        "keys",
        case_is_kept,
        KEYS,
        "Keys that differ in case only are different keys."
    ),
    rule!(
        "keys",
        surrounding_space_is_kept,
        KEYS,
        "Keys that differ in leading or trailing white space only are different keys, or refused."
    ),
    rule!(
        "keys",
        inner_space_is_kept,
        KEYS,
        "Keys that differ in inner white space only are different keys, or refused."
    ),
    rule!(
        "keys",
        line_breaks_inject_nothing,
        KEYS,
        "A key with CR LF and a command behind it is kept or refused, and touches no other key."
    ),
    rule!(
        "keys",
        control_characters_are_kept,
        KEYS,
        "Keys that differ in control characters only, NUL included, are different keys, or refused."
    ),
    rule!(
        "keys",
        forms_of_unicode_are_kept,
        KEYS,
        "Keys that Unicode calls equivalent are different keys, or refused."
    ),
    rule!(
        "keys",
        any_script_is_kept,
        KEYS,
        "Keys in any script, emoji and unassigned characters included, are kept or refused."
    ),
    rule!(
        "keys",
        separators_are_kept,
        KEYS,
        "Slashes, colons, dots, percent signs and wildcards in keys mean nothing."
    ),
    rule!(
        "keys",
        words_of_protocols_are_kept,
        KEYS,
        "Keys that look like commands, options or numbers are keys."
    ),
    rule!(
        "keys",
        numbers_are_text,
        KEYS,
        "Keys that are the same number written otherwise are different keys."
    ),
    rule!(
        "keys",
        long_keys_are_not_truncated,
        KEYS,
        "Long keys that differ in their last character only are different keys, or refused."
    ),
    rule!(
        "keys",
        all_operations_agree,
        KEYS,
        "A key that one operation refuses is refused by all of them."
    ),
];

/// Whether the backend refuses `key`, as `set` tells.
pub(super) async fn refuses(cache: &Cache, key: &str) -> Outcome<bool> {
    match cache
        .try_set(key, CachedValue::new(b"probe".to_vec()))
        .await?
    {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::InvalidKey => Ok(true),
        Err(error) => fail!(
            "set {}: expected the key to be kept, or refused with InvalidKey; got {error}",
            show_key(key)
        ),
    }
}

/// Those of `keys` that are not refused are all different keys, by single and by multi
/// operations.
async fn are_distinct(cache: &Cache, keys: &[String]) -> Outcome {
    let mut kept: Vec<&str> = Vec::new();
    for key in keys {
        if !refuses(cache, key).await? {
            kept.push(key);
        }
    }
    for key in &kept {
        cache.put(key, format!("of {key}")).await?;
    }
    for key in &kept {
        cache.hit(key, format!("of {key}")).await?;
    }
    let payloads: Vec<Vec<u8>> = kept
        .iter()
        .map(|key| format!("of {key}").into_bytes())
        .collect();
    let mut expected: Vec<Option<&[u8]>> = payloads.iter().map(|p| Some(p.as_slice())).collect();
    cache.answers(&kept, &expected).await?;
    // Each deletion removes its own key and no look-alike.
    for (position, key) in kept.iter().enumerate() {
        cache.delete(key).await?;
        if let Some(expected) = expected.get_mut(position) {
            *expected = None;
        }
        cache.answers(&kept, &expected).await?;
    }
    let entries: Vec<(&str, &[u8])> = kept
        .iter()
        .zip(&payloads)
        .map(|(key, payload)| (*key, payload.as_slice()))
        .collect();
    cache.put_multi(&entries).await?;
    for (key, payload) in &entries {
        cache.hit(key, payload).await?;
    }
    cache.delete_multi(&kept).await?;
    for key in &kept {
        cache.miss(key).await?;
    }
    Ok(())
}

async fn named_keys_are_distinct(context: &Context, names: &[&str]) -> Outcome {
    let cache = context.open().await?;
    let keys: Vec<String> = names.iter().map(|name| context.key(name)).collect();
    are_distinct(&cache, &keys).await
}

async fn the_empty_key_is_refused(context: Context) -> Outcome {
    let cache = context.open().await?;
    let value = || CachedValue::new(b"value".to_vec());
    let neighbour = context.key("k");
    let refusals = [
        ("get", cache.try_get("").await?.err()),
        ("set", cache.try_set("", value()).await?.err()),
        ("delete", cache.try_delete("").await?.err()),
        (
            "get_multi",
            cache.try_get_multi(&[&neighbour, ""]).await?.err(),
        ),
        (
            "set_multi",
            cache
                .try_set_multi(vec![(&neighbour, value()), ("", value())])
                .await?
                .err(),
        ),
        (
            "delete_multi",
            cache.try_delete_multi(&[&neighbour, ""]).await?.err(),
        ),
    ];
    for (operation, refusal) in refusals {
        match refusal {
            Some(error) if error.kind() == ErrorKind::InvalidKey => {}
            Some(error) => fail!("{operation} of the empty key: expected InvalidKey, got {error}"),
            None => fail!("{operation} of the empty key: expected InvalidKey, got success"),
        }
    }
    Ok(())
}

async fn case_is_kept(context: Context) -> Outcome {
    named_keys_are_distinct(&context, &["key", "Key", "KEY", "straße", "STRASSE"]).await
}

async fn surrounding_space_is_kept(context: Context) -> Outcome {
    let cache = context.open().await?;
    let name = context.key("k");
    let around = [("", ""), ("", " "), ("", "\t"), ("", "\n"), ("", "\u{a0}")];
    let before = [(" ", ""), ("\t", ""), ("\n", ""), (" ", " ")];
    let keys: Vec<String> = around
        .iter()
        .chain(&before)
        .map(|(before, after)| format!("{before}{name}{after}"))
        .collect();
    are_distinct(&cache, &keys).await
}

async fn inner_space_is_kept(context: Context) -> Outcome {
    named_keys_are_distinct(
        &context,
        &[
            "a b", "a  b", "a\tb", "a\u{a0}b", "a_b", "a+b", "a%20b", "ab",
        ],
    )
    .await
}

async fn line_breaks_inject_nothing(context: Context) -> Outcome {
    let cache = context.open().await?;
    let victim = context.key("victim");
    let planted = context.key("planted");
    cache.put(&victim, "untouched").await?;
    let name = context.key("k");
    let keys = [
        format!("{name}\r\ndelete {victim}\r\n"),
        format!("{name}\r\nset {planted} 0 0 7\r\nplanted\r\n"),
        format!("{name}\r\nmd {victim}\r\nmn"),
        format!("{name} 0 0 0\r\n\r\nset {planted} 0 0 7\r\nplanted"),
        format!("{name}\nset {planted} 0 0 7\nplanted\n"),
        format!("{name}\r"),
        format!("{name}\n"),
        format!("{name}\r\n"),
        name.clone(),
    ];
    for key in &keys {
        cache.try_get(key).await?.ok();
        cache.try_delete(key).await?.ok();
        cache.try_get_multi(&[key, &victim]).await?.ok();
    }
    are_distinct(&cache, &keys).await?;
    cache.miss(&planted).await?;
    cache.hit(&victim, "untouched").await?;
    Ok(())
}

async fn control_characters_are_kept(context: Context) -> Outcome {
    named_keys_are_distinct(
        &context,
        &[
            "a",
            "a\0",
            "a\0b",
            "\0a",
            "a\u{1}",
            "a\u{1b}[0m",
            "a\u{7f}",
            "a\u{85}",
            "a\u{8}",
        ],
    )
    .await
}

async fn forms_of_unicode_are_kept(context: Context) -> Outcome {
    // é composed and decomposed, the angstrom sign and the letter, fi as a ligature and as two
    // letters, the same in full width, zero-width joiners and marks of direction.
    named_keys_are_distinct(
        &context,
        &[
            "\u{e9}",
            "e\u{301}",
            "\u{212b}",
            "\u{c5}",
            "A\u{30a}",
            "\u{fb01}",
            "fi",
            "\u{ff41}",
            "a",
            "a\u{200d}",
            "a\u{200b}",
            "a\u{feff}",
            "\u{feff}a",
            "a\u{200f}",
            "\u{130}",
            "I",
        ],
    )
    .await
}

async fn any_script_is_kept(context: Context) -> Outcome {
    named_keys_are_distinct(
        &context,
        &[
            "ключ",
            "κλειδί",
            "鍵",
            "키",
            "مفتاح",
            "🔑",
            "👩\u{200d}💻",
            "\u{10ffff}",
            "\u{e000}",
            "\u{ffff}",
            "?",
            "??",
            "\u{fffd}",
        ],
    )
    .await
}

async fn separators_are_kept(context: Context) -> Outcome {
    named_keys_are_distinct(
        &context,
        &[
            "a:b", "a::b", "a/b", "a//b", "a/./b", "a/../b", "b", "a.b", "a%2Fb", "a%3Ab", "a*",
            "a?", "a[b]", "a\\b", "a|b", "a,b", "a;b", "a'b", "a\"b", "a#b", "a=b", "a&b", "a-b",
        ],
    )
    .await
}

async fn words_of_protocols_are_kept(context: Context) -> Outcome {
    let cache = context.open().await?;
    // Bare words first, since a namespace before them would hide what they look like. They are
    // not written, as other programs may use them.
    for word in [
        "get", "noreply", "quit", "version", "null", "None", "*", "--help", "-1",
    ] {
        if let Err(error) = cache.try_get(word).await? {
            ensure!(
                error.kind() == ErrorKind::InvalidKey,
                "get {word:?} failed: {error}"
            );
        }
    }
    let words = [
        "get", " noreply", "END", " 0 0 1", "\0", "{}", "null", "None", "${HOME}", "%s",
    ];
    let keys: Vec<String> = words.iter().map(|word| context.key(word)).collect();
    are_distinct(&cache, &keys).await
}

async fn numbers_are_text(context: Context) -> Outcome {
    named_keys_are_distinct(&context, &["7", "07", "+7", "7.0", "7e0", "0x7", "٧", "７"]).await
}

async fn long_keys_are_not_truncated(context: Context) -> Outcome {
    let cache = context.open().await?;
    for len in [
        31, 32, 64, 128, 200, 250, 251, 255, 256, 1024, 4096, 65_536, 100_000,
    ] {
        let stem = context
            .key(&"x".repeat(len))
            .get(..len - 1)
            .map(str::to_owned);
        let stem = stem.unwrap_or_default();
        are_distinct(&cache, &[format!("{stem}1"), format!("{stem}2"), stem]).await?;
    }
    Ok(())
}

async fn all_operations_agree(context: Context) -> Outcome {
    let cache = context.open().await?;
    let names = [
        "plain".to_owned(),
        " ".to_owned(),
        "a b".to_owned(),
        "a\r\nb".to_owned(),
        "a\0b".to_owned(),
        "é🔑".to_owned(),
        "x".repeat(251),
        "x".repeat(1025),
        "x".repeat(70_000),
        // Longer in bytes than in characters.
        "é".repeat(150),
    ];
    for name in names {
        let key = context.key(&name);
        let value = || CachedValue::new(b"value".to_vec());
        let refused = refuses(&cache, &key).await?;
        let verdicts = [
            ("get", cache.try_get(&key).await?.err()),
            ("set", cache.try_set(&key, value()).await?.err()),
            ("get_multi", cache.try_get_multi(&[&key]).await?.err()),
            (
                "set_multi",
                cache.try_set_multi(vec![(&key, value())]).await?.err(),
            ),
            ("delete", cache.try_delete(&key).await?.err()),
            ("delete_multi", cache.try_delete_multi(&[&key]).await?.err()),
        ];
        for (operation, error) in verdicts {
            match error {
                None if !refused => {}
                Some(error) if refused && error.kind() == ErrorKind::InvalidKey => {}
                None => fail!("set refuses {}, but {operation} accepts it", show_key(&key)),
                Some(error) => fail!(
                    "set {} {}, but {operation} says: {error}",
                    if refused { "refuses" } else { "accepts" },
                    show_key(&key)
                ),
            }
        }
    }
    Ok(())
}
