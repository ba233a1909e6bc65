//! Operations on many keys: grouped by server, all servers at once.

use std::collections::HashSet;
use std::sync::Arc;

use cache_core::{CachedValue, Error, ErrorKind, Result};

use crate::answer::{Answer, Expect, Reply};
use crate::backend::{Inner, Removal, found, refused, said_by, senseless};
use crate::command::{Command, Outgoing, encode_end, encode_get_many, is_plain};
use crate::connection::{Exchange, Waiter};
use crate::journey::Journey;
use crate::server::Server;

/// The most keys in one exchange. A call of more takes several, at once and on whichever
/// connections have the least to do: memcached serves each connection by one thread.
const KEYS: usize = 64;

/// The most payload in one exchange, but for a single larger value.
const BYTES: usize = 1024 * 1024;

/// So many bytes weigh as much as a small call.
pub(crate) const WEIGHT_BYTES: usize = 4096;

/// So many keys of a multi operation do.
const WEIGHT_KEYS: usize = 8;

/// What became of each key.
struct Outcomes {
    replies: Vec<Option<Reply>>,
    /// The positions that failed, and the first reason.
    failed: Vec<usize>,
    cause: Option<Error>,
}

impl Outcomes {
    fn fail(&mut self, positions: &[usize], cause: Error) {
        self.failed.extend_from_slice(positions);
        self.cause.get_or_insert(cause);
    }
}

pub(crate) async fn get(inner: &Inner, keys: &[&str]) -> Result<Vec<Option<CachedValue<Vec<u8>>>>> {
    let outcomes = run(inner, keys.len(), |position| {
        Command::Get(keys.get(position).copied().unwrap_or_default())
    })
    .await;
    let named = |positions: &[usize]| -> Vec<String> {
        let keys = positions.iter().filter_map(|&position| keys.get(position));
        keys.map(|&key| key.to_owned()).collect()
    };
    if let Some(cause) = outcomes.cause {
        return Err(cause.with_keys(named(&outcomes.failed)));
    }
    let mut now = None;
    let replies = outcomes.replies.into_iter().enumerate();
    replies
        .map(|(position, reply)| {
            let reply = reply.ok_or_else(senseless);
            reply
                .and_then(|reply| found(reply, &mut now))
                .map_err(|error| error.with_keys(named(&[position])))
        })
        .collect()
}

pub(crate) async fn set(inner: &Inner, entries: &[(&str, CachedValue<Vec<u8>>)]) -> Result<()> {
    let last = last_of_each(entries.iter().map(|(key, _)| *key));
    let entries: Vec<_> = last
        .into_iter()
        .filter_map(|position| entries.get(position))
        .map(|(key, value)| (*key, value.payload().as_slice(), inner.prepare(value)))
        .collect();
    let mut outcomes = run(inner, entries.len(), |position| {
        match entries.get(position) {
            Some((key, payload, prepared)) => prepared.command(key, payload),
            None => Command::Get(""),
        }
    })
    .await;
    for (position, (_, _, prepared)) in entries.iter().enumerate() {
        if let Some(Removal::TooLarge(len)) = prepared.removal
            && !outcomes.failed.contains(&position)
        {
            outcomes.fail(&[position], inner.too_large(len));
        }
    }
    let keys: Vec<&str> = entries.iter().map(|(key, ..)| *key).collect();
    written(inner, outcomes, &keys).await
}

pub(crate) async fn delete(inner: &Inner, keys: &[&str]) -> Result<()> {
    let outcomes = run(inner, keys.len(), |position| {
        Command::Delete(keys.get(position).copied().unwrap_or_default())
    })
    .await;
    written(inner, outcomes, keys).await
}

