//! Requests: what is written or read in one, and what becomes of those that are refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use cache_core::wire::Metadata;
use cache_core::{CachedValue, ErrorKind};
use etcd_client::proto::{PbResponseOp, PbTxnOpResponse};
use etcd_client::{Compare, CompareOp, DeleteOptions, GetOptions, PutOptions, Txn, TxnOp};
use tokio::time::Instant;

use crate::backend::Shared;
use crate::coalescer;
use crate::failure::{Excess, Failure, Next};
use crate::leases::{LeaseId, TtlClass};
use crate::local::Local;
use crate::revision::Revision;
use crate::sync::lock;
use crate::tasks;

/// etcd's own default limit of a transaction (`--max-txn-ops`).
const MAX_OPERATIONS: usize = 128;

/// Well below etcd's default limit of a request of 1.5 MiB (`--max-request-bytes`).
const MAX_BYTES: usize = 1024 * 1024;

/// What the framing of an operation takes of the limit, about.
const OVERHEAD: usize = 64;

/// The largest answer to a transaction. What is larger is read in smaller pieces.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// Larger values go by themselves and hold nobody up.
pub(crate) const MAX_SHARED_BYTES: usize = 16 * 1024;

/// How many requests are under way for parts that go one by one.
const ONE_BY_ONE: usize = 16;

/// A key to write.
#[derive(Debug)]
pub(crate) struct Write {
    /// As the server calls it.
    pub(crate) name: Vec<u8>,
    pub(crate) hash: u64,
    /// What to store; `None`: the key is to be removed.
    pub(crate) put: Option<Put>,
}

#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) stored: Vec<u8>,
    /// `None`: until it is deleted.
    pub(crate) class: Option<TtlClass>,
}

impl Write {
    pub(crate) fn class(&self) -> Option<TtlClass> {
        self.put.as_ref()?.class
    }

    /// What it takes of a request: its name twice, since the newest revision is compared.
    pub(crate) fn bytes(&self) -> usize {
        let stored = self.put.as_ref().map_or(0, |put| put.stored.len());
        OVERHEAD + 2 * self.name.len() + stored
    }
}

/// For how long what is written keeps out a set that may arrive late.
const ENDURES: Duration = Duration::from_secs(60);

impl Write {
    /// Whether what it leaves in the store keeps out a set that arrives late.
    fn endures(&self) -> bool {
        let put = self.put.as_ref();
        put.is_some_and(|put| put.class.is_none_or(|class| class.lifetime() >= ENDURES))
    }

    /// The same for a key that is in doubt: a set of it may arrive late, and nothing is not enough
    /// to keep it out. In place of nothing it is an empty value that expired long ago; and a value
    /// that expires soon stays in the store for longer than it is served.
    pub(crate) fn as_mark(&self, shared: &Shared) -> Result<Self, Failure> {
        let stored = match &self.put {
            Some(put) => put.stored.clone(),
            None => {
                let epoch = SystemTime::UNIX_EPOCH;
                let expired = CachedValue::new(()).with_cached_at(epoch);
                let expired = expired.with_ttl(Duration::ZERO);
                let metadata = Metadata::of(&expired, Duration::ZERO, epoch);
                let stored = shared.settings.format.encode(&metadata, b"null");
                stored.map_err(|error| {
                    Failure::new(Next::Nothing(ErrorKind::Backend), error.message())
                })?
            }
        };
        Ok(Self {
            name: self.name.clone(),
            hash: self.hash,
            put: Some(Put {
                stored,
                class: TtlClass::of(ENDURES),
            }),
        })
    }
}

/// A write and what it rides on.
#[derive(Clone, Debug)]
pub(crate) struct Ready {
    pub(crate) write: Arc<Write>,
    pub(crate) lease: Option<LeaseId>,
}

impl Ready {
    fn operation(&self) -> TxnOp {
        let name = self.write.name.clone();
        match &self.write.put {
            Some(put) => TxnOp::put(name, put.stored.clone(), self.options()),
            None => TxnOp::delete(name, None::<DeleteOptions>),
        }
    }

