//! Multi operations: keys are grouped by server, and all servers work concurrently.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use cache_core::{CachedValue, Error, ErrorKind, Result};
use tokio::time::sleep;

use crate::cluster::{Call, MARK, Server};
use crate::connection::{Exchange, Waiter};
use crate::protocol::{
    Command, Expected, Outgoing, Reply, Response, check_key, encode_many, is_classic_get,
};
use crate::store::{HEAD, Removal, Store, WEIGHT_BYTES, name_refuser, refused, senseless};

/// The most keys in one request. A call with more keys sends several concurrently, on different
/// connections: memcached serves each connection by one thread. With fewer keys the system calls
/// of another request cost more than a second thread gains.
const KEYS: usize = 128;

/// The most payload in one request, except for a single larger value.
const BYTES: usize = 1024 * 1024;

/// How many keys of a multi operation weigh as much as a small call.
const WEIGHT_KEYS: usize = 4;

/// The outcome of each key; `None` while it is pending.
type Outcomes = Vec<Option<Result<Reply>>>;

pub(crate) async fn get(store: &Store, keys: &[&str]) -> Vec<Result<Option<CachedValue<Vec<u8>>>>> {
    let mut outcomes = checked(store, keys.iter().copied());
    run(store, &mut outcomes, |position| {
        Command::Get(keys.get(position).copied().unwrap_or_default())
    })
    .await;
    let mut now = None;
    let outcomes = outcomes.into_iter().zip(keys);
    outcomes
        .map(|(outcome, key)| {
            outcome
                .unwrap_or_else(|| Err(senseless()))
                .and_then(|reply| store.found(reply, &mut now))
                .map_err(|error| error.with_key(*key))
        })
        .collect()
}

pub(crate) async fn set(store: &Store, entries: &[(&str, CachedValue<Vec<u8>>)]) -> Result<()> {
    let last = last_of_each(entries.iter().map(|(key, _)| *key));
    let mut heads = Vec::with_capacity(entries.len() * HEAD);
    let last = last.iter().filter_map(|&position| entries.get(position));
    let prepared = last.map(|(key, value)| {
        let prepared = store.prepare(value, &mut heads);
        (*key, value.payload().as_slice(), prepared)
    });
    let entries: Vec<_> = prepared.collect();
    let mut outcomes = checked(store, entries.iter().map(|(key, ..)| *key));
    run(store, &mut outcomes, |position| {
        match entries.get(position) {
            Some((key, payload, prepared)) => prepared.command(&heads, key, payload),
            None => Command::Get(""),
        }
    })
    .await;
    for (outcome, (_, _, prepared)) in outcomes.iter_mut().zip(&entries) {
        if let (Some(Removal::TooLarge(len)), Some(Ok(_))) = (&prepared.removal, &outcome) {
            *outcome = Some(Err(store.too_large(*len)));
        }
    }
    let keys: Vec<&str> = entries.iter().map(|(key, ..)| *key).collect();
    written(store, outcomes, &keys).await
}

pub(crate) async fn delete(store: &Store, keys: &[&str]) -> Result<()> {
    let mut outcomes = checked(store, keys.iter().copied());
    run(store, &mut outcomes, |position| {
        Command::Delete(keys.get(position).copied().unwrap_or_default())
    })
    .await;
    written(store, outcomes, keys).await
}

/// Refuses invalid keys.
fn checked<'k>(store: &Store, keys: impl Iterator<Item = &'k str>) -> Outcomes {
    let dialect = store.cluster.settings.dialect;
    keys.map(|key| check_key(key, dialect).err().map(Err))
        .collect()
}

/// The result of a write, from the outcome of each key.
async fn written(store: &Store, outcomes: Outcomes, keys: &[&str]) -> Result<()> {
    let (mut failed, mut leftovers, mut cause) = (Vec::new(), Vec::new(), None);
    for (outcome, key) in outcomes.into_iter().zip(keys) {
        let error = match outcome {
            Some(Ok(Reply::Done)) => continue,
            Some(Ok(Reply::Failed(reason))) => {
                let error = refused(&reason);
                if error.kind() == ErrorKind::ValueTooLarge {
                    leftovers.push(*key);
                }
                error
            }
            Some(Ok(Reply::Found(_) | Reply::TooLarge(_) | Reply::Missing | Reply::Meta(_)))
            | None => senseless(),
            Some(Err(error)) => error,
        };
        failed.push(*key);
        cause.get_or_insert(error);
    }
    if !leftovers.is_empty() {
        // Some versions of memcached may not remove the old values.
        let mut outcomes = leftovers.iter().map(|_| None).collect();
        run(store, &mut outcomes, |position| {
            Command::Delete(leftovers.get(position).copied().unwrap_or_default())
        })
        .await;
    }
    match cause {
        None => Ok(()),
        Some(cause) => Err(Error::partial(cause, failed, keys.len())),
    }
}

