//! A comparison as a picture: one bar a contestant, a group of bars a line of work.
//!
//! SVG by hand, since it is a few rectangles and texts. It follows the reader's choice of light
//! or dark.

use std::fmt::Write as _;

use super::report::{Line, Report, Role, Row};
use super::table::figure;

const WIDTH: f64 = 760.0;
const NAME_WIDTH: f64 = 210.0;
/// The longest bar; behind it stands the figure.
const BAR_WIDTH: f64 = 350.0;
const ROW: f64 = 18.0;
const HEADING: f64 = 30.0;
/// Characters of the caption that fit into a line.
const CAPTION: usize = 112;

const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#24292f}\
.heading{font-weight:600}\
.caption{font-size:11px;fill:#57606a}\
.ours{fill:#0969da}.peer{fill:#afb8c1}.limit{fill:none;stroke:#57606a;stroke-dasharray:3 2}\
@media(prefers-color-scheme:dark){\
text{fill:#e6edf3}.caption{fill:#9198a1}\
.ours{fill:#4493f8}.peer{fill:#656c76}.limit{stroke:#9198a1}}";

/// The picture of a report.
pub(crate) fn draw(report: &Report) -> String {
    let mut body = String::new();
    let mut top = 8.0;
    for line in &report.lines {
        top = group(&mut body, line, top);
    }
    top += 8.0;
    for text in caption(report) {
        top += 15.0;
        let _ = writeln!(
            body,
            "<text class=\"caption\" x=\"0\" y=\"{top}\">{}</text>",
            escaped(&text)
        );
    }
    let height = top + 8.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n{body}</svg>\n",
        escaped(&report.name)
    )
}

/// Draws a line of work and returns where it ends.
fn group(body: &mut String, line: &Line, top: f64) -> f64 {
    let better = if line.less_is_better {
        ", less is better"
    } else {
        ""
    };
    let _ = writeln!(
        body,
        "<text class=\"heading\" x=\"0\" y=\"{}\">{} ({}{better})</text>",
        top + 20.0,
        escaped(&line.name),
        escaped(&line.unit)
    );
    let mut rows: Vec<&Row> = line.rows.iter().collect();
    rows.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    let longest = rows.iter().map(|row| row.median).fold(0.0, f64::max);
    let mut y = top + HEADING;
    for row in rows {
        let class = match row.role {
            Role::Ours => "ours",
            Role::Peer => "peer",
            Role::Limit => "limit",
        };
        let width = (row.median / longest * BAR_WIDTH).max(1.0);
        let text = y + 12.0;
        let _ = writeln!(
            body,
            "<text x=\"{:.0}\" y=\"{text}\" text-anchor=\"end\">{}</text>\
             <rect class=\"{class}\" x=\"{NAME_WIDTH}\" y=\"{}\" width=\"{width:.1}\" height=\"12\"/>\
             <text x=\"{:.1}\" y=\"{text}\">{} · {:.2}×</text>",
            NAME_WIDTH - 8.0,
            escaped(&row.name),
            y + 2.0,
            NAME_WIDTH + width + 6.0,
            figure(row.median),
            row.ratio
        );
        y += ROW;
    }
    y
}

/// What the figures are, and where and with what they were measured, broken into lines.
fn caption(report: &Report) -> Vec<String> {
    let pairs = |map: &std::collections::BTreeMap<String, String>| {
        let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k} {v}")).collect();
        pairs.join(", ")
    };
    let mut bases: Vec<&str> = report
        .lines
        .iter()
        .filter_map(|line| line.baseline.as_deref())
        .collect();
    bases.sort_unstable();
    bases.dedup();
    let rounds = report.lines.iter().flat_map(|line| &line.rows);
    let rounds = rounds.map(|row| row.rounds.len()).max().unwrap_or_default();
    let mut lines = Vec::new();
    for text in [
        format!(
            "Medians of up to {rounds} interleaved rounds; × is how many times better than {} on the \
             same line.",
            bases.join(" or ")
        ),
        format!("Machine: {}.", pairs(&report.machine)),
        format!("Versions: {}.", pairs(&report.versions)),
    ] {
        lines.extend(broken(&text));
    }
    lines
}

/// `text` in lines of at most `CAPTION` characters, as far as its words allow.
fn broken(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < CAPTION => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn report() -> Report {
        let machine = BTreeMap::from([("cpu".to_owned(), "A & B".to_owned())]);
        let versions = BTreeMap::from([("moka".to_owned(), "0.12.1".to_owned())]);
        let mut report = Report::new("dict", machine, versions);
        let mut line = Line::new("get <hot>");
        for (name, role, figure) in [
            ("ours", Role::Ours, 2000.0),
            ("moka", Role::Peer, 1000.0),
            ("limit", Role::Limit, 4000.0),
        ] {
            let row = Row::new(name.to_owned(), role, vec![figure], BTreeMap::new());
            line.rows.push(row);
        }
        line.compare().unwrap();
        report.lines.push(line);
        report
    }

    #[test]
    fn bars_are_in_proportion_and_say_what_they_show() {
        let svg = draw(&report());
        assert!(
            svg.contains("class=\"limit\" x=\"210\" y=\"40\" width=\"350.0\""),
            "{svg}"
        );
        assert!(
            svg.contains("class=\"ours\" x=\"210\" y=\"58\" width=\"175.0\""),
            "{svg}"
        );
        assert!(svg.contains(">2,000 · 2.00×<"), "{svg}");
        assert!(svg.contains("better than moka"), "{svg}");
        assert!(svg.contains("moka 0.12.1"), "{svg}");
    }

    #[test]
    fn names_cannot_break_the_markup() {
        let svg = draw(&report());
        assert!(svg.contains("get &lt;hot&gt;"), "{svg}");
        assert!(svg.contains("A &amp; B"), "{svg}");
        assert_eq!(svg.matches('<').count(), svg.matches('>').count(), "{svg}");
    }

    #[test]
    fn long_captions_are_broken() {
        let lines = broken(&"word ".repeat(100));
        assert!(lines.len() > 3);
        assert!(lines.iter().all(|line| line.len() <= CAPTION), "{lines:?}");
    }
}
