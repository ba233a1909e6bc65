//! Histories that are allowed, and histories that are not.

use super::*;
use crate::soak::key::Key;
use crate::soak::rng::Rng;
use crate::soak::time::Stamp;

const KEY: Key = Key {
    space: 0,
    round: 0,
    index: 0,
};
const SECOND: u64 = 1_000_000_000;

fn promises(order: Order) -> Promises {
    Promises {
        order,
        keeps: true,
        evicting: None,
        bound: Duration::from_secs(5),
        slow: Duration::from_secs(10),
        settle: Duration::from_secs(1),
        default_ttl: Duration::ZERO,
        max_value: 1000,
        why: &[],
    }
}

/// Times in tenths of a second.
fn event(start: u64, end: u64, what: What) -> Event {
    let stamp = |tenths| Stamp {
        at: tenths * SECOND / 10,
        clock: tenths * SECOND / 10,
    };
    Event {
        key: KEY,
        client: 0,
        start: stamp(start),
        end: stamp(end),
        what,
    }
}

fn set(start: u64, end: u64, version: u64) -> Event {
    set_for(start, end, version, u64::MAX, Outcome::Done)
}

fn set_for(start: u64, end: u64, version: u64, ttl: u64, outcome: Outcome) -> Event {
    let what = What::Write {
        version,
        ttl,
        size: 0,
        outcome,
    };
    event(start, end, what)
}

fn found(start: u64, end: u64, version: u64) -> Event {
    let left = None;
    event(start, end, What::Hit { version, left })
}

fn found_with(start: u64, end: u64, version: u64, tenths_left: u64) -> Event {
    let left = Some(tenths_left * SECOND / 10);
    event(start, end, What::Hit { version, left })
}

fn miss(start: u64, end: u64) -> Event {
    event(start, end, What::Miss)
}

fn delete(start: u64, end: u64) -> Event {
    event(start, end, What::Delete(Outcome::Done))
}

fn rules_with(order: Order, faults: &FaultLog, events: &[Event]) -> Vec<&'static str> {
    let found = judge(events, &promises(order), faults);
    let mut rules: Vec<&str> = found.iter().map(|finding| finding.rule).collect();
    rules.dedup();
    rules
}

fn rules(events: &[Event]) -> Vec<&'static str> {
    let calm = FaultLog::new(Duration::from_secs(1));
    let always = rules_with(Order::Always, &calm, events);
    for order in [Order::ButForRepeats, Order::BetweenFaults] {
        assert_eq!(rules_with(order, &calm, events), always, "{order:?}");
    }
    always
}

const GOOD: [&str; 0] = [];

#[test]
fn an_ordinary_history_is_good() {
    let history = [
        miss(0, 1),
        set(2, 3, 1),
        found(4, 5, 1),
        set(5, 6, 2),
        found(6, 7, 2),
        delete(7, 8),
        miss(9, 10),
        set(10, 11, 3),
        found(12, 13, 3),
    ];
    assert_eq!(rules(&history), GOOD);
}

#[test]
fn calls_at_the_same_time_may_be_ordered_either_way() {
    for last in [1, 2] {
        let history = [set(0, 10, 1), set(0, 10, 2), found(11, 12, last)];
        assert_eq!(rules(&history), GOOD);
    }
    let history = [set(0, 1, 1), set(2, 20, 2), found(3, 4, 1), found(5, 6, 2)];
    assert_eq!(rules(&history), GOOD);
    let history = [set(0, 1, 1), delete(2, 20), found(3, 4, 1), miss(5, 6)];
    assert_eq!(rules(&history), GOOD);
}

#[test]
fn a_stale_answer_is_found() {
    let history = [set(0, 1, 1), set(2, 3, 2), found(4, 5, 1)];
    assert_eq!(rules(&history), ["order"]);
    // Not overwritten for sure, but another client has seen the new value.
    let history = [set(0, 1, 1), set(2, 20, 2), found(3, 4, 2), found(5, 6, 1)];
    assert_eq!(rules(&history), ["order"]);
    // Back and forth between two values that were written at the same time.
    let history = [
        set(0, 20, 1),
        set(0, 20, 2),
        found(3, 4, 1),
        found(5, 6, 2),
        found(7, 8, 1),
    ];
    assert_eq!(rules(&history), ["order"]);
}

