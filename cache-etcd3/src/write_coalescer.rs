//! Single writes, batched with concurrent ones.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use crate::failure::{Failure, Next};
use crate::leases::MAX_LOST;
use crate::limits::MAX_SHARED_BYTES;
use crate::local::Local;
use crate::rounds::{Key, Kind, Rounds};
use crate::sync::lock;
use crate::write::{OLD_REMAINS, Ready, Write};
use crate::write_txn::{self, WritePart};

/// How long a write that is likely to be refused waits for its turn. Then it is sent in any case, so
/// that its caller learns the reason in time.
const TURN: Duration = Duration::from_millis(100);

/// Writes one key, batched with concurrent writes. If the server refuses the value because of its
/// size, the old one is deleted.
pub(crate) async fn write(
    writes: &Rounds<Writing>,
    write: Write,
    deadline: Instant,
) -> Result<(), Failure> {
    let write = Arc::new(write);
    let outcome = apply(writes, Arc::clone(&write), deadline).await;
    let Err(failure) = outcome else { return Ok(()) };
    if !failure.is_about_size() || write.put.is_none() {
        return Err(failure);
    }
    // Boxed since it is rare and would enlarge the future of every set.
    let removal = Arc::new(write.removal());
    Err(match Box::pin(apply(writes, removal, deadline)).await {
        Ok(()) => failure,
        Err(also) => failure.and(OLD_REMAINS, &also),
    })
}

async fn apply(
    writes: &Rounds<Writing>,
    mut write: Arc<Write>,
    deadline: Instant,
) -> Result<(), Failure> {
    let local = writes.local();
    let (leases, endpoints) = (&local.shared.leases, &local.endpoints);
    let mut lost = 0;
    loop {
        let lease = match write.class() {
            None => None,
            Some(class) => match leases.board_at_once(endpoints, class, write.hash) {
                Some(lease) => Some(lease),
                // Boxed since it is rare and would enlarge the future of every set.
                None => {
                    let boarding = leases.board(endpoints, class, write.hash, deadline);
                    match (Box::pin(boarding).await, write.without_mark()) {
                        (Ok(lease), _) => Some(lease),
                        (Err(failure), Some(delete)) if failure.next == Next::Full => {
                            write = Arc::new(delete);
                            continue;
                        }
                        (Err(failure), _) => return Err(failure),
                    }
                }
            },
        };
        let ready = Ready {
            write: Arc::clone(&write),
            lease,
        };
        // A large value would delay others, and a key that was refused would fail them.
        let was_refused = lock(&local.shared.unwritten).has(Instant::now(), &write.name);
        let outcome = if was_refused {
            send_in_turn(local, ready, deadline).await
        } else if write.bytes() > MAX_SHARED_BYTES {
            Writing::send_alone(local, ready, deadline).await
        } else {
            writes.ask(ready, deadline).await
        };
        let Err(failure) = outcome else { return Ok(()) };
        match (failure.next, write.class(), lease) {
            // Without a lease, it shared a request with a write whose lease was lost.
            (Next::NewLease, class, lease) if lost < MAX_LOST => {
                lost += 1;
                if let (Some(class), Some(lease)) = (class, lease) {
                    leases.lost(class, lease);
                }
            }
            (Next::Mark, ..) => write = Arc::new(write.as_mark(local.shared.settings.format)?),
            (Next::Full, ..) => match write.without_mark() {
                Some(delete) => write = Arc::new(delete),
                None => return Err(failure),
            },
            _ => return Err(failure),
        }
    }
}

/// Sends a write of a key of which one was refused recently. Such writes take turns, with a pause
/// as long as each took, so that a caller who is denied time and again slows others down little.
async fn send_in_turn(local: &Arc<Local>, ready: Ready, deadline: Instant) -> Result<(), Failure> {
    let patience = deadline.min(Instant::now() + TURN);
    let mut turn = timeout_at(patience, local.refused.lock()).await.ok();
    if let Some(next) = &turn {
        sleep_until(patience.min(**next)).await;
    }
    let sent = Instant::now();
    let outcome = Writing::send_alone(local, ready, deadline).await;
    if let Some(next) = &mut turn {
        **next = Instant::now() + sent.elapsed();
    }
    outcome
}

/// The writes as a kind of round.
pub(crate) struct Writing;

impl Kind for Writing {
    type Ask = Ready;
    type Answer = ();

    /// The second write of a key is sent after the first one was answered.
    const EXCLUSIVE: bool = true;

    fn name(ready: &Ready) -> &[u8] {
        &ready.write.name
    }

    fn hash(ready: &Ready) -> u64 {
        ready.write.hash
    }

    fn bytes(ready: &Ready) -> usize {
        ready.write.bytes()
    }

    async fn send_alone(
        local: &Arc<Local>,
        ready: Ready,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let only = Only {
            ready,
            outcome: Mutex::new(None),
        };
        write_txn::write_alone(local, &only, deadline).await;
        let outcome = only.outcome.into_inner();
        let outcome = outcome.unwrap_or_else(PoisonError::into_inner);
        outcome.unwrap_or_else(|| Err(Failure::new(Next::Repeat, "the write was not sent")))
    }

    async fn send_round(local: &Arc<Local>, keys: Vec<Key<Self>>, deadline: Instant) {
        write_txn::write(local, keys, deadline).await;
    }

    /// It may still arrive at any later time.
    fn left_under_way(local: &Local, ready: &Ready) {
        local.shared.doubts.note(Instant::now(), [ready.write.hash]);
    }
}

/// Only the last write of a key is sent, as if the others had been applied just before it. If it is
/// refused, the one before it is sent.
impl WritePart for Key<Writing> {
    fn wanted(&self) -> Option<Ready> {
        self.ask()
    }

    fn answer(&self, outcome: Result<(), Failure>) {
        self.answer_all(&outcome);
    }

    fn refuse(&self, write: &Weak<Write>, failure: Failure) -> bool {
        let is_it = |ready: &Ready| std::ptr::eq(Arc::as_ptr(&ready.write), write.as_ptr());
        self.answer_latest(is_it, Err(failure))
    }
}

/// A write that its caller sends itself.
struct Only {
    ready: Ready,
    outcome: Mutex<Option<Result<(), Failure>>>,
}

impl WritePart for Only {
    fn wanted(&self) -> Option<Ready> {
        Some(self.ready.clone())
    }

    fn answer(&self, outcome: Result<(), Failure>) {
        lock(&self.outcome).get_or_insert(outcome);
    }

    fn refuse(&self, _: &Weak<Write>, failure: Failure) -> bool {
        self.answer(Err(failure));
        false
    }
}
