//! [`Book`]: which lease a key is attached to, which leases to grant, and which to revoke. A plain
//! type that takes the time as an argument.
//!
//! Each class of lifetimes has a lease that is open to new keys for a period (a bucket) or until
//! it has enough of them. Its TTL outlasts the last key that may be attached. Leases are never
//! kept alive, so values expire on time even if the process that set them has exited.
//!
//! A lease is revoked once its last value has expired, one lease at a time and with pauses: etcd
//! itself revokes leases in bursts, which block all other calls.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::time::Duration;

use cache_core::ErrorKind;
use tokio::time::Instant;

use super::class::{MAX_GRANTED, TtlClass};
use crate::failure::{Failure, Next};

/// How many keys share a lease. More keys slow down puts (in etcd 3.4 their cost is proportional
/// to the keys of the lease) and block the server when the lease expires; fewer keys mean more
/// leases, which expire at a limited rate.
const CAP: usize = 256;

/// Keys are attached to a full lease up to here while a new one is granted; then they wait.
const HARD_CAP: usize = 2 * CAP;

/// How many keys of a bucket are remembered, so that a key that is set again keeps its lease.
const MAX_REMEMBERED: usize = 1 << 16;

/// A grant that takes longer is requested again: its runtime may no longer be running.
const GRANT_PATIENCE: Duration = Duration::from_secs(3);

/// How long after the last of its values a lease is revoked.
const REVOKE_AFTER: Duration = Duration::from_millis(250);

/// The pause after a revocation, as a multiple of its duration, which blocks other calls at the
/// server: with this pause, fewer than one in a hundred.
const LONGEST_PAUSE: u32 = 100;

/// The same if many leases are left to revoke before they expire at the server.
const SHORTEST_PAUSE: u32 = 2;

/// How many of these leases determine the pause.
const MAX_CONSIDERED: usize = 4096;

/// etcd's ID of a lease.
pub(crate) type LeaseId = i64;

/// Identifies a requested grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GrantId(u64);

/// A lease to request from the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) id: GrantId,
    pub(crate) class: TtlClass,
    pub(crate) seconds: i64,
}

/// The lease for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Boarding {
    /// Attach the key to this lease.
    On(LeaseId),
    /// Wait for this grant.
    Wait(GrantId),
}

#[derive(Debug)]
pub(crate) struct Book {
    classes: HashMap<TtlClass, Class>,
    /// Leases that were granted, until they expire or are revoked.
    leases: BTreeMap<LeaseId, Lease>,
    /// When the last value of each closed lease expires, soonest first.
    ends: BinaryHeap<Reverse<(Instant, LeaseId)>>,
    /// Leases to revoke, since their last values have expired. The first to expire at the server
    /// comes first.
    ended: BTreeSet<(Instant, LeaseId)>,
    next_grant: u64,
    granted: u64,
    lost: u64,
    random: u64,
}

#[derive(Debug, Default)]
struct Class {
    bucket: Option<Bucket>,
    /// The grant in flight, and when it was requested.
    asked: Option<(GrantId, Instant)>,
    /// The last grant that failed.
    failed: Option<(GrantId, Failure)>,
}

#[derive(Debug)]
struct Bucket {
    /// From then on no key is attached to a lease of this bucket.
    closes: Instant,
    /// From then on the lease of the next bucket is requested.
    ages: Instant,
    /// The lease that is open to new keys.
    open: LeaseId,
    keys_on_open: usize,
    /// The lease of each key, by the key's hash. Keys with the same hash share an entry and so a
    /// lease, which is harmless.
    riding: HashMap<u64, LeaseId>,
    leases: Vec<LeaseId>,
}

#[derive(Debug)]
struct Lease {
    expires: Instant,
    /// When the last of the values attached so far expires.
    last_value_expires: Instant,
    /// No further key is attached to it.
    is_closed: bool,
}

