//! The parts of the READMEs that are written from a comparison.
//!
//! They become documentation, too: what looks like code or markup is set as code.

use anyhow::{Context, Result, ensure};

use super::speed::{Line, Row, Speed};
use super::words::{broken, conditions, short, summary, times};

const BEGIN: &str = "<!-- speed: `cargo xtask bench publish` writes what follows -->\n";
const END: &str = "<!-- end of speed -->";

/// Characters in a line of text.
const WIDTH: usize = 98;

/// `readme` with `part` in its place.
pub(crate) fn with_part(readme: &str, part: &str) -> Result<String> {
    let (before, rest) = readme
        .split_once(BEGIN)
        .with_context(|| format!("there is no line {}", BEGIN.trim_end()))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("there is no line {END}"))?;
    ensure!(!after.contains(BEGIN), "there are two parts about speed");
    Ok(format!("{before}{BEGIN}\n{part}\n{END}{after}"))
}

/// The chart, its headlines as a table, and where it was measured.
pub(crate) fn of_crate(speed: &Speed) -> String {
    let bare = speed.shown().any(|line| line.bare().is_some());
    let mut rows = vec![
        vec![
            String::new(),
            format!("`{}`", speed.ours()),
            "best peer".to_owned(),
            "times the best peer".to_owned(),
            "times the bare client".to_owned(),
        ],
        vec!["---".to_owned(); 5],
    ];
    rows.extend(speed.shown().map(cells));
    if !bare {
        for row in &mut rows {
            row.pop();
        }
    }
    let caption = format!(
        "{} All lines: [`speed.json`](speed.json).",
        conditions(speed)
    );
    format!(
        "![{}](speed.svg)\n\n{}\n{}\n",
        as_documentation(&summary(speed)),
        table(&rows),
        broken(&as_documentation(&caption), WIDTH).join("\n")
    )
}

fn cells(line: &Line) -> Vec<String> {
    let work = as_documentation(&line.work);
    let measure = line.measure();
    // What is told of the unit once the figure has shown it.
    let remark = measure.strip_prefix(&*line.unit).unwrap_or_default();
    let ours = line.ours();
    let peer = line.best_peer();
    let bare = line.bare();
    vec![
        format!("{work}{remark}"),
        ours.map_or_else(String::new, |row| {
            format!("{} {}", short(row.median), line.unit)
        }),
        peer.map_or_else(String::new, |row| {
            format!("{} (`{}`)", short(row.median), row.name)
        }),
        peer.map_or_else(String::new, |row| times(line.times(row))),
        bare.map_or_else(String::new, |row| times(line.times(row))),
    ]
}

/// One row a crate, in the order given: a folder and its comparison.
pub(crate) fn of_family(family: &[(&str, Speed)]) -> String {
    let mut rows = vec![
        [
            "",
            "beside",
            "times the best peer",
            "times oslo.cache",
            "times the bare client",
        ]
        .map(str::to_owned)
        .to_vec(),
        vec!["---".to_owned(); 5],
    ];
    for (folder, speed) in family {
        let mut peers: Vec<&str> = Vec::new();
        for peer in speed.shown().flat_map(Line::peers) {
            if !peers.contains(&peer.name.as_str()) {
                peers.push(&peer.name);
            }
        }
        let peers: Vec<String> = peers.iter().map(|name| format!("`{name}`")).collect();
        rows.push(vec![
            format!("[`{folder}`]({folder}/README.md#speed)"),
            peers.join(", "),
            span(speed, Line::best_peer),
            span(speed, Line::original),
            span(speed, Line::bare),
        ]);
    }
    table(&rows)
}

/// From the lowest to the highest of all lines, `1.12× – 2.43×`.
fn span(speed: &Speed, to: impl Fn(&Line) -> Option<&Row>) -> String {
    let lines = speed.shown();
    let ratios = lines.filter_map(|line| Some(line.times(to(line)?)));
    let mut ratios: Vec<f64> = ratios.collect();
    ratios.sort_by(f64::total_cmp);
    match (ratios.first(), ratios.last()) {
        (Some(lowest), Some(highest)) if times(*lowest) != times(*highest) => {
            format!("{} – {}", times(*lowest), times(*highest))
        }
        (Some(only), _) => times(*only),
        _ => String::new(),
    }
}

fn table(rows: &[Vec<String>]) -> String {
    let rows = rows.iter().map(|row| {
        // Without a trailing blank in empty cells.
        let cells: String = row
            .iter()
            .map(|cell| match cell.as_str() {
                "" => " |".to_owned(),
                "---" => "---|".to_owned(),
                text => format!(" {text} |"),
            })
            .collect();
        format!("|{cells}\n")
    });
    rows.collect()
}

/// Words that look like code or markup, between backticks.
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
    use super::super::speed::tests::example;
    use super::*;

    #[test]
    fn a_crate_shows_its_headlines() {
        assert_eq!(
            of_crate(&example()),
            "![cache-dict beside its peers. `get_multi` `<hot>`: 2.00× the best peer · 0.50× the \
             bare client](speed.svg)\n\
             \n\
             | | `cache-dict` | best peer | times the best peer | times the bare client |\n\
             |---|---|---|---|---|\n\
             | `get_multi` `<hot>` | 2,000 op/s | 1,000 (`moka`) | 2.00× | 0.50× |\n\
             \n\
             Medians of 3 interleaved rounds. A & B. moka 0.12.1. All lines: [`speed.json`](speed.json).\n"
        );
    }

    #[test]
    fn without_a_bare_client_there_is_no_column_for_it() {
        let mut speed = example();
        for line in &mut speed.lines {
            line.rows.retain(|row| row.name != "bare");
        }
        let text = of_crate(&speed);
        assert!(!text.contains("bare client"), "{text}");
        assert!(text.contains("| 2.00× |\n"), "{text}");
    }

    #[test]
    fn the_family_has_a_row_for_each_and_tells_the_worst_with_the_best() {
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

    #[test]
    fn only_the_part_is_replaced() {
        let readme = format!("before\n{BEGIN}old\n{END}\nafter\n");
        let new = with_part(&readme, "new\n").unwrap();
        assert_eq!(new, format!("before\n{BEGIN}\nnew\n\n{END}\nafter\n"));
        assert_eq!(with_part(&new, "new\n").unwrap(), new);
        let error = with_part("nothing", "new\n").unwrap_err().to_string();
        assert!(error.contains("<!-- speed"), "{error}");
    }
}
