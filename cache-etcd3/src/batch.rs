//! Multi operations: transactions of many keys, several of them at a time.

use std::sync::Arc;
use std::time::Instant;

use cache_core::ErrorKind;
use etcd_client::proto::{PbResponseOp, PbTxnOpResponse};
use etcd_client::{DeleteOptions, GetOptions, PutOptions, Txn, TxnOp};
use tokio::task::JoinSet;

use crate::backend::Shared;
use crate::failure::{Failure, Next};
use crate::leases::{Ticket, TtlClass};

/// etcd's own default limit of a transaction (`--max-txn-ops`).
pub(crate) const MAX_OPERATIONS: usize = 128;

/// Well below etcd's default limit of a request of 1.5 MiB (`--max-request-bytes`).
pub(crate) const MAX_BYTES: usize = 1024 * 1024;

/// What the framing of an operation takes of the limit, about.
const OVERHEAD: usize = 64;

/// The largest answer to a transaction. What is larger is read in smaller pieces.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// How many transactions one call has under way.
const MAX_IN_FLIGHT: usize = 8;

/// How often a request gets new leases for those that the server does not know.
const MAX_LOST_LEASES: u32 = 3;

/// A key to write.
pub(crate) struct Write {
    /// As the caller calls it.
    pub(crate) key: String,
    /// As the server calls it.
    pub(crate) name: Vec<u8>,
    /// What to store; `None`: the key is to be removed.
    pub(crate) put: Option<Put>,
}

pub(crate) struct Put {
    pub(crate) stored: Vec<u8>,
    /// `None`: until it is deleted.
    pub(crate) class: Option<TtlClass>,
}

impl Write {
    pub(crate) fn bytes(&self) -> usize {
        let stored = self.put.as_ref().map_or(0, |put| put.stored.len());
        OVERHEAD + self.name.len() + stored
    }

    fn operation(&self, ticket: Option<&Ticket>) -> TxnOp {
        match &self.put {
            Some(put) => TxnOp::put(self.name.clone(), put.stored.clone(), options(ticket)),
            None => TxnOp::delete(self.name.clone(), None::<DeleteOptions>),
        }
    }
}

fn options(ticket: Option<&Ticket>) -> Option<PutOptions> {
    ticket.map(|ticket| PutOptions::new().with_lease(ticket.lease))
}

/// Writes everything and returns what failed.
pub(crate) async fn write_all(
    shared: &Arc<Shared>,
    writes: Vec<Write>,
    deadline: Instant,
) -> Vec<(String, Failure)> {
    let chunks = into_chunks(writes, Write::bytes);
    let names: Vec<Vec<String>> = chunks
        .iter()
        .map(|chunk| chunk.iter().map(|write| write.key.clone()).collect())
        .collect();
    let outcomes = concurrently(chunks, |chunk| {
        let shared = Arc::clone(shared);
        async move { write_chunk(&shared, chunk, deadline, false).await }
    })
    .await;
    let mut failed = Vec::new();
    for (outcome, names) in outcomes.into_iter().zip(names) {
        match outcome {
            Some(failures) => failed.extend(failures),
            None => failed.extend(names.into_iter().map(|key| (key, shut_down()))),
        }
    }
    failed
}

/// Writes a chunk, in smaller pieces if the server finds it too large. A value that is too
/// large by itself leaves its key without one.
///
/// With `apart`, the writes have nothing to do with each other: one that is refused must not
/// keep the others out, so whatever is refused is sent in smaller pieces.
pub(crate) async fn write_chunk(
    shared: &Shared,
    chunk: Vec<Write>,
    deadline: Instant,
    apart: bool,
) -> Vec<(String, Failure)> {
    let mut failed = Vec::new();
    let mut pending = vec![chunk];
    while let Some(mut chunk) = pending.pop() {
        let Err(mut failure) = write(shared, &chunk, deadline).await else {
            continue;
        };
        let is_too_large = failure.next == Next::Split;
        let is_refused = matches!(failure.next, Next::Nothing(_));
        if chunk.len() > 1 && (is_too_large || (apart && is_refused)) {
            let rest = chunk.split_off(chunk.len() / 2);
            pending.push(rest);
            pending.push(chunk);
            continue;
        }
        if is_too_large {
            for write in &mut chunk {
                write.put = None;
            }
            if let Err(also) = write(shared, &chunk, deadline).await {
                failure.message += "; the old value could not be removed: ";
                failure.message += &also.message;
            }
        }
        failed.extend(chunk.into_iter().map(|write| (write.key, failure.clone())));
    }
    failed
}

