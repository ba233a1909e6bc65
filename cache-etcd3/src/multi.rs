//! Multi operations: several transactions in flight at a time.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::time::Instant;

use crate::failure::{Failure, Next};
use crate::leases::{LeaseId, MAX_LOST};
use crate::local::Local;
use crate::read_txn::{self, Name, ReadPart};
use crate::sync::lock;
use crate::tasks;
use crate::write::{OLD_REMAINS, Ready, Write};
use crate::write_txn::{self, WritePart};

/// How many transactions of one call are in flight.
const MAX_IN_FLIGHT: usize = 8;

/// One key of a call and its outcome.
struct Part<A, R> {
    /// Its position in the call.
    at: usize,
    ask: A,
    outcome: Mutex<Option<Result<R, Failure>>>,
}

impl<A, R> Part<A, R> {
    fn new(at: usize, ask: A) -> Self {
        Self {
            at,
            ask,
            outcome: Mutex::new(None),
        }
    }

    fn into_outcome(self) -> Result<R, Failure> {
        let outcome = self.outcome.into_inner();
        let outcome = outcome.unwrap_or_else(PoisonError::into_inner);
        outcome.unwrap_or_else(|| {
            Err(Failure::new(
                Next::Repeat,
                "the request was dropped before its response; retry it",
            ))
        })
    }
}

impl WritePart for &Part<Ready, ()> {
    fn wanted(&self) -> Option<Ready> {
        Some(self.ask.clone())
    }

    fn answer(&self, outcome: Result<(), Failure>) {
        lock(&self.outcome).get_or_insert(outcome);
    }

    fn refuse(&self, _: &Weak<Write>, failure: Failure) -> bool {
        self.answer(Err(failure));
        false
    }
}

impl ReadPart for &Part<Name, Option<Vec<u8>>> {
    fn wanted(&self) -> Option<Vec<u8>> {
        Some(self.ask.name.clone())
    }

    fn answer(&self, outcome: Result<Option<Vec<u8>>, Failure>) {
        lock(&self.outcome).get_or_insert(outcome);
    }
}

/// Writes everything. Returns the failures by position. The old values of those that the server
/// refuses because of their size are deleted.
pub(crate) async fn write(
    local: &Arc<Local>,
    writes: Vec<Write>,
    deadline: Instant,
) -> Vec<(usize, Failure)> {
    let writes: Vec<Arc<Write>> = writes.into_iter().map(Arc::new).collect();
    let all = writes.iter().cloned().enumerate().collect();
    let mut failed = apply(local, all, deadline).await;
    let too_large = failed.iter().filter(|(_, failure)| failure.is_about_size());
    let old = too_large.filter_map(|(at, _)| Some((*at, writes.get(*at)?)));
    let removals: Vec<_> = old
        .filter(|(_, write)| write.put.is_some())
        .map(|(at, write)| (at, Arc::new(write.removal())))
        .collect();
    if !removals.is_empty() {
        // Boxed since it is rare and would enlarge the future of every call.
        for (at, also) in Box::pin(apply(local, removals, deadline)).await {
            let failures = failed.iter_mut().filter(|(failed, _)| *failed == at);
            for (_, failure) in failures {
                *failure = failure.clone().and(OLD_REMAINS, &also);
            }
        }
    }
    failed
}

async fn apply(
    local: &Arc<Local>,
    mut left: Vec<(usize, Arc<Write>)>,
    deadline: Instant,
) -> Vec<(usize, Failure)> {
    let mut failed = Vec::new();
    for lost in 0..=MAX_LOST {
        let leases = board(local, &left, deadline).await;
        let mut parts = Vec::with_capacity(left.len());
        for ((at, write), lease) in std::mem::take(&mut left).into_iter().zip(leases) {
            match (lease, write.without_mark()) {
                (Ok(lease), _) => parts.push(Part::new(at, Ready { write, lease })),
                (Err(failure), Some(delete)) if failure.next == Next::Full && lost < MAX_LOST => {
                    left.push((at, Arc::new(delete)));
                }
                (Err(failure), _) => failed.push((at, failure)),
            }
        }
        let limits = &local.shared.limits;
        let pieces = limits.cut(parts.iter().collect(), |part| part.ask.write.bytes());
        tasks::all(pieces, MAX_IN_FLIGHT, |piece| {
            write_txn::write(local, piece, deadline)
        })
        .await;
        for part in parts {
            let (at, ready) = (part.at, part.ask.clone());
            let Err(failure) = part.into_outcome() else {
                continue;
            };
            let has_tries = lost < MAX_LOST;
            match (failure.next, ready.write.class(), ready.lease) {
                (Next::NewLease, Some(class), Some(lease)) if has_tries => {
                    local.shared.leases.lost(class, lease);
                    left.push((at, ready.write));
                }
                (Next::Mark, ..) if has_tries => {
                    match ready.write.as_mark(local.shared.settings.format) {
                        Ok(mark) => left.push((at, Arc::new(mark))),
                        Err(failure) => failed.push((at, failure)),
                    }
                }
                (Next::Full, ..) if has_tries => match ready.write.without_mark() {
                    Some(delete) => left.push((at, Arc::new(delete))),
                    None => failed.push((at, failure)),
                },
                _ => failed.push((at, failure)),
            }
        }
        if left.is_empty() {
            break;
        }
    }
    failed
}

/// The lease of each write. Missing leases are granted concurrently.
async fn board(
    local: &Arc<Local>,
    writes: &[(usize, Arc<Write>)],
    deadline: Instant,
) -> Vec<Result<Option<LeaseId>, Failure>> {
    let leases = &local.shared.leases;
    let mut boarded = Vec::with_capacity(writes.len());
    let mut waiting = Vec::new();
    for (at, (_, write)) in writes.iter().enumerate() {
        let Some(class) = write.class() else {
            boarded.push(Ok(None));
            continue;
        };
        let lease = leases.board_at_once(&local.endpoints, class, write.hash);
        if lease.is_none() {
            waiting.push((at, class, write.hash));
        }
        boarded.push(Ok(lease));
    }
    for (at, class, hash) in waiting {
        let lease = leases.board(&local.endpoints, class, hash, deadline).await;
        if let Some(place) = boarded.get_mut(at) {
            *place = lease.map(Some);
        }
    }
    boarded
}

/// The values stored under `names`, in order.
pub(crate) async fn read(
    local: &Arc<Local>,
    names: Vec<Name>,
    deadline: Instant,
) -> Vec<Result<Option<Vec<u8>>, Failure>> {
    let parts: Vec<_> = names
        .into_iter()
        .enumerate()
        .map(|(at, name)| Part::new(at, name))
        .collect();
    let limits = &local.shared.limits;
    let pieces = limits.cut(parts.iter().collect(), |part| part.ask.bytes());
    tasks::all(pieces, MAX_IN_FLIGHT, |piece| {
        read_txn::read(local, piece, deadline)
    })
    .await;
    parts.into_iter().map(Part::into_outcome).collect()
}