    fn options(&self) -> Option<PutOptions> {
        self.lease.map(|lease| PutOptions::new().with_lease(lease))
    }
}

/// What somebody wants to be written under one key.
pub(crate) trait WritePart {
    /// `None`: nobody waits for it any more.
    fn wanted(&self) -> Option<Ready>;

    /// What became of it. Only the first answer counts.
    fn answer(&self, outcome: Result<(), Failure>);
}

/// What to send for a part. What would not endure is sent back if its key is in doubt, to be made
/// a mark.
fn ready(shared: &Shared, part: &impl WritePart) -> Option<Ready> {
    let ready = part.wanted()?;
    let is_in_doubt = || shared.doubts.has(Instant::now(), ready.write.hash);
    // Without metadata a mark would be a value.
    let has_marks = shared.guard.is_on() && !shared.settings.format.is_raw();
    if !ready.write.endures() && has_marks && is_in_doubt() {
        part.answer(Err(Failure::new(
            Next::Mark,
            "a set of this key may arrive late",
        )));
        return None;
    }
    Some(ready)
}

/// What somebody wants to know of one key.
pub(crate) trait ReadPart {
    /// The key as the server calls it; `None`: nobody waits for it any more.
    fn wanted(&self) -> Option<Vec<u8>>;

    fn answer(&self, outcome: Result<Option<Vec<u8>>, Failure>);
}

/// How large requests may be, as far as the server has said.
#[derive(Debug)]
pub(crate) struct Limits {
    operations: AtomicUsize,
    bytes: AtomicUsize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            operations: AtomicUsize::new(MAX_OPERATIONS),
            bytes: AtomicUsize::new(MAX_BYTES),
        }
    }
}

impl Limits {
    pub(crate) fn get(&self) -> coalescer::Limits {
        coalescer::Limits {
            operations: self.operations.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
        }
    }

    /// A request was too large: later ones are not.
    fn learn(&self, excess: Excess, operations: usize, bytes: usize) {
        match excess {
            Excess::Operations => {
                self.operations.fetch_min(operations / 2, Ordering::Relaxed);
            }
            Excess::Bytes => {
                let least = MAX_SHARED_BYTES;
                self.bytes
                    .fetch_min((bytes / 2).max(least), Ordering::Relaxed);
            }
            // That depends on what is stored.
            Excess::Answer => {}
        }
    }

    /// Cuts `items` into pieces that fit a request, in order.
    pub(crate) fn cut<T>(&self, items: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
        let limits = self.get();
        let mut pieces = Vec::new();
        let mut piece = Vec::new();
        let mut piece_bytes = 0;
        for item in items {
            let bytes = bytes(&item);
            let is_full = piece.len() >= limits.operations || piece_bytes + bytes > limits.bytes;
            if is_full && !piece.is_empty() {
                pieces.push(std::mem::take(&mut piece));
                piece_bytes = 0;
            }
            piece_bytes += bytes;
            piece.push(item);
        }
        if !piece.is_empty() {
            pieces.push(piece);
        }
        pieces
    }
}

/// What became of a request that was not refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Applied,
    /// One of its keys has a newer revision than any that was seen when it was sent.
    MovedOn,
}

/// Writes the parts in one request, if the server takes it; what it refuses is taken apart, so
/// that each part gets an answer of its own.
pub(crate) async fn write<P: WritePart>(local: &Arc<Local>, parts: Vec<P>, deadline: Instant) {
    let mut pending = vec![(parts, false)];
    while let Some((parts, has_moved_on)) = pending.pop() {
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
            // Others have written, of which the server has told by now.
            Ok(Sent::MovedOn) if !has_moved_on => {
                pending.push((parts, true));
                continue;
            }
            Ok(Sent::MovedOn) => None,
            Err(failure) => Some(failure),
        };
        match failure.as_ref().map(|failure| failure.next) {
            None | Some(Next::Nothing(_)) => {
                tasks::all(parts, ONE_BY_ONE, async |part| {
                    write_alone(local, &part, deadline).await;
                })
                .await;
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
            Some(Next::Full) => {
                let is_delete = |part: &P| part.wanted().is_some_and(|it| it.write.put.is_none());
                let (deletes, puts): (Vec<P>, Vec<P>) = parts.into_iter().partition(is_delete);
                answer_all(&puts, failure);
                if !deletes.is_empty() {
                    pending.push((deletes, false));
                }
            }
            Some(_) => answer_all(&parts, failure),
        }
    }
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
    let call = local.endpoints.call(deadline, |client| {
        let ready = parts.iter().filter_map(|part| ready(&local.shared, part));
        let ready: Vec<Ready> = ready.collect();
        if ready.is_empty() {
            return None;
        }
        local.shared.counters.transactions.add(1);
        Some(transaction(
            &local.shared,
            client.kv.clone(),
            &ready,
            local.shared.guard.is_on(),
        ))
    });
    call.await
}

