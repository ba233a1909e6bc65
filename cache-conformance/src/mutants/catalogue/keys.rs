//! Mutants about keys, and about errors that name them.

use cache_core::{ErrorKind, Result};

use crate::mutants::backend::{Backend, MAX_KEY, check_key, error, set};
use crate::mutants::mutant::{Mutant, wrong};

pub(super) fn keys() -> Vec<Mutant> {
    let mut all = renamed_keys();
    all.extend(other_keys());
    all
}

/// Keeps the length, so that the rule does not detect the bug by the length.
fn any_length(_: &'static str, key: &str) -> Result<()> {
    check_key(key.get(..1).unwrap_or(key))
}

fn renamed_keys() -> Vec<Mutant> {
    vec![
        wrong(
            "keys::case_is_kept",
            "folds case",
            Backend::right().keys(str::to_lowercase),
        ),
        wrong(
            "keys::case_is_kept",
            "folds case beyond ASCII",
            Backend::right().keys(|key| key.replace("ß", "SS").to_uppercase()),
        ),
        wrong(
            "keys::surrounding_space_is_kept",
            "trims keys",
            Backend::right().keys(|key| key.trim().to_owned()),
        ),
        wrong(
            "keys::surrounding_space_is_kept",
            "trims line ends of keys",
            Backend::right().keys(|key| key.trim_end_matches('\n').to_owned()),
        ),
        wrong(
            "keys::inner_space_is_kept",
            "replaces spaces with underscores",
            Backend::right().keys(|key| key.replace(' ', "_")),
        ),
        wrong(
            "keys::inner_space_is_kept",
            "decodes percent signs",
            Backend::right().keys(|key| key.replace("%20", " ")),
        ),
        wrong(
            "keys::control_characters_are_kept",
            "ends keys at NUL",
            Backend::right().keys(|key| key.split('\0').next().unwrap_or_default().to_owned()),
        ),
        wrong(
            "keys::control_characters_are_kept",
            "drops control characters",
            Backend::right().keys(|key| key.replace(char::is_control, "")),
        ),
        wrong(
            "keys::unicode_forms_are_kept",
            "composes characters",
            Backend::right().keys(|key| key.replace("e\u{301}", "\u{e9}")),
        ),
        wrong(
            "keys::unicode_forms_are_kept",
            "drops the byte order mark",
            Backend::right().keys(|key| key.replace('\u{feff}', "")),
        ),
        wrong(
            "keys::any_script_is_kept",
            "replaces non-Latin characters with question marks",
            Backend::right().keys(|key| key.replace(|c: char| c > '\u{ff}', "?")),
        ),
        wrong(
            "keys::any_script_is_kept",
            "replaces characters that its charset lacks",
            Backend::right().keys(|key| key.replace(|c: char| c > '\u{fffd}', "\u{fffd}")),
        ),
        wrong(
            "keys::separators_are_kept",
            "normalizes paths",
            Backend::right().keys(|key| key.replace("/./", "/").replace("//", "/")),
        ),
        wrong(
            "keys::separators_are_kept",
            "replaces colons with slashes",
            Backend::right().keys(|key| key.replace(':', "/")),
        ),
        wrong(
            "keys::numbers_are_text",
            "drops leading zeros",
            Backend::right().keys(|key| key.replace(":0", ":")),
        ),
        wrong(
            "keys::encoded_keys_do_not_collide",
            "writes unusual keys in hexadecimal without a mark",
            Backend::right().keys(|key| {
                if key.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return key.to_owned();
                }
                let digits = key.bytes().map(|byte| format!("{byte:02x}"));
                digits.collect::<Vec<_>>().concat()
            }),
        ),
        wrong(
            "keys::encoded_keys_do_not_collide",
            "writes bytes with percent signs, but not the percent sign itself",
            Backend::right().keys(|key| {
                let encoded = key.bytes().map(|byte| match byte {
                    b' '..=b'~' => char::from(byte).to_string(),
                    _ => format!("%{byte:02X}"),
                });
                encoded.collect()
            }),
        ),
        wrong(
            "keys::encoded_keys_do_not_collide",
            "escapes line breaks, but not the backslash",
            Backend::right().keys(|key| key.replace('\r', "\\r").replace('\n', "\\n")),
        ),
        wrong(
            "keys::long_keys_are_not_truncated",
            "truncates long keys",
            Backend::right().check(any_length).keys(|key| {
                let end = (0..=MAX_KEY).rev().find(|end| key.is_char_boundary(*end));
                key.get(..end.unwrap_or(0)).unwrap_or(key).to_owned()
            }),
        ),
        wrong(
            "keys::long_keys_are_not_truncated",
            "distinguishes long keys only by their length",
            Backend::right().check(any_length).keys(|key| {
                let start: String = key.chars().take(200).collect();
                format!("{start}{}", key.len())
            }),
        ),
    ]
}