/// The result of a write, from what became of each key.
async fn written(inner: &Inner, mut outcomes: Outcomes, keys: &[&str]) -> Result<()> {
    let mut leftovers = Vec::new();
    for (position, reply) in std::mem::take(&mut outcomes.replies)
        .into_iter()
        .enumerate()
    {
        match reply {
            // No reply: it is among those that failed.
            None | Some(Reply::Done) => {}
            Some(Reply::Failed(reason)) => {
                let error = refused(&reason);
                if error.kind() == ErrorKind::ValueTooLarge {
                    leftovers.extend(keys.get(position));
                }
                outcomes.fail(&[position], error);
            }
            Some(Reply::Found(_) | Reply::Missing) => outcomes.fail(&[position], senseless()),
        }
    }
    if !leftovers.is_empty() {
        // memcached has removed the old values; not every version is known to.
        run(inner, leftovers.len(), |position| {
            Command::Delete(leftovers.get(position).copied().unwrap_or_default())
        })
        .await;
    }
    let Some(cause) = outcomes.cause else {
        return Ok(());
    };
    outcomes.failed.sort_unstable();
    outcomes.failed.dedup();
    let failed = outcomes
        .failed
        .iter()
        .filter_map(|&position| keys.get(position));
    Err(Error::partial(cause, failed.copied(), keys.len()))
}

/// The positions at which each key stands for the last time, in order.
fn last_of_each<'k>(
    keys: impl DoubleEndedIterator<Item = &'k str> + ExactSizeIterator,
) -> Vec<usize> {
    let mut seen = HashSet::with_capacity(keys.len());
    let mut last: Vec<usize> = keys
        .enumerate()
        .rev()
        .filter_map(|(position, key)| seen.insert(key).then_some(position))
        .collect();
    last.reverse();
    last
}

/// An exchange under way.
struct Sent<'a> {
    positions: Vec<usize>,
    server: &'a Arc<Server>,
    waiter: Waiter,
}

/// Has `n` commands answered.
async fn run<'a>(inner: &Inner, n: usize, command: impl Fn(usize) -> Command<'a>) -> Outcomes {
    let mut outcomes = Outcomes {
        replies: (0..n).map(|_| None).collect(),
        failed: Vec::new(),
        cause: None,
    };
    let mut journey = Journey::default();
    let mut open: Vec<usize> = (0..n).collect();
    let mut is_quiet = true;
    while !open.is_empty() {
        if let Err(error) = journey.sets_out() {
            outcomes.fail(&open, error);
            break;
        }
        let (groups, mut unrouted) = by_server(inner, &mut journey, open, &command);
        let mut sent = Vec::new();
        for (server, positions) in groups.iter().zip(&inner.servers).map(|(p, s)| (s, p)) {
            for positions in chunks(positions, &command) {
                match submit(&mut journey, server, &positions, &command, is_quiet).await {
                    Ok(waiter) => sent.push(Sent {
                        positions,
                        server,
                        waiter,
                    }),
                    Err(error) => outcomes.fail(&positions, error),
                }
            }
        }
        let mut again = Vec::new();
        for Sent {
            positions,
            server,
            waiter,
        } in sent
        {
            match journey.answer(server, waiter, positions.len()).await {
                Ok(Some(Answer::SomeFailed)) => {
                    // Once more, aloud, to hear which.
                    is_quiet = false;
                    again.extend(positions);
                }
                Ok(Some(Answer::One(reply))) => {
                    place(&mut outcomes, server, &positions, vec![reply]);
                }
                Ok(Some(Answer::Many(replies))) => {
                    place(&mut outcomes, server, &positions, replies);
                }
                Ok(None) => again.extend(positions),
                Err(error) => outcomes.fail(&positions, error),
            }
        }
        if !unrouted.is_empty() {
            if journey.probed().await {
                again.append(&mut unrouted);
            } else {
                outcomes.fail(&unrouted, journey.nobody(inner));
            }
        }
        open = again;
    }
    outcomes
}

/// The positions of each server, and those for which there is none.
fn by_server<'a>(
    inner: &Inner,
    journey: &mut Journey,
    open: Vec<usize>,
    command: &impl Fn(usize) -> Command<'a>,
) -> (Vec<Vec<usize>>, Vec<usize>) {
    let mut groups = vec![Vec::new(); inner.servers.len()];
    let mut unrouted = Vec::new();
    if let ([group], true) = (groups.as_mut_slice(), inner.servers.len() == 1) {
        // One server for all, if it is up.
        if open
            .first()
            .is_some_and(|&first| journey.choose(inner, command(first).key()).is_some())
        {
            *group = open;
        } else {
            unrouted = open;
        }
        return (groups, unrouted);
    }
    for position in open {
        let chosen = journey.choose(inner, command(position).key());
        match chosen.and_then(|(server, _)| groups.get_mut(server)) {
            Some(group) => group.push(position),
            None => unrouted.push(position),
        }
    }
    (groups, unrouted)
}