/// A request with all of them. Dropped before it was answered, it leaves their keys in doubt.
fn transaction(
    shared: &Arc<Shared>,
    mut kv: etcd_client::KvClient,
    ready: &[Ready],
    is_guarded: bool,
) -> impl Future<Output = Result<Sent, etcd_client::Error>> + use<> {
    let newest = shared.revision.newest();
    let mut txn = Txn::new();
    if is_guarded {
        let has_not_moved_on = |ready: &Ready| {
            Compare::mod_revision(ready.write.name.clone(), CompareOp::Less, newest + 1)
        };
        txn = txn.when(ready.iter().map(has_not_moved_on).collect::<Vec<_>>());
    }
    let txn = txn.and_then(ready.iter().map(Ready::operation).collect::<Vec<_>>());
    let puts = ready.iter().filter(|ready| ready.write.put.is_some());
    let mut doubt = Doubt {
        keys: puts.map(|ready| ready.write.hash).collect(),
        shared: Arc::clone(shared),
    };
    async move {
        let answer = doubt.of(kv.txn(txn).await)?;
        saw(&doubt.shared.revision, newest, answer.header());
        if is_guarded {
            doubt.shared.guard.works.store(true, Ordering::Relaxed);
        }
        Ok(if answer.succeeded() {
            Sent::Applied
        } else {
            Sent::MovedOn
        })
    }
}

fn saw(revision: &Revision, sent: i64, header: Option<&etcd_client::ResponseHeader>) {
    if let Some(header) = header {
        revision.saw(sent, header.revision());
    }
}

/// Puts under way.
struct Doubt {
    shared: Arc<Shared>,
    keys: Vec<u64>,
}