fn other_keys() -> Vec<Mutant> {
    vec![
        wrong(
            "keys::the_empty_key_is_kept_or_refused",
            "treats the empty key as no key",
            Backend::right()
                .check(|_, key| match key {
                    "" => Ok(()),
                    key => check_key(key),
                })
                .set(|store, key, value| {
                    if !key.is_empty() {
                        store.write(key, value);
                    }
                    Ok(())
                }),
        ),
        wrong(
            "keys::the_empty_key_is_kept_or_refused",
            "deletes under the empty key",
            Backend::right().check(|operation, key| match (operation, key) {
                ("delete", "") => Ok(()),
                _ => check_key(key),
            }),
        ),
        wrong(
            "keys::leading_and_trailing_separators_are_kept",
            "trims slashes",
            Backend::right().keys(|key| key.trim_matches('/').to_owned()),
        ),
        wrong(
            "keys::leading_and_trailing_separators_are_kept",
            "drops dots at the end, as some file systems do",
            Backend::right().keys(|key| key.trim_end_matches('.').to_owned()),
        ),
        wrong(
            "keys::colliding_keys_are_distinguished",
            "stores values by the FNV-1a hash of their key",
            Backend::right().keys(|key| {
                let step = |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
                key.bytes().fold(0x811c_9dc5, step).to_string()
            }),
        ),
        wrong(
            "keys::colliding_keys_are_distinguished",
            "stores values by Java's hash of their key",
            Backend::right().keys(|key| polynomial(key, 31)),
        ),
        wrong(
            "keys::colliding_keys_are_distinguished",
            "stores values by Bernstein's hash of their key",
            Backend::right().keys(|key| polynomial(key, 33)),
        ),
        wrong(
            "keys::colliding_keys_are_distinguished",
            "stores values by the CRC-32 of their key",
            Backend::right().keys(|key| crc32(key).to_string()),
        ),
        wrong(
            "keys::line_breaks_inject_nothing",
            "runs commands in keys",
            Backend::right().set(|store, key, value| {
                if let Some((_, command)) = key.split_once("\r\ndelete ") {
                    store.remove(command.trim_end());
                }
                store.write(key, value);
                Ok(())
            }),
        ),
        wrong(
            "keys::protocol_words_are_kept",
            "fails on words of its protocol",
            Backend::right().get(|store, key| match key {
                "noreply" => Err(error(ErrorKind::Protocol, "unexpected answer")),
                _ => Ok(store.read(key)),
            }),
        ),
        wrong(
            "keys::protocol_words_are_kept",
            "treats the key null as no key",
            Backend::right()
                .get(|store, key| Ok(store.read(key).filter(|_| !key.ends_with("null")))),
        ),
        wrong(
            "keys::all_operations_agree",
            "refuses keys in set that it accepts in get",
            Backend::right().check(|operation, key| match operation {
                "set" if key.contains(' ') => refuse(key, "it has a space"),
                _ => check_key(key),
            }),
        ),
        wrong(
            "keys::all_operations_agree",
            "refuses keys only in reads",
            Backend::right().check(|operation, key| match operation {
                "get_multi" if key.contains(' ') => refuse(key, "it has a space"),
                _ => check_key(key),
            }),
        ),
    ]
}

fn polynomial(key: &str, factor: u32) -> String {
    let step = |hash: u32, byte| hash.wrapping_mul(factor).wrapping_add(u32::from(byte));
    key.bytes().fold(5381, step).to_string()
}

fn crc32(key: &str) -> u32 {
    let mut crc = u32::MAX;
    for byte in key.bytes() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

fn refuse(key: &str, why: &str) -> Result<()> {
    Err(error(ErrorKind::InvalidKey, why).with_key(key))
}

pub(super) fn errors() -> Vec<Mutant> {
    vec![
        wrong(
            "errors::the_refused_key_is_named",
            "does not name the key",
            Backend::right().check(|_, key| {
                check_key(key).map_err(|refusal| refusal.with_keys(Vec::<String>::new()))
            }),
        ),
        wrong(
            "errors::the_refused_key_is_named",
            "names a different key",
            Backend::right().check(|_, key| {
                check_key(key).map_err(|refusal| refusal.with_key(format!("prefix:{key}")))
            }),
        ),
        wrong(
            "errors::the_backend_and_the_reason_are_named",
            "returns errors without a message",
            Backend::right().check(|_, key| check_key(key).or_else(|_| refuse(key, ""))),
        ),
        wrong(
            "errors::a_refused_key_is_not_transient",
            "reports a refused key as transient",
            Backend::right().check(|operation, key| {
                check_key(key).map_err(|refusal| match operation {
                    "get" => error(ErrorKind::Unavailable, refusal.message()),
                    _ => refusal,
                })
            }),
        ),
        wrong(
            "errors::payloads_are_not_shown",
            "shows the payload in an error",
            Backend::right()
                .check(|operation, key| match operation {
                    "set" => Ok(()),
                    _ => check_key(key),
                })
                .set(|store, key, value| {
                    if let Err(refusal) = check_key(key) {
                        let payload = value.payload();
                        return Err(refusal.with_source(format!("cannot send {payload:?}")));
                    }
                    store.write(key, value);
                    Ok(())
                }),
        ),
        wrong(
            "errors::payloads_are_not_shown",
            "shows the beginning of a payload that is too large",
            Backend::right().set(|store, key, value| {
                let payload = String::from_utf8_lossy(value.payload()).into_owned();
                set(store, key, value).map_err(|refusal| {
                    let payload: String = payload.chars().take(30).collect();
                    error(ErrorKind::ValueTooLarge, format!("{payload}… is too large"))
                        .with_keys(refusal.keys().to_vec())
                })
            }),
        ),
        wrong(
            "errors::keys_do_not_break_lines",
            "prints what it cannot decode",
            Backend::right().read(|store, key| {
                store
                    .fetch(key)
                    .map_err(|_| error(ErrorKind::Decode, "not understood:\n\u{1}").with_key(key))
            }),
        ),
        wrong(
            "errors::keys_do_not_break_lines",
            "prints keys as they are",
            Backend::right().check(|_, key| {
                check_key(key).or_else(|_| refuse(key, &key.chars().take(60).collect::<String>()))
            }),
        ),
        wrong(
            "errors::long_keys_are_shortened",
            "prints keys in full",
            Backend::right().check(|_, key| {
                check_key(key).or_else(|_| refuse(key, &format!("{key:?} is bad")))
            }),
        ),
    ]
}