impl Book {
    /// `seed` determines how much the TTLs of leases granted together differ.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            classes: HashMap::new(),
            leases: BTreeMap::new(),
            ends: BinaryHeap::new(),
            ended: BTreeSet::new(),
            next_grant: 0,
            granted: 0,
            lost: 0,
            random: seed | 1,
        }
    }

    /// A lease for a key of this class, and a grant to request, if any. A call that has to wait
    /// calls this again once that grant has an outcome.
    pub(crate) fn board(
        &mut self,
        now: Instant,
        class: TtlClass,
        key: u64,
    ) -> (Boarding, Option<Grant>) {
        let state = self.classes.entry(class).or_default();
        let place = state.place(now, key);
        if let Some(lease) = place.and_then(|lease| self.leases.get_mut(&lease)) {
            lease.last_value_expires = lease.last_value_expires.max(now + class.lifetime());
        }
        let needs = state
            .bucket
            .as_ref()
            .is_none_or(|it| it.is_full_or_aged(now));
        let asked = state.asked.filter(|(_, at)| now < *at + GRANT_PATIENCE);
        let grant = match asked {
            Some((id, _)) => (id, None),
            None if !needs => {
                // A lease is open.
                return match place {
                    Some(lease) => (Boarding::On(lease), None),
                    None => self.ask(now, class),
                };
            }
            None => match self.ask(now, class) {
                (Boarding::Wait(id), grant) => (id, grant),
                other => return other,
            },
        };
        match place {
            Some(lease) => (Boarding::On(lease), grant.1),
            None => (Boarding::Wait(grant.0), grant.1),
        }
    }

    fn ask(&mut self, now: Instant, class: TtlClass) -> (Boarding, Option<Grant>) {
        self.next_grant += 1;
        let id = GrantId(self.next_grant);
        let spread = self.below(class.spread() + 1);
        let seconds = class.seconds() + class.bucket() + spread;
        self.classes.entry(class).or_default().asked = Some((id, now));
        let grant = Grant {
            id,
            class,
            seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        };
        (Boarding::Wait(id), Some(grant))
    }

    /// The server granted `lease` for `ttl` seconds, starting later than `sent`.
    ///
    /// The response to an abandoned grant is used as well.
    pub(crate) fn granted(
        &mut self,
        now: Instant,
        grant: Grant,
        sent: Instant,
        lease: LeaseId,
        ttl: i64,
    ) {
        let Grant { id, class, seconds } = grant;
        // The clock cannot represent every TTL that a response may contain.
        let ttl = u64::try_from(ttl).unwrap_or(0).min(MAX_GRANTED);
        let state = self.classes.entry(class).or_default();
        if state.asked.is_some_and(|(asked, _)| asked <= id) {
            state.asked = None;
        }
        // A server may grant more than was requested; the bucket does not become longer by that.
        let bucket = ttl.saturating_sub(class.seconds()).min(class.bucket());
        if bucket == 0 {
            let message = format!("etcd granted a lease of {ttl} s instead of {seconds} s");
            let failure = Failure::new(Next::Nothing(ErrorKind::Protocol), message);
            state.failed = Some((id, failure));
            return;
        }
        state.failed = None;
        self.granted += 1;
        let expires = sent + Duration::from_secs(ttl);
        let known = Lease {
            expires,
            last_value_expires: now,
            is_closed: false,
        };
        self.leases.insert(lease, known);
        let closed = state.open(now, lease, sent, Duration::from_secs(bucket));
        self.close(now, closed);
        self.tidy(now);
    }

    /// The grant failed. The calls that wait for it receive `failure`.
    pub(crate) fn not_granted(&mut self, grant: Grant, failure: Failure) {
        let state = self.classes.entry(grant.class).or_default();
        if state.asked.is_some_and(|(asked, _)| asked <= grant.id) {
            state.asked = None;
        }
        state.failed = Some((grant.id, failure));
    }

    /// Why this grant, or a later one of its class, failed, if it did.
    pub(crate) fn failure_of(&self, class: TtlClass, grant: GrantId) -> Option<Failure> {
        let (id, failure) = self.classes.get(&class)?.failed.as_ref()?;
        (*id >= grant).then(|| failure.clone())
    }

    /// When a call that waits for a grant tries again without an outcome.
    pub(crate) fn patience(now: Instant) -> Instant {
        now + GRANT_PATIENCE
    }

    /// The server no longer has this lease.
    pub(crate) fn lost(&mut self, now: Instant, class: TtlClass, lease: LeaseId) {
        let Some(state) = self.classes.get_mut(&class) else {
            return;
        };
        let is_known = |bucket: &Bucket| bucket.leases.contains(&lease);
        if state.bucket.as_ref().is_some_and(is_known) {
            self.lost += 1;
            // The other leases of the bucket are lost for the same reason.
            let bucket = state.bucket.take();
            for lease in bucket.into_iter().flat_map(|bucket| bucket.leases) {
                self.leases.remove(&lease);
            }
        }
        self.tidy(now);
    }

    /// Removes and returns a lease to revoke: all its values have expired.
    pub(crate) fn revoke(&mut self, now: Instant) -> Option<LeaseId> {
        self.tidy(now);
        while let Some(Reverse((at, lease))) = self.ends.peek().copied() {
            if now < at {
                break;
            }
            self.ends.pop();
            let Some(known) = self.leases.get(&lease) else {
                // It expired or was lost.
                continue;
            };
            let end = known.last_value_expires + REVOKE_AFTER;
            if now < end {
                self.ends.push(Reverse((end, lease)));
            } else {
                self.ended.insert((known.expires, lease));
            }
        }
        loop {
            let (_, lease) = self.ended.pop_first()?;
            // Unless it was lost.
            if self.leases.remove(&lease).is_some() {
                return Some(lease);
            }
        }
    }

    /// The pause after a revocation that has taken so long.
    pub(crate) fn pause(&self, now: Instant, took: Duration) -> Duration {
        // Each lease has its share of the time until it expires at the server.
        let left = (1_u32..).zip(self.ended.iter().take(MAX_CONSIDERED));
        let shares = left.map(|(count, (at, _))| at.saturating_duration_since(now) / count);
        let share = shares.min().unwrap_or(Duration::MAX);
        share
            .saturating_sub(took)
            .clamp(took * SHORTEST_PAUSE, took * LONGEST_PAUSE)
    }

    /// When there is a lease to [`revoke`](Self::revoke), or one may be closed; `None` if none is
    /// left.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let end = self.ends.peek().map(|Reverse((at, _))| *at);
        let buckets = self.classes.values().flat_map(|class| &class.bucket);
        let closes = buckets.map(|bucket| bucket.closes).min();
        match (end, closes) {
            (Some(end), Some(closes)) => Some(end.min(closes)),
            (one, other) => one.or(other),
        }
    }

    /// How many leases have not expired.
    pub(crate) fn living(&self, now: Instant) -> usize {
        let living = |lease: &&Lease| now < lease.expires;
        self.leases.values().filter(living).count()
    }

    /// How many leases were granted, and how many the server lost before they expired.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.granted, self.lost)
    }

    /// Closes buckets that have ended, which frees their memory of keys, and removes expired
    /// leases.
    fn tidy(&mut self, now: Instant) {
        let mut closed = Vec::new();
        self.classes.retain(|_, class| {
            if class
                .bucket
                .as_ref()
                .is_some_and(|bucket| now >= bucket.closes)
            {
                closed.extend(class.bucket.take().into_iter().flat_map(|it| it.leases));
            }
            class.bucket.is_some() || class.asked.is_some() || class.failed.is_some()
        });
        self.close(now, closed);
        while let Some(Reverse((at, lease))) = self.ends.peek().copied() {
            let is_living = self.leases.get(&lease).is_some_and(|it| now < it.expires);
            if is_living || now < at {
                break;
            }
            self.leases.remove(&lease);
            self.ends.pop();
        }
        while let Some((expires, lease)) = self.ended.first().copied() {
            if now < expires {
                break;
            }
            self.leases.remove(&lease);
            self.ended.pop_first();
        }
    }

    fn close(&mut self, now: Instant, leases: Vec<LeaseId>) {
        for id in leases {
            if let Some(lease) = self.leases.get_mut(&id)
                && !lease.is_closed
            {
                lease.is_closed = true;
                let end = lease.last_value_expires.max(now) + REVOKE_AFTER;
                self.ends.push(Reverse((end, id)));
            }
        }
    }

    /// A random number below `bound`, by xorshift.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound.max(1)
    }
}

