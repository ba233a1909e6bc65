//! Formats figures with three significant digits.

/// Formats a figure: `158,000`, `12.4 M`, `83.2`.
pub(crate) fn short(value: f64) -> String {
    let value: f64 = format!("{value:.2e}").parse().unwrap_or(value);
    if value >= 1e6 {
        return format!("{} M", digits(value / 1e6));
    }
    let text = digits(value);
    match text
        .len()
        .checked_sub(3)
        .filter(|_| value >= 1e3)
        .and_then(|at| text.split_at_checked(at))
    {
        Some((thousands, rest)) => format!("{thousands},{rest}"),
        None => text,
    }
}

/// Formats a figure with as many decimals as three digits allow.
fn digits(value: f64) -> String {
    let decimals = match value {
        value if value < 9.995 => 2,
        value if value < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Formats a ratio: `0.95×`, `43.9×`, `121×`.
pub(crate) fn times(ratio: f64) -> String {
    format!("{}×", digits(ratio))
}

#[cfg(test)]
mod tests {
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
}
