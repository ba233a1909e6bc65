//! Multi operations: keys are grouped by server, and all servers work concurrently.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cache_core::{CachedValue, Error, ErrorKind, Result, Ttl};
use tokio::time::sleep;

use crate::cluster::{Call, MARK, Server};
use crate::connection::{Exchange, Waiter};
use crate::protocol::{
    Command, Expected, Outgoing, Reply, Response, check_key, encode_many, is_classic_get,
};
use crate::store::{self, Prepared, Removal, Store, WEIGHT_BYTES, senseless};

/// The most keys in one request. A call with more keys sends several concurrently, on different
/// connections: memcached serves each connection by one thread. With fewer keys the system calls
/// of another request cost more than a second thread gains.
const KEYS: usize = 128;

/// The most payload in one request, except for a single larger value.
const BYTES: usize = 1024 * 1024;

/// How many keys of a multi operation weigh as much as a small call.
const WEIGHT_KEYS: usize = 4;

/// If the last of several responses arrives this long after the first, the values of the first may
/// have expired meanwhile.
const FRESH: Duration = Duration::from_millis(5);

pub(crate) async fn get(store: &Store, keys: &[&str]) -> Vec<Result<Option<CachedValue<Vec<u8>>>>> {
    let commands: Vec<Command<'_>> = keys.iter().copied().map(Command::Get).collect();
    let mut outcomes = checked(store, &commands);
    let mut now = None;
    let finish = |position: usize, reply: Result<Reply>| {
        reply
            .and_then(|reply| store.found(reply, &mut now))
            .map_err(|error| error.with_key(key_at(&commands, position)))
    };
    run(store, &mut outcomes, &commands, finish).await;
    let late = now.and_then(|first| store.cluster.settings.now().duration_since(first).ok());
    if let Some(late) = late.filter(|late| *late > FRESH) {
        outcomes
            .iter_mut()
            .flatten()
            .for_each(|found| *found = found.take().and_then(|value| after(value, late)));
    }
    outcomes
}

/// A value `time` after it was found, unless it has expired.
fn after(value: CachedValue<Vec<u8>>, time: Duration) -> Option<CachedValue<Vec<u8>>> {
    let Ttl::For(left) = value.ttl() else {
        return Some(value);
    };
    let left = left.checked_sub(time).filter(|left| !left.is_zero())?;
    Some(value.with_ttl(left))
}

pub(crate) async fn set(store: &Store, entries: &[(&str, CachedValue<Vec<u8>>)]) -> Result<()> {
    let last = last_of_each(entries.iter().map(|(key, _)| *key));
    let last = last.iter().filter_map(|&position| entries.get(position));
    let prepared = last.clone().map(|(_, value)| store.prepare(value));
    let prepared: Vec<Prepared> = prepared.collect();
    let commands = last.zip(&prepared);
    let commands = commands.map(|((key, value), prepared)| prepared.command(key, value.payload()));
    let commands: Vec<Command<'_>> = commands.collect();
    let mut refused = Vec::new();
    let mut outcomes = checked(store, &commands);
    let finish = |position, reply| written(position, reply, &mut refused);
    run(store, &mut outcomes, &commands, finish).await;
    for (outcome, prepared) in outcomes.iter_mut().zip(&prepared) {
        if let (Some(Removal::TooLarge(len)), Ok(())) = (&prepared.removal, &outcome) {
            *outcome = Err(store.too_large(*len));
        }
    }
    conclude(store, outcomes, &commands, &refused).await
}

pub(crate) async fn delete(store: &Store, keys: &[&str]) -> Result<()> {
    let commands: Vec<Command<'_>> = keys.iter().copied().map(Command::Delete).collect();
    let mut refused = Vec::new();
    let mut outcomes = checked(store, &commands);
    let finish = |position, reply| written(position, reply, &mut refused);
    run(store, &mut outcomes, &commands, finish).await;
    conclude(store, outcomes, &commands, &refused).await
}

