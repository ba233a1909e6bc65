//! The generated README parts.
//!
//! READMEs are also included in rustdoc, so anything that looks like code or markup is formatted as
//! code.

use super::digits::{short, times};
use super::report::{Line, Report, Role};
use super::words::{conditions, summary};

/// Absolute URLs, because docs.rs and crates.io do not resolve a README's relative links.
const RAW: &str = "https://raw.githubusercontent.com/cache-rs/cache/main";
const BLOB: &str = "https://github.com/cache-rs/cache/blob/main";

/// The part of a crate's README: the chart, the headlines as a table, and the conditions.
pub fn of_crate(report: &Report) -> String {
    let folder = report.ours();
    let ours = format!("`{folder}`");
    let header = [
        "",
        &ours,
        "best peer",
        "times the best peer",
        "times the bare client",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(report.shown().map(cells));
    if !report.shown().any(|line| line.best(Role::Limit).is_some()) {
        for row in &mut rows {
            row.truncate(4);
        }
    }
    let caption = format!(
        "{} All lines: [`speed.json`]({BLOB}/{folder}/speed.json).",
        conditions(report)
    );
    format!(
        "![{}]({RAW}/{folder}/speed.svg)\n\n{}\n{}\n",
        as_documentation(&summary(report)),
        table(&rows),
        as_documentation(&caption)
    )
}

fn cells(line: &Line) -> Vec<String> {
    let measure = line.measure();
    // The unit itself follows each figure.
    let remark = measure.strip_prefix(&*line.unit).unwrap_or_default();
    let (ours, peer) = (line.ours(), line.best(Role::Peer));
    let ratio = |role| line.best(role).map(|row| times(line.times(row)));
    vec![
        format!("{}{remark}", as_documentation(&line.work)),
        ours.map(|row| format!("{} {}", short(row.median), line.unit))
            .unwrap_or_default(),
        peer.map(|row| format!("{} (`{}`)", short(row.median), row.name))
            .unwrap_or_default(),
        ratio(Role::Peer).unwrap_or_default(),
        ratio(Role::Limit).unwrap_or_default(),
    ]
}

/// The part of the workspace README: one row per crate, given as folder and report.
pub fn of_family(family: &[(&str, Report)]) -> String {
    let header = [
        "",
        "beside",
        "times the best peer",
        "times oslo.cache",
        "times the bare client",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for (folder, report) in family {
        let mut peers: Vec<String> = Vec::new();
        let all = report.shown().flat_map(|line| &line.rows);
        for peer in all.filter(|row| row.role == Role::Peer) {
            let name = format!("`{}`", peer.name);
            if !peers.contains(&name) {
                peers.push(name);
            }
        }
        let original = |line: &Line| {
            let row = line
                .rows
                .iter()
                .find(|row| row.name.starts_with("oslo.cache"))?;
            Some(line.times(row))
        };
        let best = |role| move |line: &Line| line.best(role).map(|row| line.times(row));
        rows.push(vec![
            format!("[`{folder}`]({folder}/README.md#speed)"),
            peers.join(", "),
            span(report, best(Role::Peer)),
            span(report, original),
            span(report, best(Role::Limit)),
        ]);
    }
    table(&rows)
}

/// The range of ratios over all lines: `1.12× – 2.43×`.
fn span(report: &Report, ratio: impl Fn(&Line) -> Option<f64>) -> String {
    let mut ratios: Vec<f64> = report.shown().filter_map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    let mut ends: Vec<String> = ratios
        .first()
        .into_iter()
        .chain(ratios.last())
        .map(|end| times(*end))
        .collect();
    ends.dedup();
    ends.join(" – ")
}

/// Formats a Markdown table; the first row is the header.
fn table(rows: &[Vec<String>]) -> String {
    let mut lines: Vec<String> = rows
        .iter()
        .map(|row| format!("| {} |\n", row.join(" | ")))
        .collect();
    let columns = rows.first().map_or(0, Vec::len);
    lines.insert(1, format!("|{}\n", "---|".repeat(columns)));
    // Collapse the double space in empty cells.
    lines.concat().replace("|  |", "| |").replace("|  |", "| |")
}

/// Puts words that look like code or markup in backticks.
fn as_documentation(text: &str) -> String {
    let words = text.split(' ').map(|word| {
        let bare = word.trim_end_matches([',', ';', '.', ':']);
        if bare.contains(['_', '<']) && !bare.contains('`') || bare.contains("::") {
            word.replacen(bare, &format!("`{bare}`"), 1)
        } else {
            word.to_owned()
        }
    });
    let words: Vec<String> = words.collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn crate_part_shows_headlines() {
        assert_eq!(
            of_crate(&example()),
            "![cache-dict beside its peers. `get_multi` `<hot>`: 2.00× the best peer · 0.50× the \
             bare client](https://raw.githubusercontent.com/cache-rs/cache/main/cache-dict/speed.svg)\n\
             \n\
             | | `cache-dict` | best peer | times the best peer | times the bare client |\n\
             |---|---|---|---|---|\n\
             | `get_multi` `<hot>` | 2,000 op/s | 1,000 (`moka`) | 2.00× | 0.50× |\n\
             \n\
             Medians of 3 interleaved rounds. A & B. moka 0.12.1. All lines: [`speed.json`](https://github.com/cache-rs/cache/blob/main/cache-dict/speed.json).\n"
        );
    }

    #[test]
    fn bare_client_column_is_optional() {
        let mut report = example();
        for line in &mut report.lines {
            line.rows.retain(|row| row.name != "bare");
        }
        let text = of_crate(&report);
        assert!(!text.contains("bare client"), "{text}");
        assert!(text.contains("| 2.00× |\n"), "{text}");
    }

    #[test]
    fn family_table_has_a_row_per_crate_with_its_range() {
        let mut one = example();
        one.lines[1].headline = true;
        one.lines[1].rows[1].median = 4000.0;
        let text = of_family(&[("cache-dict", one), ("cache-etcd3", example())]);
        let rows: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            rows,
            [
                "| [`cache-dict`](cache-dict/README.md#speed) | `moka`, `oslo.cache<X>` | 0.50× – 2.00× | 200× | 0.50× |",
                "| [`cache-etcd3`](cache-etcd3/README.md#speed) | `moka`, `oslo.cache<X>` | 2.00× | 200× | 0.50× |",
            ]
        );
    }
}
