//! A comparison on the terminal.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::report::{Line, Report, Role};

/// One line of work with all its contestants, the best first.
pub(crate) fn line(line: &Line) -> String {
    let mut rows: Vec<_> = line.rows.iter().collect();
    rows.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    let names: BTreeSet<&String> = rows.iter().flat_map(|row| row.extras.keys()).collect();
    let base = line.baseline.as_deref().unwrap_or_default();

    let mut text = format!(
        "\n{}\n  {:<34}{:>14}{:>8}",
        line.name, "", line.unit, "ratio"
    );
    let _ = write!(text, "{:>23}", "lowest – highest");
    for name in &names {
        let _ = write!(text, "{name:>18}");
    }
    text.push('\n');
    for row in rows {
        let mark = match row.role {
            Role::Ours => "»",
            Role::Limit => "=",
            Role::Peer | Role::Overhead => " ",
        };
        let base = if row.name == base { " ←" } else { "" };
        let name = format!("{}{base}", row.name);
        let range = format!("{} – {}", figure(row.min), figure(row.max));
        let _ = write!(
            text,
            "{mark} {name:<34}{:>14}{:>8.2}{range:>23}",
            figure(row.median),
            row.ratio
        );
        for name in &names {
            let extra = row
                .extras
                .get(*name)
                .map_or_else(String::new, |x| figure(*x));
            let _ = write!(text, "{extra:>18}");
        }
        text.push('\n');
    }
    if let Some(verdict) = verdict(line) {
        let _ = writeln!(text, "  {verdict}");
    }
    text
}

/// Each goal, and whether it was met; nothing if there were none.
pub(crate) fn goals(report: &Report) -> String {
    let goals: Vec<&Line> = report
        .lines
        .iter()
        .filter(|line| line.goal.is_some())
        .collect();
    if goals.is_empty() {
        return String::new();
    }
    let met = goals.iter().filter(|line| is_met(line)).count();
    let mut text = format!("\ngoals met: {met} of {}\n", goals.len());
    for line in goals {
        let verdict = verdict(line).unwrap_or_default();
        let _ = writeln!(text, "  {}: {verdict}", line.name);
    }
    text
}

fn is_met(line: &Line) -> bool {
    line.goal
        .is_none_or(|goal| line.ours().is_some_and(|ours| ours.ratio >= goal))
}

fn verdict(line: &Line) -> Option<String> {
    let goal = line.goal?;
    let ours = line.ours()?;
    let word = if is_met(line) { "met" } else { "MISSED" };
    let base = line.baseline.as_deref().unwrap_or_default();
    Some(format!(
        "goal {goal:.2} × {base}: {word} with {:.2}",
        ours.ratio
    ))
}

/// Three to four digits that count, thousands apart.
pub(crate) fn figure(figure: f64) -> String {
    if !figure.is_finite() {
        return "–".to_owned();
    }
    if figure.abs() < 100.0 {
        return format!("{figure:.2}");
    }
    let digits = format!("{figure:.0}");
    let (sign, digits) = digits
        .strip_prefix('-')
        .map_or(("", digits.as_str()), |rest| ("-", rest));
    let mut text = String::from(sign);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::report::Row;
    use super::*;

    fn example(goal: f64) -> Line {
        let mut line = Line::new("get");
        line.goal = Some(goal);
        for (name, role, figure) in [("peer", Role::Peer, 1_000.0), ("ours", Role::Ours, 2_500.0)] {
            let extras = BTreeMap::from([("p99 µs".to_owned(), 7.0)]);
            line.rows
                .push(Row::new(name.to_owned(), role, vec![figure], extras));
        }
        line.compare().unwrap();
        line
    }

    #[test]
    fn the_best_comes_first_with_its_ratio_and_extras() {
        let text = line(&example(2.0));
        let ours = text.lines().find(|line| line.contains("ours")).unwrap();
        assert!(ours.starts_with("» ours"), "{text}");
        assert!(
            ours.contains("2,500") && ours.contains("2.50") && ours.contains("7.00"),
            "{text}"
        );
        assert!(text.find("ours").unwrap() < text.find("peer").unwrap());
        assert!(text.contains("goal 2.00 × peer: met"), "{text}");
    }

    #[test]
    fn all_goals_are_told_at_the_end() {
        let mut report = Report::new("x", BTreeMap::new(), BTreeMap::new());
        report.lines.push(example(2.0));
        report.lines.push(example(3.0));
        let text = goals(&report);
        assert!(text.contains("goals met: 1 of 2"), "{text}");
        assert!(
            text.contains("  get: goal 3.00 × peer: MISSED with 2.50"),
            "{text}"
        );
        assert!(
            text.contains("  get: goal 2.00 × peer: met with 2.50"),
            "{text}"
        );
    }

    #[test]
    fn figures() {
        assert_eq!(figure(12.345), "12.35");
        assert_eq!(figure(1_234_567.8), "1,234,568");
        assert_eq!(figure(-1234.0), "-1,234");
        assert_eq!(figure(f64::NAN), "–");
    }
}
