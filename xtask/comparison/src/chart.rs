//! Draws a comparison as a bar chart: a group of bars per line, a bar per contestant.
//!
//! The SVG is written by hand, since it consists of a few rectangles and texts. It follows the
//! browser's color scheme and sets its own background, because the page may use another scheme.

use std::fmt::Write as _;

use super::digits::short;
use super::report::{Line, Report, Role, Row};
use super::words::{summary, verdict};

const WIDTH: f64 = 800.0;
const MARGIN: f64 = 12.0;
/// Where bars start; names end slightly before.
const LEFT: f64 = 236.0;
/// The length of the longest bar; its figure follows.
const BAR_WIDTH: f64 = 480.0;
const ROW: f64 = 15.0;
const HEADING: f64 = 24.0;
const GAP: f64 = 6.0;

const STYLE: &str = "\
text{font:12px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#24292f}\
.heading{font-weight:600}.name{text-anchor:end}\
.verdict{font-weight:600;text-anchor:end;fill:#0969da}\
.page{fill:#fff}\
.own{font-weight:600}\
.ours{fill:#0969da}.peer{fill:#afb8c1}.limit{fill:none;stroke:#57606a;stroke-dasharray:3 2}\
path{stroke:#24292f;opacity:.55;fill:none}\
@media(prefers-color-scheme:dark){\
text{fill:#e6edf3}.verdict{fill:#4493f8}\
.ours{fill:#4493f8}.peer{fill:#656c76}.limit{stroke:#9198a1}.page{fill:#0d1117}path{stroke:#e6edf3}}";

/// Draws the headlines, or all lines if there are none.
pub fn draw(report: &Report) -> String {
    let mut body = String::new();
    let mut top = 0.0;
    for line in report.shown() {
        top = group(&mut body, line, top) + GAP;
    }
    let (width, height) = (WIDTH + 2.0 * MARGIN, top + 2.0 * MARGIN);
    let size = format!("width=\"{width}\" height=\"{height}\"");
    let corner = -MARGIN;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" {size} \
         viewBox=\"{corner} {corner} {width} {height}\" role=\"img\">\n\
         <title>{}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" x=\"{corner}\" y=\"{corner}\" {size} rx=\"6\"/>\n\
         {body}</svg>\n",
        escaped(&summary(report))
    )
}

/// Draws one line's group of bars and returns where it ends.
fn group(body: &mut String, line: &Line, top: f64) -> f64 {
    let y = top + 18.0;
    let _ = writeln!(
        body,
        "<text class=\"heading\" x=\"0\" y=\"{y}\">{} ({})</text>\
         <text class=\"verdict\" x=\"{WIDTH}\" y=\"{y}\">{}</text>",
        escaped(&line.work),
        escaped(&line.measure()),
        escaped(&verdict(line))
    );
    let rows = drawn(line);
    let longest = rows.iter().map(|row| row.max).fold(0.0, f64::max);
    let scale = |figure: f64| (figure / longest * BAR_WIDTH).max(1.0);
    let mut y = top + HEADING;
    for row in rows {
        let (class, name) = match row.role {
            Role::Ours => ("ours", "name own"),
            Role::Limit => ("limit", "name"),
            Role::Peer | Role::Overhead => ("peer", "name"),
        };
        let (lowest, width, highest) = (scale(row.min), scale(row.median), scale(row.max));
        let text = y + 11.5;
        let _ = write!(
            body,
            "<text class=\"{name}\" x=\"{}\" y=\"{text}\">{}</text>\
             <rect class=\"{class}\" x=\"{LEFT}\" y=\"{}\" width=\"{width:.1}\" height=\"10\"/>",
            LEFT - 8.0,
            escaped(&row.name),
            y + 2.5,
        );
        if highest - lowest > 2.0 {
            let _ = write!(
                body,
                "<path d=\"M{:.1} {}H{:.1}\"/>",
                LEFT + lowest,
                y + 7.5,
                LEFT + highest
            );
        }
        let _ = writeln!(
            body,
            "<text x=\"{:.1}\" y=\"{text}\">{}</text>",
            LEFT + highest + 6.0,
            short(row.median)
        );
        y += ROW;
    }
    y
}

/// The contestants that get a bar: not the measuring overhead and, in a headline, no variant of
/// ours other than the one the verdict refers to.
fn drawn(line: &Line) -> Vec<&Row> {
    let ours = line.ours().map(|row| &row.name);
    let mut rows = line.ranking();
    rows.retain(|row| match row.role {
        Role::Overhead => false,
        Role::Ours => !line.headline || Some(&row.name) == ours,
        Role::Peer | Role::Limit => true,
    });
    rows
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn bars_are_proportional_and_labeled() {
        let mut report = example();
        for row in report.lines.iter_mut().flat_map(|line| &mut line.rows) {
            (row.min, row.max) = (row.median, row.median);
        }
        let svg = draw(&report);
        for (class, width) in [("limit", 480), ("ours", 240), ("peer", 120)] {
            let start = format!("<rect class=\"{class}\" x=\"236\"");
            let bar = svg.split(&start).nth(1).unwrap();
            assert!(bar.contains(&format!("width=\"{width}.0\"")), "{svg}");
        }
        assert!(svg.contains(">2,000<"), "{svg}");
        assert!(
            svg.contains(">2.00× the best peer · 0.50× the bare client<"),
            "{svg}"
        );
        assert!(!svg.contains("<path"), "there is no spread: {svg}");
    }

    #[test]
    fn only_headlines_are_drawn() {
        let svg = draw(&example());
        assert_eq!(svg.matches("class=\"heading\"").count(), 1, "{svg}");
    }

    #[test]
    fn spread_is_drawn_before_the_figure() {
        let svg = draw(&example());
        assert!(svg.contains("<path d=\"M239.9 "), "{svg}");
        assert!(svg.contains("H716.0\"/><text x=\"722.0\""), "{svg}");
    }

    #[test]
    fn measuring_overhead_is_left_out() {
        let mut report = example();
        let bare = &mut report.lines[0].rows[3];
        assert_eq!(bare.role, Role::Limit);
        bare.role = Role::Overhead;
        let svg = draw(&report);
        assert!(!svg.contains(">bare<"), "{svg}");
        assert!(!svg.contains("bare client"), "{svg}");
    }

    #[test]
    fn headline_shows_one_variant_of_ours() {
        let mut report = example();
        report.lines[0].rows[1].role = Role::Ours;
        assert!(!draw(&report).contains(">moka<"));
        report.lines[0].headline = false;
        assert!(draw(&report).contains(">moka<"));
    }

    #[test]
    fn names_cannot_break_the_markup() {
        let svg = draw(&example());
        assert!(svg.contains("get_multi &lt;hot&gt;"), "{svg}");
        assert_eq!(svg.matches('<').count(), svg.matches('>').count(), "{svg}");
    }
}