/// Refuses invalid keys. The outcomes of the others are those of a miss or of a write, until
/// [`run`] replaces them.
fn checked<T: Default>(store: &Store, commands: &[Command<'_>]) -> Vec<Result<T>> {
    let dialect = store.cluster.settings.dialect;
    let checked = commands.iter().map(|c| check_key(c.key(), dialect));
    checked.map(|valid| valid.map(|()| T::default())).collect()
}

/// The outcome of the write at `position`, which is added to `refused` if the server refused the
/// value because of its size.
fn written(position: usize, reply: Result<Reply>, refused: &mut Vec<usize>) -> Result<()> {
    match reply? {
        Reply::Done => Ok(()),
        Reply::Failed(reason) => {
            let error = store::refused(&reason);
            if error.kind() == ErrorKind::ValueTooLarge {
                refused.push(position);
            }
            Err(error)
        }
        Reply::Found(_) | Reply::TooLarge(_) | Reply::Missing | Reply::Meta(_) => Err(senseless()),
    }
}

/// The result of a write, from the outcome of each key.
async fn conclude(
    store: &Store,
    outcomes: Vec<Result<()>>,
    commands: &[Command<'_>],
    refused: &[usize],
) -> Result<()> {
    if !refused.is_empty() {
        // Some versions of memcached may not remove the old values.
        let refused = refused.iter().map(|&position| key_at(commands, position));
        let deletions: Vec<Command<'_>> = refused.map(Command::Delete).collect();
        let mut outcomes = vec![Ok(()); deletions.len()];
        let finish = |_, reply: Result<Reply>| reply.map(drop);
        run(store, &mut outcomes, &deletions, finish).await;
    }
    let (mut failed, mut cause) = (Vec::new(), None);
    for (outcome, command) in outcomes.into_iter().zip(commands) {
        if let Err(error) = outcome {
            failed.push(command.key());
            cause.get_or_insert(error);
        }
    }
    match cause {
        None => Ok(()),
        Some(cause) => Err(Error::partial(cause, failed, commands.len())),
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

/// The outcome of each key, which `finish` makes of the reply.
struct Outcomes<'o, T, F> {
    outcomes: &'o mut [Result<T>],
    finish: F,
}

impl<T, F: FnMut(usize, Result<Reply>) -> Result<T>> Outcomes<'_, T, F> {
    /// Records the replies of `server` at their positions.
    fn place(
        &mut self,
        server: &Server,
        positions: &[usize],
        replies: impl IntoIterator<Item = Reply>,
    ) {
        let mut replies = replies.into_iter();
        for &position in positions {
            let mut reply = replies.next().ok_or_else(senseless);
            if let Ok(reply) = &mut reply {
                server.name_refuser(reply);
            }
            self.record(position, reply);
        }
    }

    fn fail(&mut self, positions: &[usize], error: &Error) {
        for &position in positions {
            self.record(position, Err(error.clone()));
        }
    }

    #[inline]
    fn record(&mut self, position: usize, reply: Result<Reply>) {
        if let Some(outcome) = self.outcomes.get_mut(position) {
            *outcome = (self.finish)(position, reply);
        }
    }
}

/// Sends each command whose outcome is not an error, and replaces the outcomes by what `finish`
/// makes of the replies.
async fn run<T>(
    store: &Store,
    outcomes: &mut [Result<T>],
    commands: &[Command<'_>],
    finish: impl FnMut(usize, Result<Reply>) -> Result<T>,
) {
    let farm = store.cluster.farm();
    let mut call = Call::new(&store.cluster, &farm);
    let mut open: Vec<usize> = outcomes
        .iter()
        .enumerate()
        .filter_map(|(position, outcome)| outcome.is_ok().then_some(position))
        .collect();
    let mut outcomes = Outcomes { outcomes, finish };
    // The servers that failed for a position in the last round.
    let mut left: HashMap<usize, usize> = HashMap::new();
    let mut is_quiet = true;
    let is_marked = store.cluster.settings.expire_on_reconnect
        && matches!(commands.first(), Some(Command::Get(_)));
    while !open.is_empty() {
        match call.begin_round() {
            Ok(pause) if pause.is_zero() => {}
            Ok(pause) => Box::pin(sleep(pause)).await,
            Err(error) => return outcomes.fail(&open, &error),
        }
        let (groups, mut unrouted) = by_server(&mut call, open, commands);
        let mut sent = Vec::new();
        let mut again = Vec::new();
        for (index, positions) in groups.into_iter().enumerate() {
            let Some(server) = farm.server(index) else {
                outcomes.fail(&positions, &senseless());
                continue;
            };
            count_failovers(&call, &mut left, index, &positions);
            for Chunk { positions, bytes } in chunks(&positions, commands) {
                let weight = 1 + positions.len() / WEIGHT_KEYS + bytes / WEIGHT_BYTES;
                let exchange = Exchange {
                    encode: |out: &mut Outgoing| {
                        encode(&positions, commands, is_quiet, is_marked, out)
                    },
                    weight,
                    has_mark: is_marked,
                };
                match call.submit(server, &exchange).await {
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
                    Err(error) => outcomes.fail(&positions, &error),
                }
            }
        }
        // The last one first: the others will have been answered by then, without a wakeup for
        // each.
        for Sent {
            positions,
            index,
            server,
            waiter,
        } in sent.into_iter().rev()
        {
            match call.response(server, waiter).await {
                Ok(Some(Response::SomeFailed)) => {
                    // Send them again with replies, to learn which ones failed.
                    is_quiet = false;
                    again.extend(positions);
                }
                Ok(Some(Response::One(reply))) => {
                    outcomes.place(server, &positions, [reply]);
                }
                // Their outcomes say so already.
                Ok(Some(Response::AllDone(_))) => {}
                Ok(Some(Response::Many(mut replies))) => {
                    if is_marked && !replies.is_empty() {
                        farm.note_mark(index, &replies.remove(0));
                        let keyed = replies.into_iter().zip(&positions);
                        let believed = keyed.map(|(reply, &position)| {
                            farm.believe(index, key_at(commands, position), reply)
                        });
                        replies = believed.collect();
                    }
                    outcomes.place(server, &positions, replies);
                }
                Ok(None) => {
                    left.extend(positions.iter().map(|&position| (position, index)));
                    again.extend(positions);
                }
                Err(error) => outcomes.fail(&positions, &error),
            }
        }
        if !unrouted.is_empty() {
            if call.probed().await {
                again.append(&mut unrouted);
            } else {
                outcomes.fail(&unrouted, &call.nobody());
            }
        }
        open = again;
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
fn by_server(
    call: &mut Call<'_>,
    open: Vec<usize>,
    commands: &[Command<'_>],
) -> (Vec<Vec<usize>>, Vec<usize>) {
    let mut groups = vec![Vec::new(); call.farm.len()];
    let mut unrouted = Vec::new();
    if let [group] = groups.as_mut_slice() {
        // A single server, if it is up.
        let first = open.first().copied().unwrap_or_default();
        match call.choose(key_at(commands, first)) {
            Some(_) => *group = open,
            None => unrouted = open,
        }
        return (groups, unrouted);
    }
    for position in open {
        let chosen = call.choose(key_at(commands, position));
        match chosen.and_then(|server| groups.get_mut(server)) {
            Some(group) => group.push(position),
            None => unrouted.push(position),
        }
    }
    (groups, unrouted)
}

fn key_at<'k>(commands: &[Command<'k>], position: usize) -> &'k str {
    commands.get(position).map_or("", Command::key)
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
fn chunks(positions: &[usize], commands: &[Command<'_>]) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    // The chunk that is being filled, of either kind.
    let mut current = [None; 2];
    for &position in positions {
        let Some(command) = commands.get(position) else {
            continue;
        };
        let kind = usize::from(is_classic_get(command));
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
fn encode(
    positions: &[usize],
    commands: &[Command<'_>],
    is_quiet: bool,
    is_marked: bool,
    out: &mut Outgoing,
) -> Result<Expected> {
    let nth = |n: usize| {
        let command = positions
            .get(n)
            .and_then(|&position| commands.get(position));
        command.copied().unwrap_or(Command::Get(""))
    };
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
        let cut = chunks(&positions, &[Command::Get("k"); KEYS + 1]);
        let lens: Vec<usize> = cut.iter().map(|chunk| chunk.positions.len()).collect();
        assert_eq!(lens, [KEYS, 1]);

        let payload = vec![0; BYTES / 2];
        let set = Command::Set {
            key: "k",
            metadata: None,
            payload: &payload,
            expires: 0,
            flags: 0,
        };
        let cut = chunks(&[0, 1, 2, 3, 4], &[set; 5]);
        assert_eq!(positions_of(&cut), [vec![0, 1], vec![2, 3], vec![4]]);
        let bytes: Vec<usize> = cut.iter().map(|chunk| chunk.bytes).collect();
        assert_eq!(bytes, [BYTES, BYTES, BYTES / 2]);
    }

    #[test]
    fn keys_in_base64_are_sent_separately() {
        let commands = ["a", "b b", "c", "d d"].map(Command::Get);
        let cut = chunks(&[0, 1, 2, 3], &commands);
        assert_eq!(positions_of(&cut), [vec![0, 2], vec![1, 3]]);
    }
}