#[test]
fn a_value_that_survives_its_delete_is_found() {
    let history = [set(0, 1, 1), delete(2, 3), found(4, 5, 1)];
    assert_eq!(rules(&history), ["order"]);
}

#[test]
fn a_value_that_returns_after_a_miss_is_found() {
    let history = [set(0, 10, 1), found(1, 2, 1), miss(3, 4), found(5, 6, 1)];
    assert_eq!(rules(&history), ["order"]);
}

#[test]
fn a_write_whose_outcome_is_unknown_may_come_at_any_time_but_only_once() {
    let unknown = |version| set_for(2, 3, version, u64::MAX, Outcome::Unknown);
    let history = [set(0, 1, 1), unknown(2), found(4, 5, 1), found(6, 7, 2)];
    assert_eq!(rules(&history), GOOD);
    let history = [set(0, 1, 1), unknown(2), found(4, 5, 1), miss(6, 7)];
    assert_eq!(rules(&history), ["lost"]);
    let history = [
        set(0, 1, 1),
        unknown(2),
        found(4, 5, 2),
        set(6, 7, 3),
        found(8, 9, 2),
    ];
    assert_eq!(rules(&history), ["order"]);
}

#[test]
fn what_was_never_written_or_only_later_is_found() {
    assert_eq!(rules(&[found(4, 5, 1)]), ["never written"]);
    assert!(rules(&[found(0, 1, 1), set(4, 5, 1)]).contains(&"never written"));
}

#[test]
fn deadlines_and_the_time_left() {
    let short = |start, end| set_for(start, end, 1, SECOND, Outcome::Done);
    assert_eq!(rules(&[short(0, 1), found_with(5, 6, 1, 5)]), GOOD);
    assert_eq!(rules(&[short(0, 1), found_with(5, 6, 1, 4)]), GOOD);
    // Begun before the deadline.
    assert_eq!(rules(&[short(0, 1), found_with(10, 20, 1, 0)]), GOOD);
    assert_eq!(rules(&[short(0, 1), miss(9, 10)]), GOOD);
    let late = [short(0, 1), found_with(12, 13, 1, 0)];
    assert_eq!(rules(&late), ["served after its deadline"]);
    for left in [2, 7] {
        assert_eq!(
            rules(&[short(0, 1), found_with(5, 6, 1, left)]),
            ["time left"]
        );
    }
    assert_eq!(rules(&[short(0, 1), found(5, 6, 1)]), ["time left"]);
    assert_eq!(
        rules(&[set(0, 1, 1), found_with(5, 6, 1, 5)]),
        ["time left"]
    );
}

#[test]
fn a_value_lost_before_its_time_is_found() {
    let short = |start, end| set_for(start, end, 1, SECOND, Outcome::Done);
    assert_eq!(rules(&[set(0, 1, 1), miss(5, 6)]), ["lost"]);
    assert_eq!(rules(&[short(0, 1), miss(5, 6)]), ["lost"]);
    // What lived before the short-lived value does not count, and it may be due.
    assert_eq!(rules(&[set(0, 1, 2), short(3, 4), miss(13, 14)]), GOOD);
    // Overwritten at the same time by one that is due.
    let history = [set(2, 9, 2), short(2, 9), miss(15, 16)];
    assert_eq!(rules(&history), GOOD);
    let history = [set(0, 1, 1), delete(2, 10), miss(5, 6)];
    assert_eq!(rules(&history), GOOD);
}

/// A fault from 1.5 s to 2 s, recovered from at 3 s.
fn fault() -> FaultLog {
    let faults = FaultLog::new(Duration::from_secs(1));
    faults.begin(15 * SECOND / 10, "kill", "");
    faults.end(2 * SECOND);
    faults
}

