//! [`Rounds`]: sends the rounds that the [`Coalescer`] forms, for reads and for writes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use crate::coalescer::{Coalescer, Entry, Left, RoundId, Ticket};
use crate::failure::{Failure, Next};
use crate::local::Local;
use crate::sync::lock;

/// A kind of request that is sent in rounds.
pub(crate) trait Kind: Sized + Send + Sync + 'static {
    /// One key of a request.
    type Ask: Clone + Send;
    type Answer: Clone + Send;

    /// Rounds in flight never share a key.
    const EXCLUSIVE: bool;

    fn name(ask: &Self::Ask) -> &[u8];

    fn hash(ask: &Self::Ask) -> u64;

    fn bytes(ask: &Self::Ask) -> usize;

    /// Sends a request for a single call.
    fn send_alone(
        local: &Arc<Local>,
        ask: Self::Ask,
        deadline: Instant,
    ) -> impl Future<Output = Result<Self::Answer, Failure>> + Send;

    /// Sends one request for several keys and answers each of them.
    fn send_round(
        local: &Arc<Local>,
        keys: Vec<Key<Self>>,
        deadline: Instant,
    ) -> impl Future<Output = ()> + Send;

    /// The caller of a request that was sent is gone.
    fn left_under_way(local: &Local, ask: &Self::Ask);
}

/// The calls of one kind in one runtime.
pub(crate) struct Rounds<K: Kind>(Arc<Inner<K>>);

struct Inner<K: Kind> {
    local: Arc<Local>,
    state: Mutex<State<K>>,
}

struct State<K: Kind> {
    coalescer: Coalescer<Call<K>>,
    /// The task that sends each round.
    senders: HashMap<RoundId, AbortHandle>,
}

struct Call<K: Kind> {
    ask: K::Ask,
    deadline: Instant,
    done: oneshot::Sender<Result<K::Answer, Failure>>,
}

/// How often the task of a round yields to the callers that it has answered: a few microseconds.
/// With more than one worker thread, one yield is too short for all of them to call again.
const MAX_YIELDS: usize = 4;

/// With a single server, a second round keeps it busy while the client is. In a cluster each round
/// also costs messages between the members, so that a larger one is better than a second one.
pub(crate) fn rounds_in_flight(endpoints: usize) -> usize {
    if endpoints == 1 { 2 } else { 1 }
}

impl<K: Kind> Rounds<K> {
    pub(crate) fn new(local: &Arc<Local>) -> Self {
        let rounds = rounds_in_flight(local.shared.settings.endpoints.len());
        Self(Arc::new(Inner {
            local: Arc::clone(local),
            state: Mutex::new(State {
                coalescer: Coalescer::new(K::EXCLUSIVE, rounds),
                senders: HashMap::new(),
            }),
        }))
    }

    pub(crate) fn local(&self) -> &Arc<Local> {
        &self.0.local
    }

    /// Requests one key, batched with concurrent calls.
    pub(crate) async fn ask(&self, ask: K::Ask, deadline: Instant) -> Result<K::Answer, Failure> {
        let rounds = &self.0;
        let (hash, bytes) = (K::hash(&ask), K::bytes(&ask));
        let mut answer = None;
        let (entry, stalled) = {
            let mut state = lock(&rounds.state);
            let entry = state.coalescer.enter(Instant::now(), hash, bytes, || {
                let (done, is_done) = oneshot::channel();
                answer = Some(is_done);
                Call {
                    ask: ask.clone(),
                    deadline,
                    done,
                }
            });
            (entry, begin(rounds, &mut state))
        };
        match (entry, answer) {
            (Entry::Waits(ticket), Some(answer)) => {
                drop(ask);
                let waiting = Waiting {
                    rounds,
                    ticket: Some(ticket),
                };
                waiting.wait(answer, stalled, deadline).await
            }
            (Entry::Waits(_), None) => Err(abandoned()),
            (Entry::Alone(round), _) => {
                let _round = Open { rounds, round };
                K::send_alone(&rounds.local, ask, deadline).await
            }
        }
    }
}

fn abandoned() -> Failure {
    Failure::new(
        Next::Repeat,
        "the request was dropped before its response; retry it",
    )
}

/// A waiting call. Dropping it withdraws it.
struct Waiting<'a, K: Kind> {
    rounds: &'a Arc<Inner<K>>,
    /// `None` once it was answered.
    ticket: Option<Ticket>,
}

impl<K: Kind> Waiting<'_, K> {
    /// Waits for the answer. `stalled` is when a stalled round may make room.
    async fn wait(
        mut self,
        mut answer: oneshot::Receiver<Result<K::Answer, Failure>>,
        mut stalled: Option<Instant>,
        deadline: Instant,
    ) -> Result<K::Answer, Failure> {
        loop {
            let until = stalled.map_or(deadline, |stalled| stalled.min(deadline));
            match timeout_at(until, &mut answer).await {
                Ok(answer) => {
                    self.ticket = None;
                    return answer.unwrap_or_else(|_| Err(abandoned()));
                }
                Err(_) if Instant::now() >= deadline => {
                    return Err(self.rounds.local.endpoints.expired("no response"));
                }
                Err(_) => stalled = begin(self.rounds, &mut lock(&self.rounds.state)),
            }
        }
    }
}

