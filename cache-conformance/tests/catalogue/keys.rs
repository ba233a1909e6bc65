//! Wrong about keys, and in what errors say of them.

use cache_core::{ErrorKind, Result};

use super::{Wrong, wrong};
use crate::support::mutant::{MAX_KEY, Mutant, check_key, error};

pub(crate) fn keys() -> Vec<Wrong> {
    let mut all = renamed_keys();
    all.extend(other_keys());
    all
}

/// Whatever the length, so that the length is not what is found out.
fn any_length(_: &'static str, key: &str) -> Result<()> {
    check_key(key.get(..1).unwrap_or(key))
}

fn renamed_keys() -> Vec<Wrong> {
    vec![
        wrong(
            "keys::case_is_kept",
            "folds case",
            Mutant::new().keys(str::to_lowercase),
        ),
        wrong(
            "keys::case_is_kept",
            "folds case beyond ASCII",
            Mutant::new().keys(|key| key.replace("ß", "SS").to_uppercase()),
        ),
        wrong(
            "keys::surrounding_space_is_kept",
            "trims keys",
            Mutant::new().keys(|key| key.trim().to_owned()),
        ),
        wrong(
            "keys::surrounding_space_is_kept",
            "trims line ends of keys",
            Mutant::new().keys(|key| key.trim_end_matches('\n').to_owned()),
        ),
        wrong(
            "keys::inner_space_is_kept",
            "writes underscores for spaces",
            Mutant::new().keys(|key| key.replace(' ', "_")),
        ),
        wrong(
            "keys::inner_space_is_kept",
            "decodes percent signs",
            Mutant::new().keys(|key| key.replace("%20", " ")),
        ),
        wrong(
            "keys::control_characters_are_kept",
            "ends keys at NUL",
            Mutant::new().keys(|key| key.split('\0').next().unwrap_or_default().to_owned()),
        ),
        wrong(
            "keys::control_characters_are_kept",
            "drops control characters",
            Mutant::new().keys(|key| key.replace(char::is_control, "")),
        ),
        wrong(
            "keys::forms_of_unicode_are_kept",
            "composes characters",
            Mutant::new().keys(|key| key.replace("e\u{301}", "\u{e9}")),
        ),
        wrong(
            "keys::forms_of_unicode_are_kept",
            "drops the byte order mark",
            Mutant::new().keys(|key| key.replace('\u{feff}', "")),
        ),
        wrong(
            "keys::any_script_is_kept",
            "writes question marks for what is not Latin",
            Mutant::new().keys(|key| key.replace(|c: char| c > '\u{ff}', "?")),
        ),
        wrong(
            "keys::any_script_is_kept",
            "replaces what its charset lacks",
            Mutant::new().keys(|key| key.replace(|c: char| c > '\u{fffd}', "\u{fffd}")),
        ),
        wrong(
            "keys::separators_are_kept",
            "tidies up paths",
            Mutant::new().keys(|key| key.replace("/./", "/").replace("//", "/")),
        ),
        wrong(
            "keys::separators_are_kept",
            "writes slashes for colons",
            Mutant::new().keys(|key| key.replace(':', "/")),
        ),
        wrong(
            "keys::numbers_are_text",
            "drops leading zeros",
            Mutant::new().keys(|key| key.replace(":0", ":")),
        ),
        wrong(
            "keys::long_keys_are_not_truncated",
            "cuts long keys",
            Mutant::new().check(any_length).keys(|key| {
                let end = (0..=MAX_KEY).rev().find(|end| key.is_char_boundary(*end));
                key.get(..end.unwrap_or(0)).unwrap_or(key).to_owned()
            }),
        ),
        wrong(
            "keys::long_keys_are_not_truncated",
            "tells long keys apart by their length alone",
            Mutant::new().check(any_length).keys(|key| {
                let start: String = key.chars().take(200).collect();
                format!("{start}{}", key.len())
            }),
        ),
    ]
}

fn other_keys() -> Vec<Wrong> {
    vec![
        wrong(
            "keys::the_empty_key_is_refused",
            "takes the empty key",
            Mutant::new().check(|_, key| match key {
                "" => Ok(()),
                key => check_key(key),
            }),
        ),
        wrong(
            "keys::the_empty_key_is_refused",
            "deletes under the empty key",
            Mutant::new().check(|operation, key| match (operation, key) {
                ("delete", "") => Ok(()),
                _ => check_key(key),
            }),
        ),
        wrong(
            "keys::line_breaks_inject_nothing",
            "runs commands in keys",
            Mutant::new().set(|store, key, value| {
                if let Some((_, command)) = key.split_once("\r\ndelete ") {
                    store.remove(command.trim_end());
                }
                store.write(key, value);
                Ok(())
            }),
        ),
        wrong(
            "keys::words_of_protocols_are_kept",
            "chokes on words of its protocol",
            Mutant::new().get(|store, key| match key {
                "noreply" => Err(error(ErrorKind::Protocol, "unexpected answer")),
                _ => Ok(store.read(key)),
            }),
        ),
        wrong(
            "keys::words_of_protocols_are_kept",
            "takes the word null for nothing",
            Mutant::new().get(|store, key| Ok(store.read(key).filter(|_| !key.ends_with("null")))),
        ),
        wrong(
            "keys::all_operations_agree",
            "refuses in set what it takes in get",
            Mutant::new().check(|operation, key| match operation {
                "set" if key.contains(' ') => refuse(key, "it has a space"),
                _ => check_key(key),
            }),
        ),
        wrong(
            "keys::all_operations_agree",
            "says that it takes what it refuses",
            Mutant::new().check(|operation, key| match operation {
                "check_key" if !key.is_empty() => Ok(()),
                _ => check_key(key),
            }),
        ),
    ]
}

fn refuse(key: &str, why: &str) -> Result<()> {
    Err(error(ErrorKind::InvalidKey, why).with_key(key))
}

pub(crate) fn errors() -> Vec<Wrong> {
    vec![
        wrong(
            "errors::the_refused_key_is_named",
            "does not name the key",
            Mutant::new().check(|_, key| {
                check_key(key).map_err(|refusal| refusal.with_keys(Vec::<String>::new()))
            }),
        ),
        wrong(
            "errors::the_refused_key_is_named",
            "calls the key by another name",
            Mutant::new().check(|_, key| {
                check_key(key).map_err(|refusal| refusal.with_key(format!("prefix:{key}")))
            }),
        ),
        wrong(
            "errors::the_backend_and_the_reason_are_named",
            "says nothing",
            Mutant::new().check(|_, key| check_key(key).or_else(|_| refuse(key, ""))),
        ),
        wrong(
            "errors::a_refused_key_is_not_transient",
            "asks to try again with the same key",
            Mutant::new().check(|operation, key| {
                check_key(key).map_err(|refusal| match operation {
                    "get" => error(ErrorKind::Unavailable, refusal.message()),
                    _ => refusal,
                })
            }),
        ),
        wrong(
            "errors::payloads_are_not_shown",
            "shows what was to be set",
            Mutant::new()
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
            "errors::keys_do_not_break_lines",
            "prints keys as they are",
            Mutant::new().check(|_, key| {
                check_key(key).or_else(|_| refuse(key, &key.chars().take(60).collect::<String>()))
            }),
        ),
        wrong(
            "errors::long_keys_are_shortened",
            "prints keys in full",
            Mutant::new().check(|_, key| {
                check_key(key).or_else(|_| refuse(key, &format!("{key:?} is bad")))
            }),
        ),
    ]
}
