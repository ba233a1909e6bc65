//! [`Queue`]: encoded requests on their way to the socket, which are withdrawn if their callers are
//! dropped before they are written.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::protocol::{Dialect, Expected, Outgoing};

/// Withdrawn requests remain in the buffer while they take less than this.
const LEFT: usize = 4 * 1024;

/// Empty buffers larger than this are freed.
const KEPT: usize = 256 * 1024;

/// The most bytes that leave the queue at once, except for a single larger request. A batch that
/// does not fit into the socket is returned: see [`Queue::park`].
const BATCH: usize = 128 * 1024;

/// A request that waits for its response. `C` is the channel to its caller.
#[derive(Debug)]
pub(crate) struct Pending<C> {
    pub(crate) expected: Expected,
    /// The first reply is the server's mark, not a value of the caller.
    pub(crate) has_mark: bool,
    /// `None`: the response is discarded.
    pub(crate) caller: Option<C>,
    pub(crate) weight: usize,
    /// The deadline of its caller, on the connection's clock.
    pub(crate) due: Instant,
}

#[derive(Debug)]
struct Entry<C> {
    id: u64,
    /// The ranges of its bytes and of its command ends in the buffers.
    bytes: (usize, usize),
    ends: (usize, usize),
    /// `None`: it was withdrawn.
    request: Option<Pending<C>>,
}

/// The requests of one connection that are not written yet, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Queue<C> {
    out: Outgoing,
    entries: VecDeque<Entry<C>>,
    next_id: u64,
    /// How many bytes of `out` belong to requests that were taken or withdrawn.
    wasted: usize,
    live: usize,
    /// The earliest deadline.
    earliest: Option<Instant>,
    parked: Batch<C>,
}

/// Requests that are being written.
#[derive(Debug)]
pub(crate) struct Batch<C> {
    pub(crate) bytes: Vec<u8>,
    /// Where each command ends.
    pub(crate) ends: Vec<usize>,
    entries: VecDeque<Entry<C>>,
    pub(crate) written: usize,
}

impl<C> Default for Batch<C> {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            ends: Vec::new(),
            entries: VecDeque::new(),
            written: 0,
        }
    }
}

impl<C> Batch<C> {
    pub(crate) fn is_written(&self) -> bool {
        self.written >= self.bytes.len()
    }

    /// Removes the requests of which a part has been written.
    pub(crate) fn take_begun(&mut self) -> impl Iterator<Item = Pending<C>> {
        let written = self.written;
        let begun = self
            .entries
            .partition_point(|entry| entry.bytes.0 < written);
        let begun = self.entries.drain(..begun);
        begun.filter_map(|entry| entry.request)
    }

    /// Empties it, once all is written.
    pub(crate) fn clear(&mut self) {
        self.written = 0;
        self.ends.clear();
        self.entries.clear();
        self.bytes.clear();
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }

    /// Removes withdrawn requests from the bytes. The remaining entries were not begun; the bytes
    /// before the first entry were.
    fn compact(&mut self) {
        let begun = self.entries.front().map_or(self.bytes.len(), |e| e.bytes.0);
        let mut bytes = self.bytes.get(..begun).unwrap_or_default().to_vec();
        let first_end = self.entries.front().map_or(self.ends.len(), |e| e.ends.0);
        let mut ends = self.ends.get(..first_end).unwrap_or_default().to_vec();
        self.entries.retain(|entry| entry.request.is_some());
        for entry in &mut self.entries {
            relocate(entry, &self.bytes, &self.ends, &mut bytes, &mut ends);
        }
        (self.bytes, self.ends) = (bytes, ends);
    }
}

/// Moves the bytes of `entry` to other buffers.
fn relocate<C>(
    entry: &mut Entry<C>,
    from_bytes: &[u8],
    from_ends: &[usize],
    bytes: &mut Vec<u8>,
    ends: &mut Vec<usize>,
) {
    let (start, first) = (bytes.len(), ends.len());
    let old = entry.bytes.0;
    bytes.extend_from_slice(from_bytes.get(old..entry.bytes.1).unwrap_or_default());
    let its = from_ends
        .get(entry.ends.0..entry.ends.1)
        .unwrap_or_default();
    ends.extend(its.iter().map(|end| end - old + start));
    entry.bytes = (start, bytes.len());
    entry.ends = (first, ends.len());
}

