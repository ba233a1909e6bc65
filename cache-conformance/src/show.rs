//! The text forms of keys, values and times, and of their differences.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cache_core::{CachedValue, Ttl};

type Value = CachedValue<Vec<u8>>;

/// How many entries of a multi operation are shown.
pub(crate) const SHOWN: usize = 6;

pub(crate) fn key(key: &str) -> String {
    const SHOWN_CHARS: usize = 60;
    match key.char_indices().nth(SHOWN_CHARS) {
        None => format!("{key:?}"),
        Some((end, _)) => format!(
            "{:?}… of {} bytes",
            key.get(..end).unwrap_or(key),
            key.len()
        ),
    }
}

pub(crate) fn keys<K: AsRef<str>>(keys: &[K]) -> String {
    let shown = keys.iter().take(SHOWN).map(|one| key(one.as_ref()));
    let shown: Vec<String> = shown.collect();
    if keys.len() <= SHOWN {
        return format!("[{}]", shown.join(", "));
    }
    format!("[{}, …; {} in all]", shown.join(", "), keys.len())
}

pub(crate) fn payload(payload: &[u8]) -> String {
    const SHOWN_BYTES: usize = 40;
    let shown = payload.get(..SHOWN_BYTES).unwrap_or(payload);
    let more = if shown.len() < payload.len() {
        format!("… of {} bytes", payload.len())
    } else {
        String::new()
    };
    format!("\"{}\"{more}", shown.escape_ascii())
}

pub(crate) fn ttl(ttl: Ttl) -> String {
    match ttl {
        Ttl::Default => "Ttl::Default".to_owned(),
        Ttl::Never => "Ttl::Never".to_owned(),
        Ttl::For(time) => format!("Ttl::For({time:?})"),
    }
}

pub(crate) fn value(value: &Value) -> String {
    let shown = payload(value.payload());
    match value.ttl() {
        Ttl::Default | Ttl::Never => shown,
        Ttl::For(time) => format!("{shown} with {time:?} to live"),
    }
}

pub(crate) fn entry((name, entry): &(&str, Value)) -> String {
    format!("{} = {}", key(name), value(entry))
}

pub(crate) fn found(found: Option<&Value>) -> String {
    found.map_or_else(|| "a miss".to_owned(), value)
}

pub(crate) fn answer(answer: &cache_core::Result<Option<Value>>) -> String {
    match answer {
        Ok(answer) => found(answer.as_ref()),
        Err(error) => format!("the error \"{error}\""),
    }
}

pub(crate) fn answers(answers: &[cache_core::Result<Option<Value>>]) -> String {
    let shown = answers.iter().take(SHOWN).map(answer);
    let shown: Vec<String> = shown.collect();
    if answers.len() <= SHOWN {
        return format!("[{}]", shown.join("; "));
    }
    format!("[{}; …; {} in all]", shown.join("; "), answers.len())
}

/// What was expected and found, and where two payloads begin to differ.
pub(crate) fn expected_payload(expected: Option<&[u8]>, got: Option<&Value>) -> String {
    let shown = expected.map_or_else(|| "a miss".to_owned(), payload);
    let mut text = format!("expected {shown}, got {}", found(got));
    if let (Some(expected), Some(got)) = (expected, got) {
        text += &difference(expected, got.payload());
    }
    text
}

/// Where two payloads begin to differ, unless they are short.
fn difference(expected: &[u8], got: &[u8]) -> String {
    const AT_A_GLANCE: usize = 16;
    const AROUND: usize = 12;
    if expected.len() <= AT_A_GLANCE && got.len() <= AT_A_GLANCE {
        return String::new();
    }
    let same = expected.iter().zip(got).take_while(|(a, b)| a == b).count();
    let around = |bytes: &[u8]| {
        let end = bytes.len().min(same + AROUND);
        let shown = bytes.get(same..end).unwrap_or_default();
        if shown.is_empty() {
            "the end".to_owned()
        } else {
            format!("\"{}\"", shown.escape_ascii())
        }
    };
    format!(
        "; expected {} bytes, got {}; the first difference is at byte {same}: \
         {} expected, {} found",
        expected.len(),
        got.len(),
        around(expected),
        around(got)
    )
}

/// Where two keys begin to differ.
pub(crate) fn key_difference(one: &str, other: &str) -> String {
    let same = one.bytes().zip(other.bytes());
    let same = same.take_while(|(a, b)| a == b).count();
    format!("they differ from byte {same} on")
}

/// A time as a date, in UTC to the nanosecond.
pub(crate) fn time(time: SystemTime) -> String {
    const DAY: u64 = 86_400;
    let Ok(since) = time.duration_since(UNIX_EPOCH) else {
        let before = UNIX_EPOCH.duration_since(time).unwrap_or_default();
        return format!("{before:?} before 1970-01-01");
    };
    let (days, seconds) = (since.as_secs() / DAY, since.as_secs() % DAY);
    let (year, month, day) = date(days);
    let mut text = format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    let _ = write!(text, ".{:09} UTC", since.subsec_nanos());
    text
}

/// Year, month and day of the Gregorian calendar, `days` days after 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day is the last day of a year.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

/// Two times, and how far they are apart.
pub(crate) fn expected_time(expected: SystemTime, got: SystemTime) -> String {
    let apart = match got.duration_since(expected) {
        Ok(later) => format!("{later:?} later"),
        Err(earlier) => format!("{:?} earlier", earlier.duration()),
    };
    format!("expected {}, got {}: {apart}", time(expected), time(got))
}

/// A time left that is outside of the expected range, and by how much.
pub(crate) fn expected_left(least: Duration, most: Duration, got: Ttl) -> String {
    let apart = match got {
        Ttl::For(left) if left > most => format!(": {:?} too much", left.abs_diff(most)),
        Ttl::For(left) if left < least => format!(": {:?} too little", left.abs_diff(least)),
        _ => String::new(),
    };
    format!(
        "expected Ttl::For({least:?} to {most:?}), got {}{apart}",
        ttl(got)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00:00.000000000 UTC"),
            (951_782_400, "2000-02-29 00:00:00.000000000 UTC"),
            (1_709_251_199, "2024-02-29 23:59:59.000000000 UTC"),
            (2_147_483_648, "2038-01-19 03:14:08.000000000 UTC"),
            (4_102_444_800, "2100-01-01 00:00:00.000000000 UTC"),
        ] {
            assert_eq!(time(UNIX_EPOCH + Duration::from_secs(seconds)), shown);
        }
        let shown = expected_time(UNIX_EPOCH, UNIX_EPOCH + Duration::from_millis(1500));
        assert!(shown.ends_with(": 1.5s later"), "{shown}");
    }

    #[test]
    fn payloads_are_shown_where_they_differ() {
        let mut got = vec![b'x'; 2000];
        let expected = got.clone();
        assert_eq!(got.get(1024), Some(&b'x'));
        got.truncate(1024);
        let shown = difference(&expected, &got);
        assert!(shown.contains("expected 2000 bytes, got 1024"), "{shown}");
        assert!(shown.contains("at byte 1024"), "{shown}");
        assert!(shown.contains("the end found"), "{shown}");
        assert_eq!(difference(b"short", b"other"), "");
    }
}
