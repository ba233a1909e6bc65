//! [`Shrunk`], the part of a history that shows why it is not linearizable.

use super::{Action, Operation, is_linearizable};

/// A history that is not linearizable, without operations that are not needed to see it.
///
/// Only operations whose removal keeps a linearizable history linearizable are removed: its end, a
/// read, or the write of a value that nobody read.
#[derive(Debug)]
pub struct Shrunk {
    /// Sorted by `called`.
    pub operations: Vec<Operation>,
}

impl Shrunk {
    /// Shrinks a history that is not linearizable.
    pub fn of(history: &[Operation]) -> Self {
        let mut operations = history.to_vec();
        operations.sort_by_key(|operation| operation.called);
        loop {
            let before = operations.clone();
            shorten(&mut operations);
            thin_out(&mut operations);
            if operations == before {
                return Self { operations };
            }
        }
    }

    /// The two operations that contradict each other: the last read, and the one without which it
    /// would be correct.
    pub(crate) fn pair(&self) -> Option<(Operation, Operation)> {
        let read = |operation: &&Operation| matches!(operation.action, Action::Read(_));
        let reads = self.operations.iter().filter(read);
        let last = *reads.max_by_key(|operation| operation.answered)?;
        let without = |other: &Operation| {
            let rest = self
                .operations
                .iter()
                .filter(|operation| *operation != other);
            rest.copied().collect::<Vec<_>>()
        };
        let others = self
            .operations
            .iter()
            .filter(|operation| **operation != last);
        let needed = others.filter(|other| is_linearizable(&without(other)));
        let needed = needed.max_by_key(|operation| operation.answered);
        // If there is none, the read contradicts the last write before it.
        let write = self.operations.iter().filter(|operation| {
            !matches!(operation.action, Action::Read(_)) && operation.called < last.called
        });
        let other = needed.or_else(|| write.max_by_key(|operation| operation.called))?;
        Some((*other, last))
    }
}

/// Cuts off the end.
fn shorten(operations: &mut Vec<Operation>) {
    while let Some(last) = operations.pop() {
        if is_linearizable(operations) {
            operations.push(last);
            return;
        }
    }
}

fn thin_out(operations: &mut Vec<Operation>) {
    let mut place = operations.len();
    while place > 0 {
        place -= 1;
        let Some(operation) = operations.get(place).copied() else {
            return;
        };
        let rest = |other: &(usize, &Operation)| other.0 != place;
        let others: Vec<Operation> = operations
            .iter()
            .enumerate()
            .filter(rest)
            .map(|(_, operation)| *operation)
            .collect();
        let sees = |seen: Option<u64>| {
            let saw = |other: &Operation| other.action == Action::Read(seen);
            others.iter().any(saw)
        };
        let smaller = match operation.action {
            Action::Read(_) => others,
            Action::Set(value, None) if !sees(Some(value)) => others,
            // A value that expires unread is equivalent to a deletion.
            Action::Set(value, Some(_)) if !sees(Some(value)) => {
                let mut changed = operations.clone();
                if let Some(changed) = changed.get_mut(place) {
                    changed.action = Action::Delete;
                }
                changed
            }
            Action::Delete if !sees(None) => others,
            Action::Set(..) | Action::Delete => continue,
        };
        if !is_linearizable(&smaller) {
            *operations = smaller;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use Action::{Read, Set};

    #[test]
    fn unneeded_operations_are_removed() {
        let mut operations = Vec::new();
        let mut at = 0;
        let mut push = |action| {
            at += 2;
            let moment = Duration::from_millis(at);
            operations.push(Operation {
                task: 0,
                action,
                called: at,
                answered: Some(at + 1),
                began: moment,
                ended: moment,
            });
        };
        for value in 0..20 {
            push(Set(value, None));
            push(Read(Some(value)));
        }
        push(Read(Some(7)));
        for value in 20..40 {
            push(Set(value, None));
            push(Read(Some(value)));
        }
        let shrunk = Shrunk::of(&operations);
        let left: Vec<Action> = shrunk.operations.iter().map(|one| one.action).collect();
        assert_eq!(left, [Set(7, None), Set(8, None), Read(Some(7))]);
        let pair = shrunk.pair().map(|(one, other)| (one.action, other.action));
        assert_eq!(pair, Some((Set(8, None), Read(Some(7)))));
    }
}
