//! Requests that write, and their split if they are refused.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use cache_core::ErrorKind;
use etcd_client::{Compare, CompareOp, KvClient, Txn, TxnResponse};
use tokio::time::Instant;

use crate::endpoints::Purpose;
use crate::failure::{Failure, Next};
use crate::leases::LeaseId;
use crate::local::Local;
use crate::shared::Shared;
use crate::sync::lock;
use crate::tasks::{self, ONE_BY_ONE};
use crate::write::{Mark, Ready, Write};

/// A write of one key for one or more callers.
pub(crate) trait WritePart {
    /// `None` if no caller waits for it any longer.
    fn wanted(&self) -> Option<Ready>;

    /// Reports the outcome to all callers. Only the first one counts.
    fn answer(&self, outcome: Result<(), Failure>);

    /// Reports a failure that concerns only `write`, to its caller. Returns whether other callers
    /// wait, whose writes have to be sent.
    fn refuse(&self, write: &Weak<Write>, failure: Failure) -> bool;
}

/// Whether a failure concerns this write of a key, and not every write of it.
fn is_about_one(failure: &Failure) -> bool {
    matches!(failure.next, Next::Split(_) | Next::Full | Next::NewLease)
}

/// What to send for a part. A write that does not protect a key in doubt is refused with
/// [`Next::Mark`], and the one before it is considered.
fn ready(shared: &Shared, part: &impl WritePart) -> Option<Ready> {
    // Without metadata a mark would be read as a value.
    let has_marks = shared.settings.refuse_late_writes && !shared.settings.format.is_raw();
    loop {
        let ready = part.wanted()?;
        let is_in_doubt = || shared.doubts.has(Instant::now(), ready.write.hash);
        let may_need_mark = !ready.write.endures() && ready.write.mark != Mark::Impossible;
        if !may_need_mark || !has_marks || !is_in_doubt() {
            return Some(ready);
        }
        let message = "an earlier set of this key may still be applied";
        let failure = Failure::new(Next::Mark, message);
        if !part.refuse(&Arc::downgrade(&ready.write), failure) {
            return None;
        }
    }
}

/// The outcome of a request that was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Applied,
    /// One of its keys has a newer revision than the newest one seen when it was sent.
    MovedOn,
}

/// Writes the parts in one request. If the server refuses it, it is split, so that each part gets
/// its own outcome.
pub(crate) async fn write<P: WritePart>(local: &Arc<Local>, parts: Vec<P>, deadline: Instant) {
    let mut pending = vec![(parts, false)];
    while let Some((mut parts, has_moved_on)) = pending.pop() {
        if let [part] = parts.as_slice() {
            write_alone(local, part, deadline).await;
            continue;
        }
        let sent = write_many(local, &parts, deadline).await;
        let failure = match sent {
            Ok(Sent::Applied) => {
                for part in &parts {
                    part.answer(Ok(()));
                }
                continue;
            }
            // Others have written; the newest revision is known now.
            Ok(Sent::MovedOn) if !has_moved_on => {
                pending.push((parts, true));
                continue;
            }
            Ok(Sent::MovedOn) => None,
            Err(failure) => Some(failure),
        };
        match failure.as_ref().map(|failure| failure.next) {
            Some(Next::Full) if parts.iter().any(|part| !is_delete(part)) => {
                if let Some(failure) = failure {
                    parts.retain(|part| refuse_while(part, &failure, is_put));
                }
                if !parts.is_empty() {
                    pending.push((parts, false));
                }
            }
            None | Some(Next::Nothing(_) | Next::Full) => {
                tasks::all(parts, ONE_BY_ONE, async |part| {
                    write_alone(local, &part, deadline).await;
                })
                .await;
            }
            Some(Next::NewLease) => {
                // etcd does not name the lease that it lost: parts without one must not fail, nor
                // may other leases be replaced.
                let mut groups = by_lease(parts);
                if let (1, Some(failure)) = (groups.len(), &failure) {
                    for (lease, parts) in &mut groups {
                        parts.retain(|part| refuse_while(part, failure, |it| it.lease == *lease));
                    }
                }
                let groups = groups.into_values().filter(|parts| !parts.is_empty());
                pending.extend(groups.map(|parts| (parts, false)));
            }
            Some(Next::Split(excess)) => {
                let bytes = parts.iter().map(bytes_of).sum();
                local.shared.limits.learn(excess, parts.len(), bytes);
                let mut pieces = local.shared.limits.cut(parts, bytes_of);
                if let [piece] = pieces.as_mut_slice() {
                    let rest = piece.split_off(piece.len() / 2);
                    pieces.push(rest);
                }
                pending.extend(pieces.into_iter().rev().map(|piece| (piece, false)));
            }
            Some(_) => answer_all(&parts, failure),
        }
    }
}

