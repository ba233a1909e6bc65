//! Shared by the tests of reports, charts and READMEs.

use std::collections::BTreeMap;

use super::report::{Line, Report, Role, Row};

/// A report with two lines; the first is a headline.
pub(crate) fn example() -> Report {
    let line = |work: &str, headline| Line {
        headline,
        rounds: 3,
        base: "moka".to_owned(),
        rows: [
            ("cache-dict", Role::Ours, [1000.0, 2000.0, 123_456.0]),
            ("moka", Role::Peer, [500.0, 1000.0, 1000.0]),
            ("oslo.cache<X>", Role::Peer, [10.0, 10.0, 10.0]),
            ("bare", Role::Limit, [4000.0, 4000.0, 4000.0]),
        ]
        .map(|(name, role, rounds)| Row::new(name, role, &rounds))
        .into(),
        ..Line::new(work)
    };
    Report {
        machine: "A & B".to_owned(),
        versions: BTreeMap::from([("moka".to_owned(), "0.12.1".to_owned())]),
        unpublishable: None,
        lines: vec![line("get_multi <hot>", true), line("set", false)],
    }
}
