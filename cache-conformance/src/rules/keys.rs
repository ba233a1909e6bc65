//! A key is kept exactly, or refused.

use std::collections::HashMap;

use cache_core::{CachedValue, ErrorKind};

use crate::context::{Cache, Context, Outcome};
use crate::failure::{ensure, fail};
use crate::rule::{Rule, rules};
use crate::show;

use super::source::KEYS;

rules! {
    ($) keys, __rules_of_keys, KEYS, Rule::as_listed;

    the_empty_key_is_kept_or_refused:
        "The empty key is a key like any other, or every operation refuses it with `InvalidKey`.";
    case_is_kept: "Keys that differ only in case are different keys.";
    surrounding_space_is_kept:
        "Keys that differ only in leading or trailing white space are different keys, or refused.";
    inner_space_is_kept:
        "Keys that differ only in inner white space are different keys, or refused.";
    line_breaks_inject_nothing:
        "A key that contains CR LF and a command is kept or refused, and affects no other key.";
    control_characters_are_kept:
        "Keys that differ only in control characters, including NUL, are different keys, or \
         refused.";
    unicode_forms_are_kept:
        "Keys that are equivalent in Unicode are different keys, or refused.";
    any_script_is_kept:
        "Keys in any script, including emoji and unassigned characters, are kept or refused.";
    separators_are_kept:
        "Slashes, colons, dots, percent signs and wildcards in keys have no special meaning.";
    protocol_words_are_kept: "Keys that look like commands, options or numbers are keys.";
    numbers_are_text: "Different spellings of the same number are different keys.";
    leading_and_trailing_separators_are_kept:
        "Keys that differ only in slashes, dots and colons at either end are different keys.";
    colliding_keys_are_distinguished:
        "Keys that collide under CRC-32, FNV-1a, Java's and Bernstein's hash are different keys.";
    long_keys_are_not_truncated:
        "Long keys that differ only in their last character are different keys, or refused.";
    all_operations_agree:
        "A key that one operation refuses is refused by all of them, and by `check_key`.";
}

/// Whether `set` refuses `key`.
pub(super) async fn refuses(cache: &Cache, key: &str) -> Outcome<bool> {
    match cache
        .try_set(key, CachedValue::new(b"probe".to_vec()))
        .await?
    {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == ErrorKind::InvalidKey => Ok(true),
        Err(error) => fail!(
            "set {}: expected the key to be kept, or refused with InvalidKey; got {error}",
            show::key(key)
        ),
    }
}

/// Keys that some backends refuse. The empty key is included only if it is refused: otherwise it is
/// the same key for all users of the store.
pub(super) async fn odd_keys(cache: &Cache, context: &Context) -> Outcome<Vec<String>> {
    let names = [
        "a b",
        "a\r\nb",
        "a\0b",
        "a\u{1b}[31mb",
        "a\u{2028}b\u{85}c",
        "é🔑",
    ];
    let mut keys: Vec<String> = names.iter().map(|name| context.key(name)).collect();
    let mut lengths = vec![300, 5_000, 70_000];
    lengths.extend(context.capabilities().max_key.map(|max| max + 1));
    for len in lengths {
        keys.push(of_length(&context.key(""), "x", len));
        keys.push(of_length(&context.key(""), "x\r\n", len));
        keys.push(of_length(&context.key(""), "é", len));
    }
    match cache.try_get("").await? {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::InvalidKey => keys.push(String::new()),
        Err(error) => fail!("get \"\": expected a result or InvalidKey, got {error}"),
    }
    Ok(keys)
}

/// `start`, and then `unit` repeated, up to at least `len` bytes.
fn of_length(start: &str, unit: &str, len: usize) -> String {
    let missing = len.saturating_sub(start.len());
    format!("{start}{}", unit.repeat(missing.div_ceil(unit.len())))
}

/// All `keys` that are not refused are different keys, in single and multi operations.
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
        let found = cache.get(key).await?;
        let payload = found.as_ref().map(|found| found.payload().as_slice());
        let other = kept
            .iter()
            .find(|other| payload == Some(format!("of {other}").as_bytes()));
        if let Some(other) = other.filter(|other| *other != key) {
            fail!(
                "get {}: expected its own value, got that of {}: the backend takes the two keys \
                 for one, though {}",
                show::key(key),
                show::key(other),
                show::key_difference(key, other)
            );
        }
        cache.hit(key, format!("of {key}")).await?;
    }
    let payloads: Vec<Vec<u8>> = kept
        .iter()
        .map(|key| format!("of {key}").into_bytes())
        .collect();
    let mut expected: Vec<Option<&[u8]>> = payloads.iter().map(|p| Some(p.as_slice())).collect();
    cache.answers(&kept, &expected).await?;
    // Each deletion removes its own key and no similar one.
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

