//! Whether a history of concurrent operations on one register could have happened one by one.
//!
//! The algorithm is Wing and Gong's search with Lowe's memory of what was tried: take an
//! operation that began before every other open one ended, apply it, go on; go back when stuck.

use std::collections::HashSet;
use std::fmt;

/// What an operation did to the register, or saw of it. `None` is an absent value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Write(Option<u64>),
    Read(Option<u64>),
}

/// One operation: who did what, and between which moments it took effect.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) task: usize,
    pub(crate) action: Action,
    pub(crate) called: u64,
    pub(crate) answered: u64,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, value) = match self.action {
            Action::Write(Some(value)) => ("set", value.to_string()),
            Action::Write(None) => ("delete", String::new()),
            Action::Read(Some(value)) => ("get saw", value.to_string()),
            Action::Read(None) => ("get saw", "a miss".to_owned()),
        };
        write!(
            f,
            "{:>6} to {:>6}  task {}  {what} {value}",
            self.called, self.answered, self.task
        )
    }
}

/// Whether some order of the operations explains every read, when each takes effect at one
/// moment between its call and its answer. The register starts absent.
pub(crate) fn is_linearizable(history: &[Operation]) -> bool {
    let mut search = Search {
        history,
        done: Set::new(history.len()),
        tried: HashSet::new(),
    };
    search.explains_rest(None)
}

struct Search<'h> {
    history: &'h [Operation],
    done: Set,
    /// Sets of operations with the value they left, from which no order was found.
    tried: HashSet<(Set, Option<u64>)>,
}

impl Search<'_> {
    /// Whether the operations that are not done have an order, when the register holds `value`.
    /// As deep as the history is long, which is kept to some hundreds.
    fn explains_rest(&mut self, value: Option<u64>) -> bool {
        let history = self.history;
        let open = |done: &Set, place: &usize| !done.contains(*place);
        let all = 0..history.len();
        let first_answer = all
            .clone()
            .filter(|place| open(&self.done, place))
            .filter_map(|place| history.get(place))
            .map(|operation| operation.answered)
            .min();
        let Some(first_answer) = first_answer else {
            return true;
        };
        if !self.tried.insert((self.done.clone(), value)) {
            return false;
        }
        for place in all {
            let Some(operation) = history.get(place).filter(|_| open(&self.done, &place)) else {
                continue;
            };
            // What was called after another had its answer comes after it.
            if operation.called > first_answer {
                continue;
            }
            let next = match operation.action {
                Action::Write(written) => written,
                Action::Read(seen) if seen == value => value,
                Action::Read(_) => continue,
            };
            self.done.toggle(place);
            if self.explains_rest(next) {
                return true;
            }
            self.done.toggle(place);
        }
        false
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
mod tests {
    use super::*;

    use Action::{Read, Write};

    fn history(operations: &[(Action, u64, u64)]) -> Vec<Operation> {
        let numbered = operations.iter().enumerate();
        numbered
            .map(|(task, (action, called, answered))| Operation {
                task,
                action: *action,
                called: *called,
                answered: *answered,
            })
            .collect()
    }

    #[test]
    fn good_histories_are_accepted() {
        let good: &[&[(Action, u64, u64)]] = &[
            &[],
            &[(Read(None), 0, 1)],
            &[(Write(Some(1)), 0, 1), (Read(Some(1)), 2, 3)],
            // Overlapping a write, a read may see either.
            &[(Write(Some(1)), 0, 9), (Read(None), 1, 2)],
            &[(Write(Some(1)), 0, 9), (Read(Some(1)), 1, 2)],
            // Two writes at once: either may come last.
            &[
                (Write(Some(1)), 0, 5),
                (Write(Some(2)), 0, 5),
                (Read(Some(1)), 6, 7),
            ],
            &[
                (Write(Some(1)), 0, 5),
                (Write(Some(2)), 0, 5),
                (Read(Some(2)), 6, 7),
            ],
            // A deletion between.
            &[
                (Write(Some(1)), 0, 1),
                (Write(None), 2, 6),
                (Read(Some(1)), 3, 4),
                (Read(None), 5, 7),
            ],
            // Works only when the write that was called last takes effect first.
            &[
                (Write(Some(1)), 0, 10),
                (Write(Some(2)), 1, 10),
                (Read(Some(2)), 2, 3),
                (Read(Some(1)), 4, 5),
            ],
            // Answered at the moment the other was called: no order between them is given.
            &[(Write(Some(1)), 0, 5), (Read(None), 5, 6)],
        ];
        for operations in good {
            assert!(is_linearizable(&history(operations)), "{operations:?}");
        }
    }

    #[test]
    fn bad_histories_are_refused() {
        let bad: &[&[(Action, u64, u64)]] = &[
            // A value that nobody wrote.
            &[(Read(Some(7)), 0, 1)],
            // A stale read, a lost update.
            &[(Write(Some(1)), 0, 1), (Read(None), 2, 3)],
            &[
                (Write(Some(1)), 0, 1),
                (Write(Some(2)), 2, 3),
                (Read(Some(1)), 4, 5),
            ],
            // A deleted value that comes back.
            &[
                (Write(Some(1)), 0, 1),
                (Write(None), 2, 3),
                (Read(Some(1)), 4, 5),
            ],
            // New, then old again, while the write is still going on.
            &[
                (Write(Some(1)), 0, 9),
                (Read(Some(1)), 1, 2),
                (Read(None), 3, 4),
            ],
            // Two readers that disagree about the order of two writes.
            &[
                (Write(Some(1)), 0, 20),
                (Write(Some(2)), 0, 20),
                (Read(Some(1)), 1, 2),
                (Read(Some(2)), 3, 4),
                (Read(Some(1)), 5, 6),
            ],
            // A read of the future.
            &[(Read(Some(1)), 0, 1), (Write(Some(1)), 2, 3)],
            // A gap while a value is replaced.
            &[
                (Write(Some(1)), 0, 1),
                (Write(Some(2)), 2, 9),
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
                    let in_time = others.iter().all(|other| taken.called <= other.answered);
                    in_time
                        && match taken.action {
                            Write(written) => some_order(&others, written),
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
                    let action = if rng.below(2) == 0 {
                        Write(value)
                    } else {
                        Read(value)
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
                    Write(Some(step))
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
}
