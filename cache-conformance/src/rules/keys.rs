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
    encoded_keys_do_not_collide:
        "A key that looks like another key in base64, hexadecimal, percent signs or escapes is a \
         different key.";
    long_keys_are_not_truncated:
        "Long keys that differ only in their last character are different keys, or refused.";
    all_operations_agree:
        "A key that one operation refuses is refused by all of them.";
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

/// Payloads of several lengths under a plain key, and a short one under each unusual key that is
/// kept. They need not be stored.
pub(super) async fn kept_values(
    context: &Context,
    cache: &Cache,
) -> Outcome<Vec<(String, Vec<u8>)>> {
    let lengths = [0, 1, 1_000, 3_000, 70_000, usize::MAX];
    let lengths = lengths.map(|len| len.min(context.capabilities().large_value()));
    let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
    for (number, len) in lengths.into_iter().enumerate() {
        kept.push((
            context.key(&format!("length-{number}")),
            context.rng().bytes(len),
        ));
    }
    for key in odd_keys(cache, context).await? {
        if !key.is_empty() && !refuses(cache, &key).await? {
            kept.push((key, b"value".to_vec()));
        }
    }
    Ok(kept)
}

/// Sets [`kept_values`] with their metadata, by `set_multi` or one by one.
pub(super) async fn set_kept(
    cache: &Cache,
    kept: &[(String, Vec<u8>)],
    value: impl Fn(&[u8]) -> CachedValue<Vec<u8>>,
    in_one_call: bool,
) -> Outcome {
    if in_one_call {
        let entries = kept.iter();
        let entries = entries.map(|(key, payload)| (key.as_str(), value(payload)));
        return cache.set_multi(entries.collect()).await;
    }
    for (key, payload) in kept {
        cache.set(key, value(payload)).await?;
    }
    Ok(())
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
    let neighbor = context.key("k");
    cache.put(&neighbor, "neighbor").await?;
    if !refuses(&cache, "").await? {
        cache.put("", "value").await?;
        cache.hit("", "value").await?;
        let both: [Option<&[u8]>; 2] = [Some(b"value"), Some(b"neighbor")];
        cache.answers(&["", &neighbor], &both).await?;
        cache.delete("").await?;
        cache.miss("").await?;
        cache
            .put_multi(&[(&neighbor, b"neighbor"), ("", b"value")])
            .await?;
        cache.answers(&["", &neighbor], &both).await?;
        cache.delete_multi(&[""]).await?;
        return cache
            .answers(&["", &neighbor], &[None, Some(b"neighbor")])
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
    cache.hit(&neighbor, "neighbor").await?;
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

async fn encoded_keys_do_not_collide(context: Context) -> Outcome {
    let cache = context.open().await?;
    for name in ["a b", "a\r\nb", "é", "a%b"] {
        let key = context.key(name);
        let mut keys: Vec<String> = ENCODINGS.iter().map(|encode| encode(&key)).collect();
        keys.push(key);
        keys.sort_unstable();
        keys.dedup();
        are_distinct(&cache, &keys).await?;
    }
    Ok(())
}

/// How backends write keys that their protocol does not allow.
const ENCODINGS: &[fn(&str) -> String] = &[
    |key| base64(key, *b"+/"),
    |key| base64(key, *b"-_"),
    |key| base64(key, *b"+/").trim_end_matches('=').to_owned(),
    |key| base64(key, *b"-_").trim_end_matches('=').to_owned(),
    |key| bytewise(key, |_| false, |byte| format!("{byte:02x}")),
    |key| bytewise(key, |_| false, |byte| format!("{byte:02X}")),
    |key| bytewise(key, |byte| byte.is_ascii_alphanumeric(), percent),
    |key| bytewise(key, |byte| byte.is_ascii_graphic(), percent),
    |key| bytewise(key, |byte| byte.is_ascii_graphic() && byte != b'%', percent),
    |key| bytewise(key, |byte| (b' '..=b'~').contains(&byte), percent),
    |key| {
        bytewise(
            key,
            |byte| byte.is_ascii_graphic(),
            |byte| format!("\\x{byte:02x}"),
        )
    },
    |key| key.escape_default().to_string(),
    |key| key.escape_debug().to_string(),
];

fn percent(byte: u8) -> String {
    format!("%{byte:02X}")
}

/// Each byte as it is or encoded.
fn bytewise(key: &str, is_plain: fn(u8) -> bool, encode: fn(u8) -> String) -> String {
    let mut encoded = String::new();
    for byte in key.bytes() {
        if is_plain(byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&encode(byte));
        }
    }
    encoded
}

/// Base64 with padding; the alphabets differ in the last two digits.
fn base64(key: &str, last: [u8; 2]) -> String {
    let digit = |value: u32| match u8::try_from(value & 63).unwrap_or_default() {
        value @ 0..26 => b'A' + value,
        value @ 26..52 => b'a' + (value - 26),
        value @ 52..62 => b'0' + (value - 52),
        62 => last[0],
        _ => last[1],
    };
    let mut text = String::new();
    for group in key.as_bytes().chunks(3) {
        let bytes = [0, 1, 2].map(|i| group.get(i).copied().unwrap_or_default());
        let word = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let is_padding = place > group.len();
            text.push(if is_padding {
                '='
            } else {
                char::from(digit(word >> shift))
            });
        }
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_encoded_as_usual() {
        let all =
            |key: &str| -> Vec<String> { ENCODINGS.iter().map(|encode| encode(key)).collect() };
        for (key, encoded) in [
            ("light w", "bGlnaHQgdw=="),
            ("light w", "bGlnaHQgdw"),
            ("light wo", "bGlnaHQgd28="),
            ("light wor", "bGlnaHQgd29y"),
            ("~~>~", "fn4+fg=="),
            ("~~>~", "fn4-fg"),
            ("a b", "612062"),
            ("k: é", "k%3A%20%C3%A9"),
            ("k: é", "k:%20%C3%A9"),
            ("k: é", "k: %C3%A9"),
            ("a b", "a\\x20b"),
            ("a\r\n", "a\\r\\n"),
        ] {
            assert!(all(key).contains(&encoded.to_owned()), "{key} {encoded}");
        }
    }
}