impl Class {
    /// The lease of a key.
    fn place(&mut self, now: Instant, key: u64) -> Option<LeaseId> {
        let bucket = self.bucket.as_mut().filter(|bucket| now < bucket.closes)?;
        if let Some(lease) = bucket.riding.get(&key) {
            return Some(*lease);
        }
        if bucket.keys_on_open >= HARD_CAP {
            return None;
        }
        bucket.keys_on_open += 1;
        if bucket.riding.len() < MAX_REMEMBERED {
            bucket.riding.insert(key, bucket.open);
        }
        Some(bucket.open)
    }

    /// Opens a new lease, in the current bucket unless that is about to close. Returns the leases
    /// that are closed by this.
    fn open(
        &mut self,
        now: Instant,
        lease: LeaseId,
        sent: Instant,
        length: Duration,
    ) -> Vec<LeaseId> {
        if sent + length <= now {
            // The response came too late to attach a key.
            return vec![lease];
        }
        match &mut self.bucket {
            Some(bucket) if now < bucket.ages => {
                // Earlier only if this grant was sent before that of the bucket.
                bucket.closes = bucket.closes.min(sent + length);
                bucket.open = lease;
                bucket.keys_on_open = 0;
                bucket.leases.push(lease);
                Vec::new()
            }
            bucket => {
                let old = bucket.replace(Bucket {
                    closes: sent + length,
                    ages: sent + length * 7 / 8,
                    open: lease,
                    keys_on_open: 0,
                    riding: HashMap::new(),
                    leases: vec![lease],
                });
                old.into_iter().flat_map(|bucket| bucket.leases).collect()
            }
        }
    }
}