async fn the_empty_key_is_kept_or_refused(context: Context) -> Outcome {
    let cache = context.open().await?;
    let value = || CachedValue::new(b"value".to_vec());
    let neighbour = context.key("k");
    cache.put(&neighbour, "neighbour").await?;
    if !refuses(&cache, "").await? {
        cache.put("", "value").await?;
        cache.hit("", "value").await?;
        let both: [Option<&[u8]>; 2] = [Some(b"value"), Some(b"neighbour")];
        cache.answers(&["", &neighbour], &both).await?;
        cache.delete("").await?;
        cache.miss("").await?;
        cache
            .put_multi(&[(&neighbour, b"neighbour"), ("", b"value")])
            .await?;
        cache.answers(&["", &neighbour], &both).await?;
        cache.delete_multi(&[""]).await?;
        return cache
            .answers(&["", &neighbour], &[None, Some(b"neighbour")])
            .await;
    }
    let mut read = cache.try_get_multi(&[""]).await?;
    let refusals = [
        ("get", cache.try_get("").await?.err()),
        ("delete", cache.try_delete("").await?.err()),
        ("get_multi", read.pop().and_then(Result::err)),
        (
            "set_multi",
            cache.try_set_multi(vec![("", value())]).await?.err(),
        ),
        ("delete_multi", cache.try_delete_multi(&[""]).await?.err()),
    ];
    for (operation, refusal) in refusals {
        match refusal {
            Some(error) if error.kind() == ErrorKind::InvalidKey => {}
            Some(error) => fail!("{operation} \"\": expected InvalidKey, as for set, got {error}"),
            None => fail!("{operation} \"\": expected InvalidKey, as for set, got success"),
        }
    }
    cache.hit(&neighbour, "neighbour").await?;
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
        cache.try_get_multi(&[key, &victim]).await?;
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

async fn unicode_forms_are_kept(context: Context) -> Outcome {
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
            "a%", "a%%", "a%25", "%a", "a?", "a[b]", "a\\b", "a|b", "a,b", "a;b", "a'b", "a\"b",
            "a#b", "a=b", "a&b", "a-b",
        ],
    )
    .await
}

async fn protocol_words_are_kept(context: Context) -> Outcome {
    let cache = context.open().await?;
    // Bare words first, because a prefix would hide them. They are not written, because other
    // programs may use them.
    for word in [
        "get", "noreply", "quit", "version", "null", "None", "*", "--help", "-1",
    ] {
        if let Err(error) = cache.try_get(word).await? {
            ensure!(
                error.kind() == ErrorKind::InvalidKey,
                "get {word:?}: expected a result or InvalidKey, got {error}"
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
    let names = [
        "7", "07", "007", "+7", "-7", "7.0", "7e0", "0x7", "7_", "٧", "７", "0", "00", "-0",
    ];
    named_keys_are_distinct(&context, &names).await
}

async fn leading_and_trailing_separators_are_kept(context: Context) -> Outcome {
    let cache = context.open().await?;
    let name = context.key("k");
    let ends = [
        "", "/", "//", ".", "..", "/.", "/..", ":", "::", "%", "*", "\\", "~",
    ];
    let mut keys: Vec<String> = ends.iter().map(|end| format!("{name}{end}")).collect();
    keys.extend(ends.iter().skip(1).map(|end| format!("{end}{name}")));
    are_distinct(&cache, &keys).await
}

async fn colliding_keys_are_distinguished(context: Context) -> Outcome {
    let cache = context.open().await?;
    let mut keys = Vec::new();
    // Whatever the prefix: both sums depend only on the difference.
    for name in ["plumless", "buckeroo"] {
        keys.push(context.key(name));
    }
    for name in ["Aa", "BB", "B@", "AaAa", "BBBB", "AaBB", "BBAa"] {
        keys.push(context.key(name));
    }
    keys.extend(colliding_by_fnv(&context.key("")));
    are_distinct(&cache, &keys).await
}

/// Two keys of equal length with the same 32-bit FNV-1a hash.
fn colliding_by_fnv(start: &str) -> [String; 2] {
    let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let common = start.bytes().fold(0x811c_9dc5, step);
    let mut seen: HashMap<u32, u32> = HashMap::new();
    let mut number = 0;
    loop {
        let name = format!("{number:08x}");
        let hash = name.bytes().fold(common, step);
        if let Some(other) = seen.insert(hash, number) {
            return [format!("{start}{other:08x}"), format!("{start}{name}")];
        }
        // Consecutive numbers would be spread too evenly to collide.
        number = number.wrapping_mul(0x9e37_79b1).wrapping_add(0x7f4a_7c15);
    }
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
            (
                "get_multi",
                cache
                    .try_get_multi(&[&key])
                    .await?
                    .pop()
                    .and_then(Result::err),
            ),
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
                None => fail!(
                    "{operation} {}: expected InvalidKey, as for set, got success",
                    show::key(&key)
                ),
                Some(error) => fail!(
                    "{operation} {}: expected {}, as for set, got {error}",
                    show::key(&key),
                    if refused { "InvalidKey" } else { "success" }
                ),
            }
        }
    }
    Ok(())
}