/// One request: all of it is applied or nothing.
async fn write(shared: &Shared, writes: &[Write], deadline: Instant) -> Result<(), Failure> {
    let mut lost = 0;
    loop {
        let tickets = tickets(shared, writes, deadline).await?;
        let sent = match (writes, tickets.as_slice()) {
            ([write], [ticket]) => write_one(shared, write, ticket.as_ref(), deadline).await,
            _ => write_many(shared, writes, &tickets, deadline).await,
        };
        match sent {
            Err(failure) if failure.next == Next::NewLease && lost < MAX_LOST_LEASES => {
                lost += 1;
                // Which one it was is not said.
                for ticket in tickets.into_iter().flatten() {
                    shared.leases.forget(ticket, &shared.counters);
                }
            }
            sent => return sent,
        }
    }
}

/// What each of the writes rides on.
async fn tickets(
    shared: &Shared,
    writes: &[Write],
    deadline: Instant,
) -> Result<Vec<Option<Ticket>>, Failure> {
    let mut tickets = Vec::with_capacity(writes.len());
    for write in writes {
        tickets.push(match write.put.as_ref().and_then(|put| put.class) {
            Some(class) => Some(shared.ticket(class, &write.key, deadline).await?),
            None => None,
        });
    }
    Ok(tickets)
}

/// A plain put or delete: a transaction of one operation is slower.
async fn write_one(
    shared: &Shared,
    write: &Write,
    ticket: Option<&Ticket>,
    deadline: Instant,
) -> Result<(), Failure> {
    let call = shared.call(deadline, |client| {
        let mut kv = client.kv.clone();
        let name = write.name.clone();
        let put = write.put.as_ref().map(|put| put.stored.clone());
        let options = options(ticket);
        async move {
            match put {
                Some(stored) => kv.put(name, stored, options).await.map(drop),
                None => kv.delete(name, None).await.map(drop),
            }
        }
    });
    call.await
}

async fn write_many(
    shared: &Shared,
    writes: &[Write],
    tickets: &[Option<Ticket>],
    deadline: Instant,
) -> Result<(), Failure> {
    let call = shared.call(deadline, |client| {
        let mut kv = client.kv.clone();
        let operations: Vec<TxnOp> = writes
            .iter()
            .zip(tickets)
            .map(|(write, ticket)| write.operation(ticket.as_ref()))
            .collect();
        shared.counters.transactions.add(1);
        async move { kv.txn(Txn::new().and_then(operations)).await.map(drop) }
    });
    call.await
}

/// What is stored under each of `names`. A failure comes with the positions that it concerns.
pub(crate) async fn read_all(
    shared: &Arc<Shared>,
    names: Vec<Vec<u8>>,
    deadline: Instant,
) -> Result<Vec<Option<Vec<u8>>>, (std::ops::Range<usize>, Failure)> {
    let total = names.len();
    let chunks = into_chunks(names, |name| OVERHEAD + name.len());
    let lengths: Vec<usize> = chunks.iter().map(Vec::len).collect();
    let outcomes = concurrently(chunks, |chunk| {
        let shared = Arc::clone(shared);
        async move { read_chunk(&shared, &chunk, deadline).await }
    })
    .await;
    let mut found = Vec::with_capacity(total);
    for (outcome, length) in outcomes.into_iter().zip(lengths) {
        match outcome.unwrap_or_else(|| Err(shut_down())) {
            Ok(chunk) => found.extend(chunk),
            Err(failure) => return Err((found.len()..found.len() + length, failure)),
        }
    }
    Ok(found)
}