impl Bucket {
    fn is_full_or_aged(&self, now: Instant) -> bool {
        now >= self.ages || self.keys_on_open >= CAP
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(seconds: u64) -> TtlClass {
        TtlClass::of(Duration::from_secs(seconds)).unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A book in which lease 1 is open to keys of that class.
    fn book(now: Instant, class: TtlClass) -> Book {
        let mut book = Book::new(7);
        let (boarding, grant) = book.board(now, class, 0);
        let grant = grant.unwrap();
        assert_eq!(boarding, Boarding::Wait(grant.id));
        book.granted(now, grant, now, 1, grant.seconds);
        book
    }

    #[test]
    fn a_grant_is_requested_once_and_its_failure_is_reported() {
        let now = Instant::now();
        let mut book = Book::new(7);
        let (_, grant) = book.board(now, class(8), 1);
        let grant = grant.unwrap();
        assert_eq!(
            book.board(now, class(8), 2),
            (Boarding::Wait(grant.id), None)
        );
        assert!(book.board(now + GRANT_PATIENCE, class(8), 3).1.is_some());
        assert_eq!(book.failure_of(class(8), grant.id), None);
        book.not_granted(grant, Failure::new(Next::Late, "late"));
        assert!(book.failure_of(class(8), grant.id).is_some());
    }

    #[test]
    fn a_key_that_is_set_again_keeps_its_lease_and_leases_are_bounded() {
        let now = Instant::now();
        let mut book = book(now, class(60));
        let boarded = (0..10_000)
            .filter(|key| matches!(book.board(now, class(60), *key).0, Boarding::On(1)))
            .count();
        assert_eq!(boarded, HARD_CAP);
        assert_eq!(book.board(now, class(60), 3).0, Boarding::On(1));
    }

    #[test]
    fn a_lease_outlives_the_last_key_attached_to_it() {
        let now = Instant::now();
        let mut book = book(now, class(8));
        let closes = now + seconds(class(8).bucket());
        let last = closes - Duration::from_millis(1);
        assert!(matches!(book.board(last, class(8), 1).0, Boarding::On(1)));
        assert!(matches!(
            book.board(closes, class(8), 1).0,
            Boarding::Wait(_)
        ));
        assert!(last + seconds(8) < book.leases[&1].expires);
    }

    #[test]
    fn a_lease_with_an_absurd_ttl_is_used() {
        let now = Instant::now();
        let mut book = Book::new(7);
        let grant = book.board(now, class(8), 0).1.unwrap();
        book.granted(now, grant, now, 1, i64::MAX);
        assert_eq!(book.board(now, class(8), 0).0, Boarding::On(1));
        assert_eq!(book.living(now), 1);
    }

    #[test]
    fn a_lease_is_revoked_when_its_last_value_has_expired() {
        let now = Instant::now();
        let mut book = book(now, class(8));
        let boarded = now + seconds(1);
        book.board(boarded, class(8), 1);
        assert_eq!(book.revoke(boarded + seconds(8)), None);
        assert_eq!(book.revoke(boarded + seconds(8) + REVOKE_AFTER), Some(1));
        assert_eq!(book.revoke(boarded + seconds(9)), None);
        assert_eq!(book.living(now), 0);
    }

    #[test]
    fn ended_leases_are_revoked_before_they_expire_with_pauses_between() {
        let now = Instant::now();
        let mut book = Book::new(7);
        let class = class(8);
        for (lease, seconds) in [(1_i64, 12), (2, 10), (3, 11)] {
            let id = GrantId(lease.unsigned_abs());
            book.granted(now, Grant { id, class, seconds }, now, lease, seconds);
        }
        let ended = now + seconds(class.bucket());
        assert_eq!(book.revoke(ended), None);
        let revoked = ended + REVOKE_AFTER;
        assert_eq!(book.revoke(revoked), Some(2), "it expires first");

        let millis = Duration::from_millis;
        let pause = |at, took| book.pause(now + millis(at), millis(took));
        assert_eq!(pause(3000, 10), millis(1000), "there is time");
        assert_eq!(pause(10_700, 50), millis(250), "until lease 3 expires");
        assert_eq!(pause(10_900, 50), millis(100), "there is no time");
        assert_eq!(pause(13_000, 50), millis(100), "they have expired");

        assert_eq!(book.revoke(now + seconds(11)), Some(1), "the other expired");
        assert_eq!(book.pause(revoked, millis(10)), millis(1000));
        assert_eq!(book.revoke(now + seconds(11)), None);
        assert!(book.leases.is_empty() && book.ends.is_empty() && book.ended.is_empty());
    }

    #[test]
    fn a_lost_lease_replaces_all_leases_of_its_bucket() {
        let now = Instant::now();
        let mut book = book(now, class(8));
        book.lost(now, class(8), 1);
        book.lost(now, class(8), 1);
        assert_eq!(book.counts(), (1, 1));
        assert!(matches!(book.board(now, class(8), 1).0, Boarding::Wait(_)));
    }
}