impl<C> Queue<C> {
    pub(crate) fn new(dialect: Dialect) -> Self {
        Self {
            out: Outgoing::new(dialect),
            entries: VecDeque::new(),
            next_id: 0,
            wasted: 0,
            live: 0,
            earliest: None,
            parked: Batch::default(),
        }
    }

    /// How many requests wait to be written.
    pub(crate) fn len(&self) -> usize {
        self.live + self.parked.entries.len()
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.out.dialect()
    }

    /// Whether there has been a value for a meta command, apart from those in a parked batch.
    pub(crate) fn has_had_value(&self) -> bool {
        self.out.has_value
    }

    /// Whether there is a batch that the socket had no room for.
    pub(crate) fn is_parked(&self) -> bool {
        !self.parked.is_written()
    }

    /// Adds a request, and returns the ID by which it can be withdrawn. Adds nothing if `encode`
    /// fails.
    #[inline]
    pub(crate) fn push<E>(
        &mut self,
        encode: impl FnOnce(&mut Outgoing) -> Result<Expected, E>,
        has_mark: bool,
        caller: C,
        weight: usize,
        due: Instant,
    ) -> Result<u64, E> {
        let (start, first) = (self.out.bytes.len(), self.out.ends.len());
        let expected = match encode(&mut self.out) {
            Ok(expected) => expected,
            Err(error) => {
                self.out.bytes.truncate(start);
                self.out.ends.truncate(first);
                return Err(error);
            }
        };
        let id = self.next_id;
        self.next_id += 1;
        self.live += 1;
        let earliest = self.earliest.unwrap_or(due);
        self.earliest = Some(earliest.min(due));
        self.entries.push_back(Entry {
            id,
            bytes: (start, self.out.bytes.len()),
            ends: (first, self.out.ends.len()),
            request: Some(Pending {
                expected,
                has_mark,
                caller: Some(caller),
                weight,
                due,
            }),
        });
        Ok(id)
    }

    /// Withdraws the request `id`, if no part of it has been written. Its memory is freed
    /// immediately, up to a few kilobytes in total.
    pub(crate) fn withdraw(&mut self, id: u64) -> Option<Pending<C>> {
        if let Ok(index) = self.entries.binary_search_by_key(&id, |entry| entry.id) {
            let entry = self.entries.get_mut(index)?;
            let request = entry.request.take()?;
            self.wasted += entry.bytes.1 - entry.bytes.0;
            self.live -= 1;
            self.tidy();
            return Some(request);
        }
        let parked = &mut self.parked;
        let index = parked.entries.binary_search_by_key(&id, |entry| entry.id);
        let entry = parked.entries.get_mut(index.ok()?)?;
        let request = entry.request.take();
        parked.compact();
        request
    }

    fn tidy(&mut self) {
        if self.live == 0 {
            self.entries.clear();
            self.wasted = 0;
            self.out.ends.clear();
            self.out.bytes.clear();
            if self.out.bytes.capacity() > KEPT {
                self.out.bytes = Vec::new();
            }
        } else if self.wasted > LEFT && self.wasted > self.out.bytes.len() / 2 {
            let (mut bytes, mut ends) = (Vec::new(), Vec::new());
            self.entries.retain(|entry| entry.request.is_some());
            for entry in &mut self.entries {
                relocate(
                    entry,
                    &self.out.bytes,
                    &self.out.ends,
                    &mut bytes,
                    &mut ends,
                );
            }
            (self.out.bytes, self.out.ends) = (bytes, ends);
            self.wasted = 0;
        }
    }

    /// Moves requests from the head of the queue to the empty `batch`: the parked batch, or as
    /// many as may be written at once. `false`: the queue is empty.
    pub(crate) fn take(&mut self, batch: &mut Batch<C>) -> bool {
        if !self.parked.is_written() {
            std::mem::swap(&mut self.parked, batch);
            return true;
        }
        if self.live == 0 {
            return false;
        }
        if self.wasted == 0 && self.out.bytes.len() <= BATCH {
            std::mem::swap(&mut self.out.bytes, &mut batch.bytes);
            std::mem::swap(&mut self.out.ends, &mut batch.ends);
            std::mem::swap(&mut self.entries, &mut batch.entries);
            self.live = 0;
            self.earliest = None;
            return true;
        }
        while let Some(mut entry) = self.entries.pop_front() {
            if entry.request.is_none() {
                continue;
            }
            let size = entry.bytes.1 - entry.bytes.0;
            if !batch.entries.is_empty() && batch.bytes.len() + size > BATCH {
                self.entries.push_front(entry);
                break;
            }
            let (out, batch) = (&self.out, &mut *batch);
            relocate(
                &mut entry,
                &out.bytes,
                &out.ends,
                &mut batch.bytes,
                &mut batch.ends,
            );
            batch.entries.push_back(entry);
            self.wasted += size;
            self.live -= 1;
        }
        self.tidy();
        true
    }