fn is_delete<P: WritePart>(part: &P) -> bool {
    part.wanted().is_some_and(|it| !is_put(&it))
}

fn is_put(ready: &Ready) -> bool {
    ready.write.put.is_some()
}

/// The parts with each lease, and those without one.
fn by_lease<P: WritePart>(parts: Vec<P>) -> HashMap<Option<LeaseId>, Vec<P>> {
    let mut groups: HashMap<Option<LeaseId>, Vec<P>> = HashMap::new();
    for part in parts {
        let lease = part.wanted().and_then(|ready| ready.lease);
        groups.entry(lease).or_default().push(part);
    }
    groups
}

/// Refuses the latest writes of a key, up to the first for which `is_refused` is false. Returns
/// whether there is one, which has to be sent.
fn refuse_while(
    part: &impl WritePart,
    failure: &Failure,
    is_refused: impl Fn(&Ready) -> bool,
) -> bool {
    while let Some(ready) = part.wanted() {
        if !is_refused(&ready) {
            return true;
        }
        let write = Arc::downgrade(&ready.write);
        drop(ready);
        if !part.refuse(&write, failure.clone()) {
            return false;
        }
    }
    false
}

fn bytes_of<P: WritePart>(part: &P) -> usize {
    part.wanted().map_or(0, |ready| ready.write.bytes())
}

fn answer_all<P: WritePart>(parts: &[P], failure: Option<Failure>) {
    if let Some(failure) = failure {
        for part in parts {
            part.answer(Err(failure.clone()));
        }
    }
}

async fn write_many<P: WritePart>(
    local: &Local,
    parts: &[P],
    deadline: Instant,
) -> Result<Sent, Failure> {
    send(local, deadline, |shared| {
        let now = Instant::now();
        let ready = parts.iter().filter_map(|part| ready(shared, part));
        let ready: Vec<Ready> = ready.collect();
        if ready.is_empty() {
            return None;
        }
        shared.counters.transactions.add(1);
        let names = ready.iter().map(|ready| &ready.write.name);
        let guarded = names.filter(|name| shared.is_guarded(now, name));
        Some((guarded.cloned().collect(), ready))
    })
    .await
}

/// Sends one transaction: the keys whose revisions it compares, and its writes, as `wanted` returns
/// them before each attempt.
async fn send(
    local: &Local,
    deadline: Instant,
    wanted: impl Fn(&Shared) -> Option<(Vec<Vec<u8>>, Vec<Ready>)>,
) -> Result<Sent, Failure> {
    let shared = &local.shared;
    let mut newest = 0;
    let call = local.endpoints.call(Purpose::Write, deadline, |client| {
        let (guarded, ready) = wanted(shared)?;
        newest = shared.revision.newest();
        let has_not_moved_on = |name| Compare::mod_revision(name, CompareOp::Less, newest + 1);
        let compares: Vec<_> = guarded.into_iter().map(has_not_moved_on).collect();
        let operations: Vec<_> = ready.iter().map(Ready::operation).collect();
        let txn = Txn::new().when(compares).and_then(operations);
        Some(transaction(shared, client.kv.clone(), txn, &ready))
    });
    let answer = call.await?;
    shared.revision.told(newest, answer.header());
    Ok(if answer.succeeded() {
        Sent::Applied
    } else {
        Sent::MovedOn
    })
}

/// If it is dropped before its response, the keys that it puts are in doubt.
fn transaction(
    shared: &Arc<Shared>,
    mut kv: KvClient,
    txn: Txn,
    ready: &[Ready],
) -> impl Future<Output = Result<TxnResponse, etcd_client::Error>> + use<> {
    let puts = ready.iter().filter(|ready| is_put(ready));
    let mut doubt = Doubt {
        keys: puts.map(|ready| ready.write.hash).collect(),
        shared: Arc::clone(shared),
    };
    async move { doubt.of(kv.txn(txn).await) }
}

