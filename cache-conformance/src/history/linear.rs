//! A check of linearizability.
//!
//! The algorithm is the search of Wing and Gong with the cache of Lowe: pick an operation that
//! began before every other remaining one ended, apply it, and continue; backtrack when there is
//! none. A value with a deadline may also expire once, between the moments that it allows.

use std::collections::{HashMap, HashSet};

use super::{Action, Operation, Span};

/// Returns whether some order of the operations explains every read, if each takes effect at one
/// moment between its start and its end. The key starts absent.
pub fn is_linearizable(history: &[Operation]) -> bool {
    let spans = history
        .iter()
        .filter_map(|operation| match operation.action {
            Action::Set(value, Some(span)) => Some((value, span)),
            _ => None,
        });
    let mut search = Search {
        history,
        spans: spans.collect(),
        done: Set::new(history.len()),
        tried: HashSet::new(),
    };
    search.explains_rest(None)
}

struct Search<'h> {
    history: &'h [Operation],
    spans: HashMap<u64, Span>,
    done: Set,
    /// Sets of operations with the resulting value, from which no order was found.
    tried: HashSet<(Set, Option<u64>)>,
}

impl Search<'_> {
    /// Whether the remaining operations have an order if the key holds `value`. The recursion is as
    /// deep as the history is long, which is a few hundred operations.
    fn explains_rest(&mut self, value: Option<u64>) -> bool {
        let history = self.history;
        let open = history.iter().enumerate();
        let open = open.filter(|(place, _)| !self.done.contains(*place));
        let first_answer = open.filter_map(|(_, operation)| operation.answered).min();
        let Some(first_answer) = first_answer else {
            return true;
        };
        if !self.tried.insert((self.done.clone(), value)) {
            return false;
        }
        for (place, operation) in history.iter().enumerate() {
            // An operation that began after another had ended comes after it.
            if self.done.contains(place) || operation.called > first_answer {
                continue;
            }
            let Some(next) = self.after(operation, value) else {
                continue;
            };
            self.done.toggle(place);
            if self.explains_rest(next) {
                return true;
            }
            self.done.toggle(place);
        }
        false
    }

    /// What the key holds after the operation, if it can come next.
    #[allow(clippy::option_option)] // A key may hold nothing.
    fn after(&self, operation: &Operation, value: Option<u64>) -> Option<Option<u64>> {
        let span = value.and_then(|value| self.spans.get(&value));
        match operation.action {
            Action::Set(written, _) => Some(Some(written)),
            Action::Delete => Some(None),
            Action::Read(None) if value.is_none() => Some(None),
            Action::Read(None) => span
                .is_some_and(|span| operation.ended >= span.sure)
                .then_some(None),
            Action::Read(seen) if seen == value => span
                .is_none_or(|span| operation.began < span.over)
                .then_some(value),
            Action::Read(_) => None,
        }
    }
}

/// A set of places in the history.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Set(Vec<u64>);

impl Set {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    fn contains(&self, place: usize) -> bool {
        let word = self.0.get(place / 64);
        word.is_some_and(|word| word & (1 << (place % 64)) != 0)
    }

    fn toggle(&mut self, place: usize) {
        if let Some(word) = self.0.get_mut(place / 64) {
            *word ^= 1 << (place % 64);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unnecessary_wraps)]
mod tests {
    use std::time::Duration;

    use super::*;
    use Action::{Delete, Read, Set as Put};

    fn history(operations: &[(Action, u64, u64)]) -> Vec<Operation> {
        let numbered = operations.iter().enumerate();
        numbered
            .map(|(task, (action, called, answered))| Operation {
                task,
                action: *action,
                called: *called,
                answered: Some(*answered),
                began: Duration::from_millis(*called),
                ended: Duration::from_millis(*answered),
            })
            .collect()
    }

    #[test]
    fn linearizable_histories_are_accepted() {
        let good: &[&[(Action, u64, u64)]] = &[
            &[],
            &[(Read(None), 0, 1)],
            &[(Put(1, None), 0, 1), (Read(Some(1)), 2, 3)],
            // Overlapping a write, a read may see either.
            &[(Put(1, None), 0, 9), (Read(None), 1, 2)],
            &[(Put(1, None), 0, 9), (Read(Some(1)), 1, 2)],
            // Two writes at once: either may come last.
            &[
                (Put(1, None), 0, 5),
                (Put(2, None), 0, 5),
                (Read(Some(1)), 6, 7),
            ],
            &[
                (Put(1, None), 0, 5),
                (Put(2, None), 0, 5),
                (Read(Some(2)), 6, 7),
            ],
            // A deletion between.
            &[
                (Put(1, None), 0, 1),
                (Delete, 2, 6),
                (Read(Some(1)), 3, 4),
                (Read(None), 5, 7),
            ],
            // Works only when the write that was called last takes effect first.
            &[
                (Put(1, None), 0, 10),
                (Put(2, None), 1, 10),
                (Read(Some(2)), 2, 3),
                (Read(Some(1)), 4, 5),
            ],
            // Answered at the moment the other was called: no order between them is given.
            &[(Put(1, None), 0, 5), (Read(None), 5, 6)],
        ];
        for operations in good {
            assert!(is_linearizable(&history(operations)), "{operations:?}");
        }
    }