impl<K: Kind> Drop for Waiting<'_, K> {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let (call, sender) = {
            let mut state = lock(&self.rounds.state);
            let call = state.coalescer.member(ticket);
            let call = call.map(|call| call.ask.clone());
            let sender = match state.coalescer.leave(ticket) {
                Left::LastOf(round) => state.senders.remove(&round),
                _ => None,
            };
            (call, sender)
        };
        if let Some(ask) = call {
            K::left_under_way(&self.rounds.local, &ask);
        }
        if let Some(sender) = sender {
            sender.abort();
        }
    }
}

/// A round in flight. Dropping it, for whatever reason, makes room for another.
struct Open<'a, K: Kind> {
    rounds: &'a Arc<Inner<K>>,
    round: RoundId,
}

impl<K: Kind> Drop for Open<'_, K> {
    fn drop(&mut self) {
        let unanswered = {
            let mut state = lock(&self.rounds.state);
            state.senders.remove(&self.round);
            state.coalescer.finish(self.round)
        };
        // Dropping their senders fails these calls.
        drop(unanswered);
        begin(self.rounds, &mut lock(&self.rounds.state));
    }
}

/// Sends waiting calls while there is room. Returns when a stalled round will make room.
fn begin<K: Kind>(rounds: &Arc<Inner<K>>, state: &mut State<K>) -> Option<Instant> {
    let limits = rounds.local.shared.limits.get();
    let now = Instant::now();
    while let Some(round) = state.coalescer.begin(now, limits) {
        let task = rounds.local.runtime.spawn(send(Arc::clone(rounds), round));
        state.senders.insert(round, task.abort_handle());
    }
    state.coalescer.poll_timeout(now)
}

async fn send<K: Kind>(rounds: Arc<Inner<K>>, round: RoundId) {
    let _open = Open {
        rounds: &rounds,
        round,
    };
    let (keys, deadline) = keys(&rounds, round);
    let answered = keys.len();
    if let Some(deadline) = deadline {
        K::send_round(&rounds.local, keys, deadline).await;
    }
    // The callers that were just answered may make further calls, to be batched together.
    for _ in 0..MAX_YIELDS {
        tokio::task::yield_now().await;
        if !lock(&rounds.state).coalescer.expects_more(answered) {
            break;
        }
    }
}

/// The keys of a round, and the latest deadline of its calls.
fn keys<K: Kind>(rounds: &Arc<Inner<K>>, round: RoundId) -> (Vec<Key<K>>, Option<Instant>) {
    let state = lock(&rounds.state);
    let mut positions: HashMap<&[u8], usize> = HashMap::new();
    let mut keys: Vec<Key<K>> = Vec::new();
    let mut deadline = None;
    for (ticket, call) in state.coalescer.members(round) {
        deadline = deadline.max(Some(call.deadline));
        let at = *positions.entry(K::name(&call.ask)).or_insert(keys.len());
        match keys.get_mut(at) {
            Some(key) => key.tickets.push(ticket),
            None => keys.push(Key {
                rounds: Arc::clone(rounds),
                tickets: vec![ticket],
            }),
        }
    }
    (keys, deadline)
}

/// A key of a round, and the calls for it in order of arrival.
pub(crate) struct Key<K: Kind> {
    rounds: Arc<Inner<K>>,
    tickets: Vec<Ticket>,
}

impl<K: Kind> Key<K> {
    /// The request of the latest call that still waits, if any.
    pub(crate) fn ask(&self) -> Option<K::Ask> {
        let state = lock(&self.rounds.state);
        let mut calls = self.tickets.iter().rev();
        calls.find_map(|ticket| Some(state.coalescer.member(*ticket)?.ask.clone()))
    }

    /// Answers the latest call that still waits, if it is the one that `is_it` accepts. Returns
    /// whether a call waits after that.
    pub(crate) fn answer_latest(
        &self,
        is_it: impl FnOnce(&K::Ask) -> bool,
        outcome: Result<K::Answer, Failure>,
    ) -> bool {
        let mut state = lock(&self.rounds.state);
        let waits = |ticket: &Ticket| state.coalescer.member(*ticket).is_some();
        let mut waiting = self.tickets.iter().rev().copied().filter(waits);
        let (latest, is_last) = (waiting.next(), waiting.next().is_none());
        let Some(latest) = latest else {
            return false;
        };
        let asked = state.coalescer.member(latest);
        if !asked.is_some_and(|call| is_it(&call.ask)) {
            return true;
        }
        if let Some(call) = state.coalescer.take(latest) {
            let _ = call.done.send(outcome);
        }
        !is_last
    }

    pub(crate) fn answer_all(&self, outcome: &Result<K::Answer, Failure>) {
        for ticket in &self.tickets {
            // The lock is released before the caller is woken, since it needs it for its next call.
            let call = lock(&self.rounds.state).coalescer.take(*ticket);
            if let Some(call) = call {
                let _ = call.done.send(outcome.clone());
            }
        }
    }
}