/// Cuts the positions of one server into exchanges: those that can travel as one text `get`
/// apart from those that cannot.
fn chunks<'a>(positions: &[usize], command: &impl Fn(usize) -> Command<'a>) -> Vec<Vec<usize>> {
    let mut chunks: Vec<Vec<usize>> = Vec::new();
    let mut sizes = [usize::MAX; 2];
    let mut current = [0; 2];
    for &position in positions {
        let command = command(position);
        let is_text = matches!(command, Command::Get(key) if is_plain(key));
        let kind = usize::from(is_text);
        let (Some(size), Some(index)) = (sizes.get_mut(kind), current.get_mut(kind)) else {
            continue;
        };
        let more = size.saturating_add(command.size());
        match chunks.get_mut(*index) {
            Some(chunk) if *size != usize::MAX && chunk.len() < KEYS && more <= BYTES => {
                chunk.push(position);
                *size = more;
            }
            _ => {
                *index = chunks.len();
                *size = command.size();
                chunks.push(vec![position]);
            }
        }
    }
    chunks
}

async fn submit<'a>(
    journey: &mut Journey,
    server: &Arc<Server>,
    positions: &[usize],
    command: &impl Fn(usize) -> Command<'a>,
    is_quiet: bool,
) -> Result<Waiter> {
    let is_text =
        |&position: &usize| matches!(command(position), Command::Get(key) if is_plain(key));
    let bytes: usize = positions
        .iter()
        .map(|&position| command(position).size())
        .sum();
    let encode = |out: &mut Outgoing| match positions {
        [one] => {
            let tag = command(*one).encode(out)?;
            Ok(Expect::One { tag })
        }
        [first, ..] if is_text(first) => {
            let keys: Vec<&str> = positions
                .iter()
                .map(|&position| command(position).key())
                .collect();
            let start = out.bytes.len();
            encode_get_many(&keys, out);
            let line = out.bytes.get(start..).unwrap_or_default();
            Ok(Expect::values(line, keys.len()))
        }
        [first, ..] if is_quiet && !matches!(command(*first), Command::Get(_)) => {
            for &position in positions {
                command(position).encode_quiet(out)?;
            }
            encode_end(out);
            Ok(Expect::Quiet {
                commands: positions.len(),
                has_failed: false,
            })
        }
        [first, others @ ..] => {
            let first = command(*first).encode(out)?;
            for &other in others {
                command(other).encode(out)?;
            }
            let commands = positions.len();
            Ok(Expect::Many {
                first,
                commands,
                replies: Vec::with_capacity(commands),
            })
        }
        [] => Err(senseless()),
    };
    let exchange = Exchange {
        encode,
        weight: 1 + positions.len() / WEIGHT_KEYS + bytes / WEIGHT_BYTES,
    };
    journey.submit(server, &exchange).await
}

/// Puts the replies where they belong.
fn place(outcomes: &mut Outcomes, server: &Server, positions: &[usize], replies: Vec<Reply>) {
    for (&position, reply) in positions.iter().zip(replies) {
        if let Some(place) = outcomes.replies.get_mut(position) {
            *place = Some(said_by(server, reply));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_repeated_key_the_last_counts() {
        assert_eq!(
            last_of_each(["a", "b", "a", "c", "b"].into_iter()),
            [2, 3, 4]
        );
        assert!(last_of_each([].into_iter()).is_empty());
    }

    #[test]
    fn exchanges_are_bounded_in_keys_and_bytes() {
        let positions: Vec<usize> = (0..=KEYS).collect();
        let cut = chunks(&positions, &|_| Command::Get("k"));
        assert_eq!(cut.iter().map(Vec::len).collect::<Vec<_>>(), [KEYS, 1]);

        let payload = vec![0; BYTES / 2];
        let set = |_| Command::Set {
            key: "k",
            head: b"",
            payload: &payload,
            expires: 0,
        };
        let cut = chunks(&[0, 1, 2, 3, 4], &set);
        assert_eq!(cut, [vec![0, 1], vec![2, 3], vec![4]]);
    }

    #[test]
    fn keys_for_base64_travel_apart() {
        let keys = ["a", "b b", "c", "d d"];
        let cut = chunks(&[0, 1, 2, 3], &|position| Command::Get(keys[position]));
        assert_eq!(cut, [vec![0, 2], vec![1, 3]]);
    }
}