#[test]
fn between_faults_only_what_was_seen_since_counts() {
    let judge = |events: &[Event]| rules_with(Order::BetweenFaults, &fault(), events);
    // The old value is back after the fault.
    let history = [
        set(0, 1, 1),
        set(2, 3, 2),
        found(31, 32, 1),
        found(33, 34, 1),
    ];
    assert_eq!(judge(&history), GOOD);
    assert_eq!(judge(&[set(0, 1, 1), miss(31, 32)]), GOOD);
    // A write that began before the recovery was over may come as late as its call ends.
    let history = [set(29, 36, 1), delete(32, 33), found(37, 38, 1)];
    assert_eq!(judge(&history), GOOD);
    // It goes and returns.
    let history = [
        set(0, 1, 1),
        set(2, 3, 2),
        found(31, 32, 1),
        miss(33, 34),
        found(35, 36, 1),
    ];
    assert_eq!(judge(&history), ["order"]);
    // It is older than what was written since.
    let history = [set(0, 1, 1), set(31, 32, 2), found(33, 34, 1)];
    assert_eq!(judge(&history), ["order"]);
    let history = [set(31, 32, 2), miss(33, 34)];
    assert_eq!(judge(&history), ["lost"]);
}

#[test]
fn a_write_that_a_fault_touched_may_come_twice_while_it_lasts() {
    let judge = |events: &[Event]| rules_with(Order::ButForRepeats, &fault(), events);
    let twice = |until| {
        [
            set(14, 16, 1),
            set(17, 18, 2),
            found(20, 21, 2),
            found(until, until + 1, 1),
        ]
    };
    assert_eq!(judge(&twice(22)), GOOD);
    // Applied again before the recovery was over, and seen only then.
    assert_eq!(judge(&twice(40)), GOOD);
    // But not after something that was written since.
    let mut late = twice(40).to_vec();
    late.push(set(32, 33, 3));
    assert_eq!(judge(&late), ["order"]);
    // A write may end after the recovery that it began in.
    let history = [set(29, 40, 1), delete(35, 36), found(41, 42, 1)];
    assert_eq!(judge(&history), GOOD);
    // A write that no fault touched comes once, during a fault as well.
    let history = [set(0, 1, 1), set(17, 18, 2), found(20, 21, 1)];
    assert_eq!(judge(&history), ["order"]);
}

/// Whether some order of the calls explains all reads, found by trying every one. A value may
/// be lost at any time.
fn has_an_order(left: &[&Event], holds: Option<u64>) -> bool {
    left.is_empty()
        || left.iter().enumerate().any(|(at, next)| {
            let is_too_early = left.iter().any(|other| other.end.at < next.start.at);
            let after = match next.what {
                What::Write { version, .. } => Some(Some(version)),
                What::Delete(_) | What::Miss => Some(None),
                What::Hit { version, .. } => (holds == Some(version)).then_some(holds),
            };
            let mut rest = left.to_vec();
            rest.remove(at);
            !is_too_early && after.is_some_and(|holds| has_an_order(&rest, holds))
        })
}

#[test]
fn agrees_with_trying_every_order() {
    let promises = Promises {
        keeps: false,
        ..promises(Order::Always)
    };
    let calm = FaultLog::new(Duration::ZERO);
    let mut rng = Rng::new(1, "every order");
    let mut counts = [0, 0];
    for _ in 0..30_000 {
        let calls = 2 + rng.below(6);
        let mut times: Vec<u64> = (0..2 * calls as u64).collect();
        rng.shuffle(&mut times);
        let writes = 1 + rng.below(calls);
        let history: Vec<Event> = times
            .chunks(2)
            .enumerate()
            .map(|(at, times)| {
                let (start, end) = (times[0].min(times[1]), times[0].max(times[1]));
                match rng.below(8) {
                    _ if at < writes => set(start, end, at as u64),
                    0 => delete(start, end),
                    1 => miss(start, end),
                    _ => found(start, end, rng.below(writes) as u64),
                }
            })
            .collect();
        let expected = has_an_order(&history.iter().collect::<Vec<_>>(), None);
        let found = judge(&history, &promises, &calm);
        assert_eq!(found.is_empty(), expected, "{history:#?}\n{found:?}");
        counts[usize::from(expected)] += 1;
    }
    assert!(counts[0] > 1000 && counts[1] > 1000, "{counts:?}");
}
