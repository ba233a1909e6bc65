//! Single reads, batched with concurrent ones. A request is sent after all its calls have begun,
//! so that each read sees every write acknowledged before.

use std::sync::Arc;

use tokio::time::Instant;

use crate::failure::Failure;
use crate::local::Local;
use crate::read_txn::{self, Name, ReadPart};
use crate::rounds::{Key, Kind, Rounds};
use crate::sync::lock;

/// Reads one key, batched with concurrent reads.
pub(crate) async fn read(
    reads: &Rounds<Reading>,
    name: Name,
    deadline: Instant,
) -> Result<Option<Vec<u8>>, Failure> {
    let now = Instant::now();
    let shared = &reads.local().shared;
    let is_loner =
        lock(&shared.large).has(now, &name.name) || lock(&shared.unread).has(now, &name.name);
    if is_loner {
        return Reading::send_alone(reads.local(), name, deadline).await;
    }
    reads.ask(name, deadline).await
}

/// The reads as a kind of round.
pub(crate) struct Reading;

impl Kind for Reading {
    type Ask = Name;
    type Answer = Option<Vec<u8>>;

    const EXCLUSIVE: bool = false;

    fn name(name: &Name) -> &[u8] {
        &name.name
    }

    fn hash(name: &Name) -> u64 {
        name.hash
    }

    fn bytes(name: &Name) -> usize {
        name.bytes()
    }

    async fn send_alone(
        local: &Arc<Local>,
        name: Name,
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Failure> {
        read_txn::read_one(local, &name.name, deadline, || true).await
    }

    async fn send_round(local: &Arc<Local>, keys: Vec<Key<Self>>, deadline: Instant) {
        read_txn::read(local, keys, deadline).await;
    }

    fn left_under_way(_: &Local, _: &Name) {}
}

impl ReadPart for Key<Reading> {
    fn wanted(&self) -> Option<Vec<u8>> {
        self.ask().map(|name| name.name)
    }

    fn answer(&self, outcome: Result<Option<Vec<u8>>, Failure>) {
        self.answer_all(&outcome);
    }
}