    #[test]
    fn non_linearizable_histories_are_refused() {
        let bad: &[&[(Action, u64, u64)]] = &[
            // A value that was never written.
            &[(Read(Some(7)), 0, 1)],
            // A stale read, a lost update.
            &[(Put(1, None), 0, 1), (Read(None), 2, 3)],
            &[
                (Put(1, None), 0, 1),
                (Put(2, None), 2, 3),
                (Read(Some(1)), 4, 5),
            ],
            // A deleted value that comes back.
            &[(Put(1, None), 0, 1), (Delete, 2, 3), (Read(Some(1)), 4, 5)],
            // New, then old again, while the write is still going on.
            &[
                (Put(1, None), 0, 9),
                (Read(Some(1)), 1, 2),
                (Read(None), 3, 4),
            ],
            // Two readers that disagree about the order of two writes.
            &[
                (Put(1, None), 0, 20),
                (Put(2, None), 0, 20),
                (Read(Some(1)), 1, 2),
                (Read(Some(2)), 3, 4),
                (Read(Some(1)), 5, 6),
            ],
            // A read of the future.
            &[(Read(Some(1)), 0, 1), (Put(1, None), 2, 3)],
            // A gap while a value is replaced.
            &[
                (Put(1, None), 0, 1),
                (Put(2, None), 2, 9),
                (Read(None), 3, 4),
            ],
        ];
        for operations in bad {
            assert!(!is_linearizable(&history(operations)), "{operations:?}");
        }
    }

    #[test]
    fn agrees_with_trying_every_order() {
        fn some_order(rest: &[Operation], value: Option<u64>) -> bool {
            rest.is_empty()
                || (0..rest.len()).any(|place| {
                    let mut others = rest.to_vec();
                    let taken = others.remove(place);
                    let in_time = others
                        .iter()
                        .all(|other| Some(taken.called) <= other.answered);
                    in_time
                        && match taken.action {
                            Put(written, _) => some_order(&others, Some(written)),
                            Delete => some_order(&others, None),
                            Read(seen) => seen == value && some_order(&others, value),
                        }
                })
        }
        let rng = crate::rng::Rng::new(1, "histories");
        let mut accepted = 0;
        for _ in 0..4_000 {
            let operations: Vec<(Action, u64, u64)> = (0..6)
                .map(|_| {
                    let value = [None, Some(1), Some(2)][rng.below(3)];
                    let action = match value {
                        _ if rng.below(2) == 0 => Read(value),
                        Some(value) => Put(value, None),
                        None => Delete,
                    };
                    let called = rng.below(12) as u64;
                    (action, called, called + rng.below(6) as u64)
                })
                .collect();
            let history = history(&operations);
            let expected = some_order(&history, None);
            accepted += usize::from(expected);
            assert_eq!(is_linearizable(&history), expected, "{operations:?}");
        }
        assert!(
            (400..3_600).contains(&accepted),
            "{accepted}: too one-sided to tell"
        );
    }

    #[test]
    fn long_histories_are_judged_in_time() {
        // Four tasks that overlap all the time, 400 operations, right but for the last read.
        let mut operations = Vec::new();
        for step in 0..100_u64 {
            for task in 0..4 {
                let action = if task == 0 {
                    Put(step, None)
                } else {
                    Read(Some(step))
                };
                operations.push((action, step * 10 + task, step * 10 + 9));
            }
        }
        assert!(is_linearizable(&history(&operations)));
        operations.push((Read(Some(3)), 5_000, 5_001));
        assert!(!is_linearizable(&history(&operations)));
    }

    /// A lifetime of exactly `millis`.
    #[allow(clippy::unnecessary_wraps)] // As `Put` takes it.
    fn until(millis: u64) -> Option<Span> {
        let over = Duration::from_millis(millis);
        Some(Span { sure: over, over })
    }

    #[test]
    fn values_expire_once_and_in_time() {
        let good: &[&[(Action, u64, u64)]] = &[
            &[
                (Put(1, until(10)), 0, 1),
                (Read(Some(1)), 2, 3),
                (Read(None), 12, 13),
            ],
            // Around the deadline either will do.
            &[
                (Put(1, until(10)), 0, 1),
                (Read(Some(1)), 8, 12),
                (Read(None), 9, 13),
            ],
            // A set after the deadline.
            &[
                (Put(1, until(10)), 0, 1),
                (Put(2, None), 11, 12),
                (Read(Some(2)), 20, 21),
            ],
        ];
        for operations in good {
            assert!(is_linearizable(&history(operations)), "{operations:?}");
        }
        let bad: &[&[(Action, u64, u64)]] = &[
            // Too early, too late.
            &[(Put(1, until(10)), 0, 1), (Read(None), 2, 3)],
            &[(Put(1, until(10)), 0, 1), (Read(Some(1)), 11, 12)],
            // Gone, and there again.
            &[
                (Put(1, until(10)), 0, 1),
                (Read(None), 7, 11),
                (Read(Some(1)), 12, 13),
            ],
            // The deadline of one value strikes the next.
            &[
                (Put(1, until(10)), 0, 1),
                (Put(2, None), 9, 12),
                (Read(None), 13, 14),
            ],
        ];
        for operations in bad {
            assert!(!is_linearizable(&history(operations)), "{operations:?}");
        }
    }

    #[test]
    fn abandoned_operations_may_take_effect_late_or_never() {
        let given_up = |mut operations: Vec<Operation>| {
            operations[1].answered = None;
            operations
        };
        for seen in [Read(Some(1)), Read(Some(2))] {
            let late = history(&[(Put(1, None), 0, 1), (Put(2, None), 2, 3), (seen, 8, 9)]);
            assert!(is_linearizable(&given_up(late)));
        }
        let twice = history(&[
            (Put(1, None), 0, 1),
            (Put(2, None), 2, 3),
            (Read(Some(2)), 8, 9),
            (Read(Some(1)), 10, 11),
        ]);
        assert!(!is_linearizable(&given_up(twice)));
    }
}
