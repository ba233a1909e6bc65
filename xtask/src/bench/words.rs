//! A comparison in words: what its chart and the READMEs both say.

use super::speed::{Line, Speed};
use super::table::figure;

/// Three digits that count: `158,000`, `12.4 M`, `83.2`.
pub(crate) fn short(value: f64) -> String {
    let value: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    if value >= 1e8 {
        format!("{:.0} M", value / 1e6)
    } else if value >= 1e7 {
        format!("{:.1} M", value / 1e6)
    } else if value >= 1e6 {
        format!("{:.2} M", value / 1e6)
    } else if (10.0..100.0).contains(&value) {
        format!("{value:.1}")
    } else {
        figure(value)
    }
}

/// `0.95×`, `43.9×`, `121×`.
pub(crate) fn times(ratio: f64) -> String {
    let decimals = match ratio {
        r if r < 9.995 => 2,
        r if r < 99.95 => 1,
        _ => 0,
    };
    format!("{ratio:.decimals$}×")
}

/// `2.43× the best peer · 0.95× the bare client`, as far as there are such.
pub(crate) fn verdict(line: &Line) -> String {
    let peer = line.best_peer();
    let peer = peer.map(|row| format!("{} the best peer", times(line.times(row))));
    let bare = line.bare();
    let bare = bare.map(|row| format!("{} the bare client", times(line.times(row))));
    let parts: Vec<String> = peer.into_iter().chain(bare).collect();
    parts.join(" · ")
}

/// All verdicts in one sentence, for those who do not see the picture.
pub(crate) fn summary(speed: &Speed) -> String {
    let lines = speed.shown();
    let lines: Vec<String> = lines
        .map(|line| format!("{}: {}", line.work, verdict(line)))
        .collect();
    format!("{} beside its peers. {}", speed.ours(), lines.join("; "))
}

/// How, where and with what it was measured.
pub(crate) fn conditions(speed: &Speed) -> String {
    let versions = speed.versions.iter();
    let versions: Vec<String> = versions.map(|(k, v)| format!("{k} {v}")).collect();
    format!(
        "Medians of {} interleaved rounds. {}. {}.",
        speed.rounds(),
        speed.machine,
        versions.join(", ")
    )
}

/// `text` in lines of at most `width` characters, as far as its words allow.
pub(crate) fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::speed::tests::example;
    use super::*;

    #[test]
    fn three_digits() {
        for (figure, text) in [
            (158_536.0, "159,000"),
            (12_345_678.0, "12.3 M"),
            (1_908_106.0, "1.91 M"),
            (999_600.0, "1.00 M"),
            (123_456_789.0, "123 M"),
            (2_258.8, "2,260"),
            (83.16, "83.2"),
            (4.567, "4.57"),
        ] {
            assert_eq!(short(figure), text);
        }
        assert_eq!([0.954, 43.98, 121.3].map(times), ["0.95×", "44.0×", "121×"]);
        assert_eq!([9.996, 99.96].map(times), ["10.0×", "100×"]);
    }

    #[test]
    fn the_summary_has_every_verdict() {
        assert_eq!(
            summary(&example()),
            "cache-dict beside its peers. \
             get_multi <hot>: 2.00× the best peer · 0.50× the bare client"
        );
    }

    #[test]
    fn long_texts_are_broken() {
        let lines = broken(&"word ".repeat(100), 112);
        assert!(lines.len() > 3);
        assert!(lines.iter().all(|line| line.len() <= 112), "{lines:?}");
    }
}
