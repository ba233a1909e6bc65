//! The model of an etcd cluster: one store, and members that hang, die and are partitioned.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::random::Rng;

/// What is stored under a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stored {
    /// `None`: the mark left by a delete.
    pub(super) value: Option<u64>,
    pub(super) deadline: Option<Instant>,
    revision: i64,
    lease: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub(super) expires: Instant,
    pub(super) ttl: Duration,
}

/// The contents of a write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Put {
    pub(super) key: u64,
    /// `None` deletes the key.
    pub(super) value: Option<(Option<u64>, Option<Instant>, Option<i64>)>,
}

#[derive(Clone, Debug)]
pub(super) enum Ask {
    Write { puts: Vec<Put>, newest: Option<i64> },
    Read { keys: Vec<u64> },
    Grant { seconds: i64 },
    Revoke { lease: i64 },
}

#[derive(Clone, Debug)]
pub(super) enum Reply {
    Applied(i64),
    MovedOn(i64),
    NoLease,
    Found(Vec<Option<Stored>>, i64),
    Granted {
        lease: i64,
        ttl: i64,
    },
    Revoked,
    NoLeader,
    Learner,
    Repeat,
    /// The reply of another cluster.
    Foreign(Box<Reply>),
}

/// The reply of an empty cluster.
pub(super) fn empty(ask: &Ask) -> Reply {
    match ask {
        Ask::Write { .. } => Reply::Applied(1),
        Ask::Read { keys } => Reply::Found(vec![None; keys.len()], 1),
        Ask::Grant { seconds } => Reply::Granted {
            lease: i64::MAX,
            ttl: *seconds,
        },
        Ask::Revoke { .. } => Reply::Revoked,
    }
}

/// The state of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Well,
    /// It accepts requests, but responds only after it resumes.
    Hangs,
    Dead,
    CutOff,
    Learner,
    /// Earlier connections were silently dropped.
    Forgotten,
    /// It asks clients to retry.
    Electing,
    /// Another cluster, which is empty, responds at its address.
    Foreign,
}

#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) members: Vec<State>,
    store: BTreeMap<u64, Stored>,
    pub(super) leases: BTreeMap<i64, Lease>,
    revision: i64,
    next_lease: i64,
    /// Values that were ever applied.
    pub(super) applied: Vec<u64>,
    /// Whether the server grants longer leases than requested.
    generous: bool,
    pub(super) most_on_one_lease: usize,
}

impl Cluster {
    pub(super) fn new(members: usize, rng: &mut Rng) -> Self {
        Self {
            members: vec![State::Well; members],
            store: BTreeMap::new(),
            leases: BTreeMap::new(),
            revision: 1,
            next_lease: 0,
            applied: Vec::new(),
            generous: rng.chance(20),
            most_on_one_lease: 0,
        }
    }

    pub(super) fn state(&self, at: usize) -> State {
        self.members.get(at).copied().unwrap_or(State::Dead)
    }

    /// The response of a healthy member.
    pub(super) fn answer(&mut self, now: Instant, ask: &Ask) -> Reply {
        self.expire(now);
        match ask {
            Ask::Write { puts, newest } => self.write(puts, *newest),
            Ask::Read { keys } => {
                let found = keys.iter().map(|key| self.store.get(key).copied());
                Reply::Found(found.collect(), self.revision)
            }
            Ask::Grant { seconds } => {
                self.next_lease += 1;
                let ttl = seconds + i64::from(self.generous);
                let ttl_length = Duration::from_secs(ttl.unsigned_abs());
                let lease = Lease {
                    expires: now + ttl_length,
                    ttl: ttl_length,
                };
                self.leases.insert(self.next_lease, lease);
                Reply::Granted {
                    lease: self.next_lease,
                    ttl,
                }
            }
            Ask::Revoke { lease } => {
                self.drop_lease(*lease);
                Reply::Revoked
            }
        }
    }

    fn write(&mut self, puts: &[Put], newest: Option<i64>) -> Reply {
        let has_moved_on = |put: &Put| {
            let revision = self.store.get(&put.key).map_or(0, |stored| stored.revision);
            newest.is_some_and(|newest| revision > newest)
        };
        if puts.iter().any(has_moved_on) {
            return Reply::MovedOn(self.revision);
        }
        let lacks_lease = |put: &Put| {
            let lease = put.value.and_then(|(_, _, lease)| lease);
            lease.is_some_and(|lease| !self.leases.contains_key(&lease))
        };
        if puts.iter().any(lacks_lease) {
            return Reply::NoLease;
        }
        self.revision += 1;
        for put in puts {
            match put.value {
                None => drop(self.store.remove(&put.key)),
                Some((value, deadline, lease)) => {
                    self.applied.extend(value);
                    let stored = Stored {
                        value,
                        deadline,
                        revision: self.revision,
                        lease,
                    };
                    self.store.insert(put.key, stored);
                    let on_it = self.store.values().filter(|stored| stored.lease == lease);
                    if lease.is_some() {
                        self.most_on_one_lease = self.most_on_one_lease.max(on_it.count());
                    }
                }
            }
        }
        Reply::Applied(self.revision)
    }

    fn expire(&mut self, now: Instant) {
        let expired: Vec<i64> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.expires <= now)
            .map(|(id, _)| *id)
            .collect();
        for lease in expired {
            self.drop_lease(lease);
        }
    }

    pub(super) fn drop_lease(&mut self, lease: i64) {
        if self.leases.remove(&lease).is_some() {
            self.revision += 1;
            self.store.retain(|_, stored| stored.lease != Some(lease));
        }
    }

    /// A new leader: leases start over.
    pub(super) fn elect(&mut self, now: Instant) {
        self.expire(now);
        for lease in self.leases.values_mut() {
            lease.expires = now + lease.ttl;
        }
    }
}