/// Reads a chunk, in smaller pieces if the answer is too large.
async fn read_chunk(
    shared: &Shared,
    names: &[Vec<u8>],
    deadline: Instant,
) -> Result<Vec<Option<Vec<u8>>>, Failure> {
    let mut found = Vec::with_capacity(names.len());
    let mut pending = vec![names];
    while let Some(names) = pending.pop() {
        if let [name] = names {
            found.push(read_one(shared, name, deadline).await?);
            continue;
        }
        match read_many(shared, names, deadline).await {
            Ok(answers) => found.extend(answers),
            Err(failure) if failure.next == Next::Split => {
                let (first, rest) = names.split_at_checked(names.len() / 2).unwrap_or_default();
                pending.push(rest);
                pending.push(first);
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(found)
}

/// What is stored under one name.
pub(crate) async fn read_one(
    shared: &Shared,
    name: &[u8],
    deadline: Instant,
) -> Result<Option<Vec<u8>>, Failure> {
    let call = shared.call(deadline, |client| {
        // One value is as large as the server lets it be.
        let mut kv = client.kv.clone().max_decoding_message_size(usize::MAX);
        let options = get_options(shared);
        let name = name.to_vec();
        async move { kv.get(name, options).await }
    });
    let mut found = call.await?;
    let value = found.take_kvs().pop();
    Ok(value.map(|found| found.into_key_value().1))
}

async fn read_many(
    shared: &Shared,
    names: &[Vec<u8>],
    deadline: Instant,
) -> Result<Vec<Option<Vec<u8>>>, Failure> {
    let call = shared.call(deadline, |client| {
        let kv = client.kv.clone();
        let mut kv = kv.max_decoding_message_size(MAX_ANSWER_BYTES);
        let operations: Vec<TxnOp> = names
            .iter()
            .map(|name| TxnOp::get(name.clone(), get_options(shared)))
            .collect();
        shared.counters.transactions.add(1);
        async move { kv.txn(Txn::new().and_then(operations)).await }
    });
    let answers = call.await?.0.responses;
    if answers.len() != names.len() {
        let message = format!(
            "etcd answered {} of {} operations",
            answers.len(),
            names.len()
        );
        return Err(Failure::new(Next::Nothing(ErrorKind::Protocol), message));
    }
    answers.into_iter().map(value_of).collect()
}

fn value_of(answer: PbResponseOp) -> Result<Option<Vec<u8>>, Failure> {
    match answer.response {
        Some(PbTxnOpResponse::ResponseRange(mut range)) => {
            Ok(range.kvs.pop().map(|found| found.value))
        }
        _ => Err(Failure::new(
            Next::Nothing(ErrorKind::Protocol),
            "etcd answered a read with something else",
        )),
    }
}

fn get_options(shared: &Shared) -> Option<GetOptions> {
    shared
        .serializable
        .then(|| GetOptions::new().with_serializable())
}

fn shut_down() -> Failure {
    Failure::new(
        Next::Nothing(ErrorKind::Unavailable),
        "the runtime shut down under the call",
    )
}

/// Cuts `items` into chunks that fit a transaction, in order.
fn into_chunks<T>(items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let mut chunks = Vec::new();
    let mut chunk = Vec::new();
    let mut chunk_bytes = 0;
    for item in items {
        let bytes = bytes(&item);
        let full = chunk.len() == MAX_OPERATIONS || chunk_bytes + bytes > MAX_BYTES;
        if full && !chunk.is_empty() {
            chunks.push(std::mem::take(&mut chunk));
            chunk_bytes = 0;
        }
        chunk_bytes += bytes;
        chunk.push(item);
    }
    if !chunk.is_empty() {
        chunks.push(chunk);
    }
    chunks
}

/// The results of `work` on each of `chunks`, in order; `None` where the runtime shut down.
/// Dropping the future ends what is under way.
async fn concurrently<C, R, F>(chunks: Vec<C>, work: impl Fn(C) -> F) -> Vec<Option<R>>
where
    R: Send + 'static,
    F: Future<Output = R> + Send + 'static,
{
    let mut results: Vec<Option<R>> = std::iter::repeat_with(|| None).take(chunks.len()).collect();
    let mut chunks = chunks.into_iter().enumerate();
    if let [result] = results.as_mut_slice() {
        // One alone needs no task of its own.
        if let Some((_, only)) = chunks.next() {
            *result = Some(work(only).await);
        }
        return results;
    }
    let mut running = JoinSet::new();
    loop {
        while running.len() < MAX_IN_FLIGHT {
            let Some((position, chunk)) = chunks.next() else {
                break;
            };
            let work = work(chunk);
            running.spawn(async move { (position, work.await) });
        }
        match running.join_next().await {
            None => return results,
            Some(Ok((position, result))) => {
                if let Some(slot) = results.get_mut(position) {
                    *slot = Some(result);
                }
            }
            // Cancelled by the runtime: there is no result.
            Some(Err(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_bounded_by_count_and_by_bytes() {
        let lengths = |items: Vec<usize>| -> Vec<usize> {
            let chunks = into_chunks(items, |bytes| *bytes);
            chunks.iter().map(Vec::len).collect()
        };
        assert_eq!(lengths(vec![]), [0; 0]);
        assert_eq!(lengths(vec![1; 128]), [128]);
        assert_eq!(lengths(vec![1; 300]), [128, 128, 44]);
        assert_eq!(lengths(vec![MAX_BYTES / 2; 5]), [2, 2, 1]);
        assert_eq!(lengths(vec![1, 9 * MAX_BYTES, 1]), [1, 1, 1]);
    }

    #[tokio::test]
    async fn results_come_in_order_and_few_run_at_a_time() {
        use std::sync::atomic::{AtomicUsize, Ordering};

        let running = Arc::new(AtomicUsize::new(0));
        let most = Arc::new(AtomicUsize::new(0));
        let results = concurrently((0..50_u64).collect(), |i| {
            let (running, most) = (Arc::clone(&running), Arc::clone(&most));
            async move {
                let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(now, Ordering::SeqCst);
                tokio::time::sleep(std::time::Duration::from_millis(i % 7)).await;
                running.fetch_sub(1, Ordering::SeqCst);
                i
            }
        })
        .await;
        assert_eq!(results, (0..50).map(Some).collect::<Vec<_>>());
        assert_eq!(most.load(Ordering::SeqCst), MAX_IN_FLIGHT);
    }
}