impl Doubt {
    /// A refusal leaves no doubt, nor does an answer.
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

/// Whether writes carry the newest revision that was seen.
#[derive(Debug)]
pub(crate) struct Guard {
    is_configured: bool,
    /// A write that carried one was answered, so the user may read.
    works: AtomicBool,
    /// The user may write and not read: then nothing can be compared.
    is_forbidden: AtomicBool,
}

impl Guard {
    pub(crate) fn new(is_configured: bool) -> Self {
        Self {
            is_configured,
            works: AtomicBool::new(false),
            is_forbidden: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.is_configured && !self.is_forbidden.load(Ordering::Relaxed)
    }
}

/// Writes one part by itself, and notes whether it is one that has to go so.
pub(crate) async fn write_alone(local: &Arc<Local>, part: &impl WritePart, deadline: Instant) {
    let Some(ready) = part.wanted() else { return };
    let name = ready.write.name.clone();
    drop(ready);
    let outcome = alone(local, part, deadline).await;
    let loners = &local.shared.refused;
    match &outcome {
        Ok(()) => lock(loners).forget(&name),
        Err(failure) => {
            if let Next::Nothing(kind) = failure.next {
                let whole_prefix = kind == ErrorKind::PermissionDenied;
                lock(loners).note(Instant::now(), &name, whole_prefix);
            }
        }
    }
    part.answer(outcome);
}

async fn alone(local: &Local, part: &impl WritePart, deadline: Instant) -> Result<(), Failure> {
    let guard = &local.shared.guard;
    let mut has_moved_on = false;
    let mut is_guarded = local.shared.guard.is_on();
    loop {
        let wanted = || ready(&local.shared, part);
        match write_one(local, wanted, deadline, is_guarded).await {
            Ok(Sent::Applied) => {
                if !is_guarded && guard.is_on() {
                    guard.is_forbidden.store(true, Ordering::Relaxed);
                }
                return Ok(());
            }
            // Another write came after this call had begun: as if this one had come just before.
            Ok(Sent::MovedOn) if has_moved_on => return Ok(()),
            Ok(Sent::MovedOn) => has_moved_on = true,
            Err(failure) => match failure.next {
                Next::Nothing(ErrorKind::PermissionDenied)
                    if is_guarded && !guard.works.load(Ordering::Relaxed) =>
                {
                    is_guarded = false;
                }
                Next::Split(_) => return Err(remove_old(local, part, deadline, failure).await),
                _ => return Err(failure),
            },
        }
    }
}

/// What was stored before has to go, where the new value is too large.
async fn remove_old(
    local: &Local,
    part: &impl WritePart,
    deadline: Instant,
    mut failure: Failure,
) -> Failure {
    let delete = || {
        let ready = part.wanted()?;
        let write = Write {
            name: ready.write.name.clone(),
            hash: ready.write.hash,
            put: None,
        };
        Some(Ready {
            write: Arc::new(write),
            lease: None,
        })
    };
    if let Err(also) = write_one(local, delete, deadline, false).await {
        failure.message += "; the old value could not be removed: ";
        failure.message += &also.message;
    }
    failure
}

async fn write_one(
    local: &Local,
    wanted: impl Fn() -> Option<Ready>,
    deadline: Instant,
    is_guarded: bool,
) -> Result<Sent, Failure> {
    let shared = &local.shared;
    if is_guarded {
        let call = local.endpoints.call(deadline, |client| {
            Some(transaction(shared, client.kv.clone(), &[wanted()?], true))
        });
        return call.await;
    }
    // A transaction of one operation is slower than a plain one.
    let call = local.endpoints.call(deadline, |client| {
        let ready = wanted()?;
        let mut kv = client.kv.clone();
        let sent = shared.revision.newest();
        let shared = Arc::clone(shared);
        Some(async move {
            let name = ready.write.name.clone();
            let options = ready.options();
            let header = match &ready.write.put {
                Some(put) => kv
                    .put(name, put.stored.clone(), options)
                    .await?
                    .take_header(),
                None => kv.delete(name, None).await?.take_header(),
            };
            saw(&shared.revision, sent, header.as_ref());
            Ok(Sent::Applied)
        })
    });
    call.await
}

/// Reads the parts in one request, if the answer is not too large.
pub(crate) async fn read<P: ReadPart>(local: &Arc<Local>, parts: Vec<P>, deadline: Instant) {
    let mut pending = vec![parts];
    while let Some(mut parts) = pending.pop() {
        if let [part] = parts.as_slice() {
            read_alone(local, part, deadline).await;
            continue;
        }
        match read_many(local, &parts, deadline).await {
            Ok(found) => {
                for (part, found) in parts.iter().zip(found) {
                    part.answer(Ok(found));
                }
            }
            Err(failure) => match failure.next {
                Next::Split(excess) => {
                    let bytes = parts.iter().filter_map(ReadPart::wanted);
                    let bytes = bytes.map(|name| OVERHEAD + name.len()).sum();
                    local.shared.limits.learn(excess, parts.len(), bytes);
                    let rest = parts.split_off(parts.len() / 2);
                    pending.push(rest);
                    pending.push(parts);
                }
                Next::Nothing(_) => {
                    tasks::all(parts, ONE_BY_ONE, async |part| {
                        read_alone(local, &part, deadline).await;
                    })
                    .await;
                }
                _ => {
                    for part in &parts {
                        part.answer(Err(failure.clone()));
                    }
                }
            },
        }
    }
}

/// Reads one part by itself, and notes whether it is one that has to go so.
async fn read_alone(local: &Local, part: &impl ReadPart, deadline: Instant) {
    let Some(name) = part.wanted() else { return };
    let outcome = read_one(local, &name, deadline, || part.wanted().is_some()).await;
    part.answer(outcome);
}

/// What is stored under one name.
pub(crate) async fn read_one(
    local: &Local,
    name: &[u8],
    deadline: Instant,
    is_wanted: impl Fn() -> bool,
) -> Result<Option<Vec<u8>>, Failure> {
    let shared = &local.shared;
    let mut sent = 0;
    let call = local.endpoints.call(deadline, |client| {
        if !is_wanted() {
            return None;
        }
        sent = shared.revision.newest();
        // One value is as large as the server lets it be.
        let mut kv = client.kv.clone().max_decoding_message_size(usize::MAX);
        let options = get_options(shared);
        let name = name.to_vec();
        Some(async move { kv.get(name, options).await })
    });
    let outcome = call.await;
    if let Err(failure) = &outcome
        && let Next::Nothing(kind) = failure.next
    {
        let whole_prefix = kind == ErrorKind::PermissionDenied;
        lock(&shared.refused).note(Instant::now(), name, whole_prefix);
    }
    let mut found = outcome?;
    if !shared.settings.serializable {
        saw(&shared.revision, sent, found.header());
    }
    let value = found.take_kvs().pop();
    let stored = value.map(|found| found.into_key_value().1);
    if stored
        .as_ref()
        .is_some_and(|stored| stored.len() > MAX_SHARED_BYTES)
    {
        lock(&shared.large).note(Instant::now(), name, false);
    }
    Ok(stored)
}

async fn read_many<P: ReadPart>(
    local: &Local,
    parts: &[P],
    deadline: Instant,
) -> Result<Vec<Option<Vec<u8>>>, Failure> {
    let shared = &local.shared;
    let mut sent = 0;
    // Those who went away meanwhile are asked for all the same if others are: what is read has
    // to have the order of the parts.
    let mut asked: Vec<bool> = Vec::new();
    let call = local.endpoints.call(deadline, |client| {
        let names: Vec<Option<Vec<u8>>> = parts.iter().map(ReadPart::wanted).collect();
        asked = names.iter().map(Option::is_some).collect();
        let operations: Vec<TxnOp> = names
            .into_iter()
            .flatten()
            .map(|name| TxnOp::get(name, get_options(shared)))
            .collect();
        if operations.is_empty() {
            return None;
        }
        sent = shared.revision.newest();
        let kv = client.kv.clone();
        let mut kv = kv.max_decoding_message_size(MAX_ANSWER_BYTES);
        shared.counters.transactions.add(1);
        Some(async move { kv.txn(Txn::new().and_then(operations)).await })
    });
    let answer = call.await?;
    if !shared.settings.serializable {
        saw(&shared.revision, sent, answer.header());
    }
    let expected = asked.iter().filter(|asked| **asked).count();
    let answers = answer.0.responses;
    if answers.len() != expected {
        let message = format!("etcd answered {} of {expected} operations", answers.len());
        return Err(Failure::new(Next::Nothing(ErrorKind::Protocol), message));
    }
    let mut answers = answers.into_iter().map(value_of);
    let found = asked.into_iter().map(|asked| {
        let found = asked.then(|| answers.next()).flatten();
        found.unwrap_or(Ok(None))
    });
    found.collect()
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
        .settings
        .serializable
        .then(|| GetOptions::new().with_serializable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_bounded_by_count_and_by_bytes() {
        let limits = Limits::default();
        let lengths = |items: Vec<usize>| -> Vec<usize> {
            let pieces = limits.cut(items, |bytes| *bytes);
            pieces.iter().map(Vec::len).collect()
        };
        assert_eq!(lengths(vec![]), [0; 0]);
        assert_eq!(lengths(vec![1; 128]), [128]);
        assert_eq!(lengths(vec![1; 300]), [128, 128, 44]);
        assert_eq!(lengths(vec![MAX_BYTES / 2; 5]), [2, 2, 1]);
        assert_eq!(lengths(vec![1, 9 * MAX_BYTES, 1]), [1, 1, 1]);
        limits.learn(Excess::Operations, 100, 1);
        assert_eq!(lengths(vec![1; 128]), [50, 50, 28]);
        limits.learn(Excess::Bytes, 1, 200);
        assert_eq!(limits.get().bytes, MAX_SHARED_BYTES);
    }
}
