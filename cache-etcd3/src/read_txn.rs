//! Requests that read, and their split if a response is too large.

use std::sync::Arc;

use cache_core::ErrorKind;
use etcd_client::proto::{PbResponseOp, PbTxnOpResponse};
use etcd_client::{GetOptions, Txn, TxnOp};
use tokio::time::Instant;

use crate::endpoints::Purpose;
use crate::failure::{Failure, Next};
use crate::limits::{MAX_SHARED_BYTES, OVERHEAD};
use crate::local::Local;
use crate::shared::Shared;
use crate::sync::lock;
use crate::tasks::{self, ONE_BY_ONE};

/// The largest response to a transaction. Larger ones are read in smaller pieces.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// A key to read.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) name: Vec<u8>,
    pub(crate) hash: u64,
}

impl Name {
    /// Its size in a request.
    pub(crate) fn bytes(&self) -> usize {
        OVERHEAD + self.name.len()
    }
}

/// One key to read for one or more callers.
pub(crate) trait ReadPart {
    /// The key with its prefix; `None` if no caller waits for it any longer.
    fn wanted(&self) -> Option<Vec<u8>>;

    fn answer(&self, outcome: Result<Option<Vec<u8>>, Failure>);
}

/// Reads the parts in one request, unless the response is too large.
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
                // etcd 3.5.1 refuses every transaction when it is full.
                Next::Nothing(_) | Next::Full => {
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

/// Reads one part in its own request.
async fn read_alone(local: &Local, part: &impl ReadPart, deadline: Instant) {
    let Some(name) = part.wanted() else { return };
    let outcome = read_one(local, &name, deadline, || part.wanted().is_some()).await;
    part.answer(outcome);
}

/// Reads one key, and notes keys that must not be batched.
pub(crate) async fn read_one(
    local: &Local,
    name: &[u8],
    deadline: Instant,
    is_wanted: impl Fn() -> bool,
) -> Result<Option<Vec<u8>>, Failure> {
    let shared = &local.shared;
    let mut sent = 0;
    let call = local.endpoints.call(Purpose::Read, deadline, |client| {
        if !is_wanted() {
            return None;
        }
        sent = shared.revision.newest();
        // A single value may be as large as the server allows.
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
        lock(&shared.unread).note(Instant::now(), name, whole_prefix);
    }
    let mut found = outcome?;
    if !shared.settings.serializable {
        shared.revision.told(sent, found.header());
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
    // Parts without a caller are skipped; this keeps the results in the order of the parts.
    let mut asked: Vec<bool> = Vec::new();
    let call = local.endpoints.call(Purpose::Read, deadline, |client| {
        let names: Vec<Option<Vec<u8>>> = parts.iter().map(ReadPart::wanted).collect();
        asked = names.iter().map(Option::is_some).collect();
        let bytes = names.iter().flatten().map(|name| OVERHEAD + name.len());
        let bytes = bytes.sum();
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
        let request = async move { kv.txn(Txn::new().and_then(operations)).await };
        Some(async move { client.detached.run(bytes, request).await })
    });
    let answer = call.await?;
    if !shared.settings.serializable {
        shared.revision.told(sent, answer.header());
    }
    let expected = asked.iter().filter(|asked| **asked).count();
    let answers = answer.0.responses;
    if answers.len() != expected {
        let message = format!(
            "etcd returned {} results for {expected} operations",
            answers.len()
        );
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
            "etcd returned a result of another kind for a read",
        )),
    }
}

fn get_options(shared: &Shared) -> Option<GetOptions> {
    shared
        .settings
        .serializable
        .then(|| GetOptions::new().with_serializable())
}