    /// Keeps a batch that the socket had no room for, so that requests that were not begun can
    /// still be withdrawn. An empty batch does not replace one that is kept already.
    pub(crate) fn park(&mut self, batch: &mut Batch<C>) {
        if !batch.is_written() {
            std::mem::swap(&mut self.parked, batch);
            self.earliest = self.earliest_waiting();
        }
    }

    /// The earliest deadline of the requests that are not written.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.earliest.filter(|_| self.len() > 0)
    }

    fn waiting(&self) -> impl Iterator<Item = (u64, Instant)> {
        let entries = self.parked.entries.iter().chain(&self.entries);
        entries.filter_map(|entry| Some((entry.id, entry.request.as_ref()?.due)))
    }

    /// Withdraws the requests whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Instant, expired: &mut Vec<Pending<C>>) {
        let due: Vec<u64> = self
            .waiting()
            .filter(|&(_, due)| due <= now)
            .map(|(id, _)| id)
            .collect();
        expired.extend(due.into_iter().filter_map(|id| self.withdraw(id)));
        self.earliest = self.earliest_waiting();
    }

    fn earliest_waiting(&self) -> Option<Instant> {
        self.waiting().map(|(_, due)| due).min()
    }

    /// Removes all requests that were not begun. The queue is empty afterwards.
    pub(crate) fn drain(&mut self) -> Vec<Pending<C>> {
        let parked = std::mem::take(&mut self.parked);
        let queued = std::mem::take(&mut self.entries);
        self.live = 0;
        self.tidy();
        let entries = parked.entries.into_iter().chain(queued);
        entries.filter_map(|entry| entry.request).collect()
    }

    /// The memory that the queue holds for requests.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.out.bytes.capacity()
            + self.parked.bytes.capacity()
            + self.entries.len() * size_of::<Entry<C>>()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use super::*;
    use crate::protocol::Command;

    type Refused = cache_core::Error;

    fn queue() -> Queue<u32> {
        Queue::new(Dialect::Classic)
    }

    /// A time, in seconds since the first use of this.
    fn at(seconds: u64) -> Instant {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        *START + Duration::from_secs(seconds)
    }

    fn push(queue: &mut Queue<u32>, caller: u32, size: usize) -> u64 {
        let payload = vec![b'x'; size];
        let key = format!("k{caller}");
        let encode = |out: &mut Outgoing| {
            let command = Command::Set {
                key: &key,
                metadata: None,
                payload: &payload,
                expires: 0,
                flags: 0,
            };
            command.encode_classic(out);
            Ok::<_, Refused>(Expected::lines(1))
        };
        let due = at(caller.into());
        queue.push(encode, false, caller, 1, due).unwrap()
    }

    /// Everything still queued, as the server would see it, and the callers.
    fn all(queue: &mut Queue<u32>) -> (String, Vec<u32>) {
        let (mut text, mut callers) = (String::new(), Vec::new());
        let mut batch = Batch::default();
        while queue.take(&mut batch) {
            assert!(
                batch
                    .ends
                    .iter()
                    .all(|&end| batch.bytes[..end].ends_with(b"\r\n"))
            );
            assert_eq!(batch.ends.last(), Some(&batch.bytes.len()));
            text += std::str::from_utf8(&batch.bytes[batch.written..]).unwrap();
            batch.written = batch.bytes.len();
            callers.extend(batch.take_begun().filter_map(|r| r.caller));
            batch.clear();
        }
        (text, callers)
    }

    #[test]
    fn requests_are_written_in_order() {
        let mut queue = queue();
        for caller in 0..3 {
            push(&mut queue, caller, 1);
        }
        assert_eq!(queue.len(), 3);
        let (text, callers) = all(&mut queue);
        assert_eq!(
            text,
            "set k0 0 0 1\r\nx\r\nset k1 0 0 1\r\nx\r\nset k2 0 0 1\r\nx\r\n"
        );
        assert_eq!(callers, [0, 1, 2]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn withdrawn_requests_are_not_written_and_their_memory_is_freed_at_once() {
        let mut queue = queue();
        let ids: Vec<u64> = (0..1000)
            .map(|caller| push(&mut queue, caller, 10_000))
            .collect();
        assert!(queue.held() > 10_000_000);
        for &id in &ids[..999] {
            assert!(queue.withdraw(id).is_some());
            assert!(queue.withdraw(id).is_none(), "once only");
        }
        assert!(queue.held() < 50_000, "{}", queue.held());
        let (text, callers) = all(&mut queue);
        assert!(text.starts_with("set k999 "));
        assert_eq!(callers, [999]);
    }

    #[test]
    fn a_backlog_is_written_in_bounded_batches() {
        let mut queue = queue();
        for caller in 0..100 {
            push(&mut queue, caller, 10_000);
        }
        push(&mut queue, 100, 1_000_000);
        let mut batch = Batch::default();
        assert!(queue.take(&mut batch));
        assert!(batch.bytes.len() <= BATCH, "{}", batch.bytes.len());
        queue.park(&mut batch);
        let (_, callers) = all(&mut queue);
        assert_eq!(callers, (0..=100).collect::<Vec<_>>());
    }

    #[test]
    fn requests_that_do_not_fit_in_the_socket_can_be_withdrawn_unless_partly_written() {
        let mut queue = queue();
        let ids: Vec<u64> = (0..4).map(|caller| push(&mut queue, caller, 1)).collect();
        let mut batch = Batch::default();
        assert!(queue.take(&mut batch));
        batch.written = 20; // The first, and a part of the second.
        let begun: Vec<u32> = batch.take_begun().filter_map(|r| r.caller).collect();
        assert_eq!(begun, [0, 1]);
        queue.park(&mut batch);
        assert!(queue.withdraw(ids[1]).is_none(), "it is on its way");
        assert_eq!(queue.withdraw(ids[2]).unwrap().caller, Some(2));
        push(&mut queue, 4, 1);
        let (text, callers) = all(&mut queue);
        assert_eq!(callers, [3, 4]);
        // The first is 17 bytes long, and 3 of the second were written.
        assert_eq!(
            text,
            " k1 0 0 1\r\nx\r\nset k3 0 0 1\r\nx\r\nset k4 0 0 1\r\nx\r\n"
        );
    }

    #[test]
    fn a_parked_batch_fails_with_the_others_when_the_connection_ends() {
        let mut queue = queue();
        push(&mut queue, 0, 1);
        let mut batch = Batch::default();
        assert!(queue.take(&mut batch));
        queue.park(&mut batch);
        batch.clear();
        push(&mut queue, 1, 1);
        queue.park(&mut batch);
        let callers: Vec<u32> = queue.drain().into_iter().filter_map(|r| r.caller).collect();
        assert_eq!(callers, [0, 1]);
    }

    #[test]
    fn requests_expire_at_their_own_deadlines() {
        let mut queue = queue();
        for caller in [5, 2, 9] {
            push(&mut queue, caller, 1);
        }
        assert_eq!(queue.earliest(), Some(at(2)));
        let mut expired = Vec::new();
        queue.expire(at(5), &mut expired);
        let expired: Vec<u32> = expired.into_iter().filter_map(|r| r.caller).collect();
        assert_eq!(expired, [5, 2]);
        assert_eq!(all(&mut queue).1, [9]);
    }

    #[test]
    fn a_parked_request_expires_at_its_deadline() {
        let mut queue = queue();
        push(&mut queue, 5, 1);
        let mut batch = Batch::default();
        assert!(queue.take(&mut batch));
        assert_eq!(queue.earliest(), None);
        queue.park(&mut batch);
        assert_eq!(queue.earliest(), Some(at(5)));
        let mut expired = Vec::new();
        queue.expire(at(5), &mut expired);
        assert_eq!(expired.len(), 1);
    }

    #[test]
    fn a_refused_request_leaves_nothing_behind() {
        let mut queue = queue();
        let refuse = |out: &mut Outgoing| {
            out.bytes.extend_from_slice(b"half a command");
            Err("refused")
        };
        assert_eq!(queue.push(refuse, false, 0, 1, at(0)), Err("refused"));
        push(&mut queue, 1, 1);
        assert_eq!(all(&mut queue).0, "set k1 0 0 1\r\nx\r\n");
    }
}