/// The last position of each key, in order.
fn last_of_each<'k>(
    keys: impl DoubleEndedIterator<Item = &'k str> + ExactSizeIterator + Clone,
) -> Vec<usize> {
    if !may_repeat(keys.clone()) {
        return (0..keys.len()).collect();
    }
    let mut seen = HashSet::with_capacity(keys.len());
    let mut last: Vec<usize> = keys
        .enumerate()
        .rev()
        .filter_map(|(position, key)| seen.insert(key).then_some(position))
        .collect();
    last.reverse();
    last
}

/// Whether two keys have the same end, which is cheaper to check than equality of all keys.
fn may_repeat<'k>(keys: impl Iterator<Item = &'k str>) -> bool {
    let mut ends: Vec<u64> = keys.map(end_of).collect();
    ends.sort_unstable();
    ends.windows(2).any(|pair| pair.first() == pair.last())
}

/// The last eight bytes of a key; of a shorter key its length and all its bytes.
fn end_of(key: &str) -> u64 {
    match key.as_bytes().last_chunk() {
        Some(end) => u64::from_be_bytes(*end),
        None => key
            .bytes()
            .fold(key.len() as u64, |end, byte| end << 8 | u64::from(byte)),
    }
}

/// A request under way.
struct Sent<'f> {
    positions: Vec<usize>,
    index: usize,
    server: &'f Arc<Server>,
    waiter: Waiter,
}

/// Sends each command without an outcome, and records the outcomes.
async fn run<'a>(store: &Store, outcomes: &mut Outcomes, command: impl Fn(usize) -> Command<'a>) {
    let farm = store.cluster.farm();
    let mut call = Call::new(&store.cluster, &farm);
    let mut open: Vec<usize> = outcomes
        .iter()
        .enumerate()
        .filter_map(|(position, outcome)| outcome.is_none().then_some(position))
        .collect();
    // The servers that failed for a position in the last round.
    let mut left: HashMap<usize, usize> = HashMap::new();
    let mut is_quiet = true;
    let first = open.first().map(|&first| command(first));
    let is_marked = first.is_some_and(|first| store.is_marked(&first));
    while !open.is_empty() {
        match call.begin_round() {
            Ok(pause) if pause.is_zero() => {}
            Ok(pause) => Box::pin(sleep(pause)).await,
            Err(error) => return fail(outcomes, &open, &error),
        }
        let (groups, mut unrouted) = by_server(&mut call, open, &command);
        let mut sent = Vec::new();
        let mut again = Vec::new();
        for (index, positions) in groups.into_iter().enumerate() {
            let Some(server) = farm.server(index) else {
                continue;
            };
            count_failovers(&call, &mut left, index, &positions);
            for Chunk { positions, bytes } in chunks(&positions, &command) {
                let weight = 1 + positions.len() / WEIGHT_KEYS + bytes / WEIGHT_BYTES;
                let encode =
                    |out: &mut Outgoing| encode(&positions, &command, is_quiet, is_marked, out);
                match call.submit(server, &Exchange { encode, weight }).await {
                    Ok(Some(waiter)) => sent.push(Sent {
                        positions,
                        index,
                        server,
                        waiter,
                    }),
                    Ok(None) => {
                        left.extend(positions.iter().map(|&position| (position, index)));
                        again.extend(positions);
                    }
                    Err(error) => fail(outcomes, &positions, &error),
                }
            }
        }
        for Sent {
            positions,
            index,
            server,
            waiter,
        } in sent
        {
            match call.response(server, waiter).await {
                Ok(Some(Response::SomeFailed)) => {
                    // Send them again with replies, to learn which ones failed.
                    is_quiet = false;
                    again.extend(positions);
                }
                Ok(Some(Response::One(reply))) => {
                    place(outcomes, server, &positions, vec![reply]);
                }
                Ok(Some(Response::Many(mut replies))) => {
                    if is_marked && !replies.is_empty() {
                        call.note_mark(index, &replies.remove(0));
                        let keyed = replies.into_iter().zip(&positions);
                        let believed = keyed.map(|(reply, &position)| {
                            call.believe(index, command(position).key(), reply)
                        });
                        replies = believed.collect();
                    }
                    place(outcomes, server, &positions, replies);
                }
                Ok(None) => {
                    left.extend(positions.iter().map(|&position| (position, index)));
                    again.extend(positions);
                }
                Err(error) => fail(outcomes, &positions, &error),
            }
        }
        if !unrouted.is_empty() {
            if call.probed().await {
                again.append(&mut unrouted);
            } else {
                fail(outcomes, &unrouted, &call.nobody());
            }
        }
        open = again;
    }
}

fn fail(outcomes: &mut Outcomes, positions: &[usize], error: &Error) {
    for &position in positions {
        if let Some(outcome) = outcomes.get_mut(position) {
            *outcome = Some(Err(error.clone()));
        }
    }
}

/// Records the replies at their positions.
fn place(outcomes: &mut Outcomes, server: &Server, positions: &[usize], replies: Vec<Reply>) {
    for (&position, reply) in positions.iter().zip(replies) {
        if let Some(outcome) = outcomes.get_mut(position) {
            let reply = outcome.insert(Ok(reply));
            let _ = reply.as_mut().map(|reply| name_refuser(server, reply));
        }
    }
}

