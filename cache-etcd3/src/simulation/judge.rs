//! Checks a history.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::world::{Call, Op, Outcome, RECOVERY, World};

/// How late a call may end, to allow for simultaneous events.
const SLACK: Duration = Duration::from_millis(5);

/// How long a call may take once all faults are over.
const QUICK: Duration = Duration::from_secs(1);

pub(super) fn judge(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut by_key: BTreeMap<u64, Vec<&Call>> = BTreeMap::new();
    for call in &world.calls {
        by_key.entry(call.key).or_default().push(call);
        ends_in_time(world, call, &mut wrong);
    }
    for calls in by_key.values() {
        reads_are_right(world, calls, &mut wrong);
    }
    for value in &world.cluster.applied {
        if world.withdrawn.contains(value) {
            wrong.push(format!(
                "{value} was applied, and had been withdrawn unsent"
            ));
        }
    }
    if world.calls_left() > 0 {
        wrong.push(format!("{} calls are kept", world.calls_left()));
    }
    if world.leaseless > 0 {
        wrong.push(format!(
            "{} calls failed for want of a lease",
            world.leaseless
        ));
    }
    if !world.had_faults && world.downs > 0 {
        wrong.push(format!("{} verdicts without a fault", world.downs));
    }
    if world.cluster.most_on_one_lease > 600 {
        wrong.push(format!(
            "{} keys on a lease",
            world.cluster.most_on_one_lease
        ));
    }
    if world.slow > world.slow_allowed() {
        wrong.push(format!("{} slow calls with one member down", world.slow));
    }
    if world.wasted > world.wasted_allowed() {
        wrong.push(format!(
            "{} requests to a member that is down",
            world.wasted
        ));
    }
    for (at, is_open) in world.open_at_end().into_iter().enumerate() {
        if is_open {
            wrong.push(format!("endpoint {at} is out of use though it is healthy"));
        }
    }
    wrong
}

fn ends_in_time(world: &World, call: &Call, wrong: &mut Vec<String>) {
    let Some(end) = call.end else {
        wrong.push(format!("{call:?} never ended"));
        return;
    };
    let took = end.saturating_duration_since(call.begin);
    if end > call.deadline.min(call.gives_up.unwrap_or(call.deadline)) + SLACK {
        wrong.push(format!("{call:?} took {took:?}"));
    }
    let is_recovered = call.begin >= world.healed + RECOVERY;
    let has_time = call.deadline - call.begin >= QUICK && call.gives_up.is_none();
    if is_recovered && has_time {
        if call.outcome == Some(Outcome::Failed) {
            wrong.push(format!("{call:?} failed after all faults were over"));
        }
        if took > QUICK {
            wrong.push(format!("{call:?} took {took:?} after all faults were over"));
        }
    }
    let is_early = end + SLACK < call.deadline && call.outcome == Some(Outcome::Failed);
    if !world.had_faults && is_early {
        wrong.push(format!("{call:?} failed before its time without a fault"));
    }
}

/// Each read returns a value that a register could have: one not overwritten before the read began.
fn reads_are_right(world: &World, calls: &[&Call], wrong: &mut Vec<String>) {
    let acknowledged = |call: &&&Call| call.outcome == Some(Outcome::Done);
    for read in calls {
        let Some(Outcome::Found(found)) = read.outcome else {
            continue;
        };
        let Some(end) = read.end else { continue };
        // The acknowledged writes that ended before the read began.
        let before = calls
            .iter()
            .filter(|call| call.op != Op::Get)
            .filter(acknowledged)
            .filter(|call| call.end.is_some_and(|end| end < read.begin));
        match found {
            Some(value) => {
                let Some(writer) = calls.iter().find(|call| call.op == Op::Set(value)) else {
                    wrong.push(format!("{read:?} found what nobody wrote"));
                    continue;
                };
                if writer.begin > end {
                    wrong.push(format!("{read:?} found what was not written yet"));
                }
                // A cluster that loses leases loses their keys, including the marks of deletes.
                let mut newer =
                    before.filter(|call| writer.end.is_some_and(|end| end < call.begin));
                if let Some(newer) = newer.next()
                    && !lost(world, newer.begin, end)
                {
                    wrong.push(format!("{read:?} found {writer:?}, undone by {newer:?}"));
                }
            }
            None => {
                let Some(last) = before.max_by_key(|call| call.begin) else {
                    continue;
                };
                let Op::Set(_) = last.op else { continue };
                let is_gone = last.ttl.is_some_and(|ttl| last.begin + ttl <= end);
                let others = calls.iter().filter(|call| call.op != Op::Get);
                let may_be_removed = others
                    .filter(|call| matches!(call.op, Op::Delete | Op::Set(_)))
                    .any(|call| {
                        call.begin <= end
                            && call.end.is_none_or(|end| end >= last.begin)
                            && removes(call, end)
                            && call.key == last.key
                            && !std::ptr::eq::<Call>(*call, *last)
                    });
                if !is_gone && !may_be_removed && !lost(world, last.begin, end) {
                    wrong.push(format!("{read:?} lost {last:?}"));
                }
            }
        }
    }
}

/// Whether the key may be absent after this write.
fn removes(call: &Call, at: Instant) -> bool {
    match call.op {
        Op::Delete => true,
        Op::Set(_) => call.ttl.is_some_and(|ttl| call.begin + ttl <= at),
        Op::Get => false,
    }
}

/// Whether the cluster lost leases in this period.
fn lost(world: &World, from: Instant, to: Instant) -> bool {
    world.losses.iter().any(|at| (from..=to).contains(at))
}