/// Puts in flight.
struct Doubt {
    shared: Arc<Shared>,
    keys: Vec<u64>,
}

impl Doubt {
    /// A response leaves no doubt, unless the request may still be applied.
    fn of<T>(&mut self, outcome: Result<T, etcd_client::Error>) -> Result<T, etcd_client::Error> {
        let may_be_applied = match &outcome {
            Ok(_) => false,
            Err(error) => matches!(
                Failure::of(error).next,
                Next::Repeat | Next::Late | Next::Elsewhere(_)
            ),
        };
        if !may_be_applied {
            self.keys.clear();
        }
        outcome
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        if !self.keys.is_empty() {
            self.shared.doubts.note(Instant::now(), self.keys.drain(..));
        }
    }
}

/// Writes one part in its own request, and notes keys that must not be batched.
pub(crate) async fn write_alone(local: &Arc<Local>, part: &impl WritePart, deadline: Instant) {
    while let Some(ready) = part.wanted() {
        let name = ready.write.name.clone();
        let write = Arc::downgrade(&ready.write);
        let (lease, was_put) = (ready.lease, is_put(&ready));
        drop(ready);
        let outcome = alone(local, part, &name, deadline).await;
        match outcome {
            Err(failure) if is_about_one(&failure) => {
                // Those that would be refused alike need not be sent.
                let is_alike = |it: &Ready| match failure.next {
                    Next::Full if was_put => is_put(it),
                    Next::NewLease => it.lease == lease,
                    _ => std::ptr::eq(Arc::as_ptr(&it.write), write.as_ptr()),
                };
                if !refuse_while(part, &failure, is_alike) {
                    return;
                }
            }
            outcome => return part.answer(outcome),
        }
    }
}

async fn alone(
    local: &Local,
    part: &impl WritePart,
    name: &[u8],
    deadline: Instant,
) -> Result<(), Failure> {
    let shared = &local.shared;
    let mut is_guarded = shared.is_guarded(Instant::now(), name);
    let mut is_forbidden = false;
    let mut has_moved_on = false;
    loop {
        let failure = match write_one(local, part, deadline, is_guarded).await {
            Ok(Sent::MovedOn) if !has_moved_on => {
                has_moved_on = true;
                continue;
            }
            // If another write followed after this call began, this one might have come before it.
            Ok(Sent::MovedOn | Sent::Applied) => {
                if is_forbidden {
                    lock(&shared.unguarded).note(Instant::now(), name, true);
                }
                lock(&shared.unwritten).forget(name);
                return Ok(());
            }
            Err(failure) => failure,
        };
        match failure.next {
            // The user may not compare the key, or not write it either.
            Next::Nothing(_) if is_guarded && failure.is_forbidden() => {
                is_forbidden = true;
                is_guarded = false;
            }
            // etcd 3.5.1 refuses a transaction that only deletes, but not a plain delete.
            Next::Full if is_guarded && is_delete(part) => is_guarded = false,
            Next::Nothing(kind) => {
                let whole_prefix = kind == ErrorKind::PermissionDenied;
                lock(&shared.unwritten).note(Instant::now(), name, whole_prefix);
                return Err(failure);
            }
            _ => return Err(failure),
        }
    }
}

async fn write_one(
    local: &Local,
    part: &impl WritePart,
    deadline: Instant,
    is_guarded: bool,
) -> Result<Sent, Failure> {
    if is_guarded {
        return send(local, deadline, |shared| {
            let ready = ready(shared, part)?;
            Some((vec![ready.write.name.clone()], vec![ready]))
        })
        .await;
    }
    // A transaction of one operation is slower than a plain request.
    let shared = &local.shared;
    let mut newest = 0;
    let call = local.endpoints.call(Purpose::Write, deadline, |client| {
        let ready = ready(shared, part)?;
        let mut kv = client.kv.clone();
        newest = shared.revision.newest();
        Some(async move {
            let name = ready.write.name.clone();
            let options = ready.options();
            Ok(match &ready.write.put {
                Some(put) => kv
                    .put(name, put.stored.clone(), options)
                    .await?
                    .take_header(),
                None => kv.delete(name, None).await?.take_header(),
            })
        })
    });
    let header = call.await?;
    shared.revision.told(newest, header.as_ref());
    Ok(Sent::Applied)
}