/// Counts the keys that go to the server `to` after another one failed.
fn count_failovers(
    call: &Call<'_>,
    left: &mut HashMap<usize, usize>,
    to: usize,
    positions: &[usize],
) {
    if left.is_empty() {
        return;
    }
    for position in positions {
        if let Some(from) = left.remove(position).filter(|&from| from != to) {
            call.failed_over(from, 1);
        }
    }
}

/// The positions of each server, and those without a server.
fn by_server<'a>(
    call: &mut Call<'_>,
    open: Vec<usize>,
    command: &impl Fn(usize) -> Command<'a>,
) -> (Vec<Vec<usize>>, Vec<usize>) {
    let mut groups = vec![Vec::new(); call.farm.len()];
    let mut unrouted = Vec::new();
    if let [group] = groups.as_mut_slice() {
        // A single server, if it is up.
        let first = open.first().copied().unwrap_or_default();
        match call.choose(command(first).key()) {
            Some(_) => *group = open,
            None => unrouted = open,
        }
        return (groups, unrouted);
    }
    for position in open {
        let chosen = call.choose(command(position).key());
        match chosen.and_then(|server| groups.get_mut(server)) {
            Some(group) => group.push(position),
            None => unrouted.push(position),
        }
    }
    (groups, unrouted)
}

/// The keys of one request.
#[derive(Debug, PartialEq)]
struct Chunk {
    positions: Vec<usize>,
    /// The size of the payload.
    bytes: usize,
}

/// Splits the positions of one server into requests. Keys that fit into a classic `get` are
/// separated from those that do not.
fn chunks<'a>(positions: &[usize], command: &impl Fn(usize) -> Command<'a>) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    // The chunk that is being filled, of either kind.
    let mut current = [None; 2];
    for &position in positions {
        let command = command(position);
        let kind = usize::from(is_classic_get(&command));
        let Some(index) = current.get_mut(kind) else {
            continue;
        };
        let size = command.size();
        match index.and_then(|index: usize| chunks.get_mut(index)) {
            Some(chunk)
                if chunk.positions.len() < KEYS && chunk.bytes.saturating_add(size) <= BYTES =>
            {
                chunk.positions.push(position);
                chunk.bytes += size;
            }
            _ => {
                *index = Some(chunks.len());
                let mut first = Vec::with_capacity(positions.len().min(KEYS));
                first.extend([position]);
                chunks.push(Chunk {
                    positions: first,
                    bytes: size,
                });
            }
        }
    }
    chunks
}

/// Appends the request for the keys at `positions`.
fn encode<'a>(
    positions: &[usize],
    command: &impl Fn(usize) -> Command<'a>,
    is_quiet: bool,
    is_marked: bool,
    out: &mut Outgoing,
) -> Result<Expected> {
    let nth = |n: usize| command(positions.get(n).copied().unwrap_or_default());
    if !is_marked {
        return encode_many(positions.len(), nth, is_quiet, out);
    }
    let mark_first = |n: usize| match n.checked_sub(1) {
        None => Command::Get(MARK),
        Some(n) => nth(n),
    };
    encode_many(positions.len() + 1, mark_first, is_quiet, out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_of_repeated_keys_counts() {
        assert_eq!(
            last_of_each(["a", "b", "a", "c", "b"].into_iter()),
            [2, 3, 4]
        );
        assert!(last_of_each([].into_iter()).is_empty());
        let alike = ["1 and a tail", "2 and a tail", "tail", "1 and a tail"];
        assert_eq!(last_of_each(alike.into_iter()), [1, 2, 3]);
    }

    fn positions_of(chunks: &[Chunk]) -> Vec<Vec<usize>> {
        chunks.iter().map(|chunk| chunk.positions.clone()).collect()
    }

    #[test]
    fn requests_are_bounded_by_keys_and_bytes() {
        let positions: Vec<usize> = (0..=KEYS).collect();
        let cut = chunks(&positions, &|_| Command::Get("k"));
        let lens: Vec<usize> = cut.iter().map(|chunk| chunk.positions.len()).collect();
        assert_eq!(lens, [KEYS, 1]);

        let payload = vec![0; BYTES / 2];
        let set = |_| Command::Set {
            key: "k",
            head: b"",
            payload: &payload,
            expires: 0,
            flags: 0,
        };
        let cut = chunks(&[0, 1, 2, 3, 4], &set);
        assert_eq!(positions_of(&cut), [vec![0, 1], vec![2, 3], vec![4]]);
        let bytes: Vec<usize> = cut.iter().map(|chunk| chunk.bytes).collect();
        assert_eq!(bytes, [BYTES, BYTES, BYTES / 2]);
    }

    #[test]
    fn keys_in_base64_are_sent_separately() {
        let keys = ["a", "b b", "c", "d d"];
        let cut = chunks(&[0, 1, 2, 3], &|position| Command::Get(keys[position]));
        assert_eq!(positions_of(&cut), [vec![0, 2], vec![1, 3]]);
    }
}
