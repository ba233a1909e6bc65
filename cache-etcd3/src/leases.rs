//! Shared leases: many keys of about the same lifetime ride on one.
//!
//! Lifetimes are rounded up to classes. Each class has a lease that is open to new keys for a
//! while (a bucket of time) or until it carries enough of them; it was granted long enough to
//! outlast the last key that may board it. Leases are never kept alive and never revoked, so
//! nothing that was promised to live is lost with the process that set it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cache_core::ErrorKind;

use crate::endpoint::lock;
use crate::failover::Failover;
use crate::failure::{Failure, Next};
use crate::stats::Counters;

/// How many keys a lease carries. More make puts slow (etcd 3.4 takes time in proportion to the
/// keys on the lease) and stop the server for a while when the lease expires; fewer make leases
/// many, and those expire at a limited rate.
const CAP: usize = 256;

/// Up to here keys board a full lease while a new one is granted; from here on they wait.
const HARD_CAP: usize = 2 * CAP;

/// How many keys of a bucket are remembered, so that one that is set again rides where it rode.
const MAX_REMEMBERED: usize = 1 << 16;

/// What etcd grants at most, in seconds, less the longest bucket.
const MAX_SECONDS: u64 = 9_000_000_000 - 60;

/// A lifetime in whole seconds, rounded up to one of eight steps an octave, so that leases stay
/// few whatever lifetimes callers choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TtlClass(u64);

impl TtlClass {
    /// `None`: longer than etcd can count.
    pub(crate) fn of(ttl: Duration) -> Option<Self> {
        let seconds = ttl
            .as_secs()
            .saturating_add(u64::from(ttl.subsec_nanos() > 0));
        if seconds > MAX_SECONDS {
            return None;
        }
        let seconds = seconds.max(1);
        let step = 1 << seconds.ilog2().saturating_sub(3);
        let rounded = seconds.next_multiple_of(step);
        (rounded <= MAX_SECONDS).then_some(Self(rounded))
    }

    /// For how long a lease is open to new keys, in seconds.
    fn bucket(self) -> u64 {
        (self.0 / 4).clamp(1, 60)
    }
}

/// A lease to ride on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ticket {
    pub(crate) class: TtlClass,
    pub(crate) lease: i64,
}

#[derive(Default)]
pub(crate) struct Leases {
    classes: Mutex<HashMap<TtlClass, Arc<Class>>>,
    /// When the leases that were granted expire, soonest first.
    expiries: Mutex<BinaryHeap<Reverse<Instant>>>,
    hasher: RandomState,
}

#[derive(Default)]
struct Class {
    bucket: Mutex<Option<Bucket>>,
    /// Held by the one call that has a lease granted.
    granting: tokio::sync::Mutex<()>,
}

struct Bucket {
    /// From here on no key boards a lease of this bucket.
    closes: Instant,
    /// From here on the next bucket is prepared.
    ages: Instant,
    /// The lease that is open to new keys.
    open: i64,
    keys_on_open: usize,
    /// Which lease each key rides on, by the key's hash. Two keys of one hash share an entry,
    /// and so a lease, which is all right.
    riding: HashMap<u64, i64>,
    leases: Vec<i64>,
}

/// What a bucket has for a key.
enum Place {
    Lease(i64),
    /// A lease, and it is time for another.
    LastLease(i64),
    None,
}

impl Bucket {
    fn place(&mut self, key: u64, now: Instant) -> Place {
        if now >= self.closes {
            return Place::None;
        }
        let lease = match self.riding.get(&key) {
            Some(lease) => *lease,
            None if self.keys_on_open >= HARD_CAP => return Place::None,
            None => {
                self.keys_on_open += 1;
                if self.riding.len() < MAX_REMEMBERED {
                    self.riding.insert(key, self.open);
                }
                self.open
            }
        };
        if now >= self.ages || self.keys_on_open > CAP {
            Place::LastLease(lease)
        } else {
            Place::Lease(lease)
        }
    }

    fn is_full_or_aged(&self, now: Instant) -> bool {
        now >= self.ages || self.keys_on_open >= CAP
    }
}

impl Leases {
    /// A lease for a key of this class to ride on, granted if need be before `deadline`.
    pub(crate) async fn ticket(
        &self,
        class: TtlClass,
        key: &str,
        deadline: Instant,
        failover: &Failover,
        counters: &Counters,
    ) -> Result<Ticket, Failure> {
        let state = Arc::clone(lock(&self.classes).entry(class).or_default());
        let key = self.hasher.hash_one(key);
        let ticket = |lease| Ok(Ticket { class, lease });
        loop {
            let _turn = match state.place(key) {
                Place::Lease(lease) => return ticket(lease),
                Place::LastLease(lease) => match state.granting.try_lock() {
                    Ok(turn) => {
                        if !state.needs_lease() {
                            return ticket(lease);
                        }
                        let granted = self.grant(class, &state, deadline, failover, counters);
                        // The old lease is good still, whatever became of the new one.
                        let _ = Box::pin(granted).await;
                        drop(turn);
                        return ticket(lease);
                    }
                    // Another call is at it.
                    Err(_) => return ticket(lease),
                },
                Place::None => {
                    let turn = state.granting.lock();
                    tokio::time::timeout_at(deadline.into(), turn)
                        .await
                        .map_err(|_| Failure::new(Next::Silent, "no lease was granted in time"))?
                }
            };
            if state.needs_lease() {
                // Rare, and too large to lie in the future of every set.
                let granted = self.grant(class, &state, deadline, failover, counters);
                Box::pin(granted).await?;
            }
        }
    }

    async fn grant(
        &self,
        class: TtlClass,
        state: &Class,
        deadline: Instant,
        failover: &Failover,
        counters: &Counters,
    ) -> Result<(), Failure> {
        let asked = i64::try_from(class.0 + class.bucket()).unwrap_or(i64::MAX);
        // The server counts from a later moment than this.
        let mut sent = Instant::now();
        let granted = failover
            .call(deadline, counters, |client| {
                sent = Instant::now();
                let mut lease = client.lease.clone();
                async move { lease.grant(asked, None).await }
            })
            .await?;
        // A server may grant more than was asked for, and keys may then board for no longer.
        let ttl = u64::try_from(granted.ttl()).unwrap_or(0);
        let bucket = ttl.saturating_sub(class.0).min(class.bucket());
        if bucket == 0 {
            let message = format!("etcd granted a lease of {ttl} s in place of {asked} s");
            return Err(Failure::new(Next::Nothing(ErrorKind::Protocol), message));
        }
        counters.grants.add(1);
        self.note_expiry(sent, Duration::from_secs(ttl));
        self.drop_closed(sent);
        state.open(granted.id(), sent, Duration::from_secs(bucket));
        Ok(())
    }

    /// Lets go of a lease that the server does not know any more.
    pub(crate) fn forget(&self, lost: Ticket, counters: &Counters) {
        let state = lock(&self.classes).get(&lost.class).cloned();
        let Some(state) = state else { return };
        let mut bucket = lock(&state.bucket);
        if bucket
            .as_ref()
            .is_some_and(|bucket| bucket.leases.contains(&lost.lease))
        {
            // Whatever took one of its leases took the others, too.
            *bucket = None;
            counters.lost_leases.add(1);
        }
    }

    fn note_expiry(&self, sent: Instant, ttl: Duration) {
        let mut expiries = lock(&self.expiries);
        drop_expired(&mut expiries);
        if let Some(expiry) = sent.checked_add(ttl) {
            expiries.push(Reverse(expiry));
        }
    }

    /// Frees what classes that are no longer used remember of their keys.
    fn drop_closed(&self, now: Instant) {
        for class in lock(&self.classes).values() {
            let mut bucket = lock(&class.bucket);
            if bucket.as_ref().is_some_and(|bucket| now >= bucket.closes) {
                *bucket = None;
            }
        }
    }

    /// How many leases should be alive.
    pub(crate) fn living(&self) -> usize {
        let mut expiries = lock(&self.expiries);
        drop_expired(&mut expiries);
        expiries.len()
    }
}

fn drop_expired(expiries: &mut BinaryHeap<Reverse<Instant>>) {
    let now = Instant::now();
    while expiries
        .peek()
        .is_some_and(|Reverse(expiry)| *expiry <= now)
    {
        expiries.pop();
    }
}

impl Class {
    fn place(&self, key: u64) -> Place {
        let mut bucket = lock(&self.bucket);
        match &mut *bucket {
            Some(bucket) => bucket.place(key, Instant::now()),
            None => Place::None,
        }
    }

    /// Whether a grant is due still: another call may have been faster.
    fn needs_lease(&self) -> bool {
        let bucket = lock(&self.bucket);
        let now = Instant::now();
        bucket
            .as_ref()
            .is_none_or(|bucket| bucket.is_full_or_aged(now))
    }

    /// Opens a new lease: in the bucket there is, unless that is about to close.
    fn open(&self, lease: i64, sent: Instant, length: Duration) {
        let mut bucket = lock(&self.bucket);
        match &mut *bucket {
            Some(bucket) if Instant::now() < bucket.ages => {
                bucket.open = lease;
                bucket.keys_on_open = 0;
                bucket.leases.push(lease);
            }
            _ => {
                *bucket = Some(Bucket {
                    closes: sent + length,
                    ages: sent + length * 7 / 8,
                    open: lease,
                    keys_on_open: 0,
                    riding: HashMap::new(),
                    leases: vec![lease],
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(seconds: u64) -> u64 {
        TtlClass::of(Duration::from_secs(seconds)).unwrap().0
    }

    #[test]
    fn lifetimes_are_rounded_up_to_eight_steps_an_octave() {
        for (seconds, expected) in [
            (1, 1),
            (15, 15),
            (16, 16),
            (17, 18),
            (31, 32),
            (33, 36),
            (3600, 3840),
            (86_400, 90_112),
        ] {
            assert_eq!(class(seconds), expected, "{seconds}");
        }
        assert_eq!(TtlClass::of(Duration::from_millis(1)), Some(TtlClass(1)));
        assert_eq!(TtlClass::of(Duration::from_millis(2001)), Some(TtlClass(3)));
        for seconds in (1..100_000).step_by(37) {
            let rounded = class(seconds);
            assert!(
                rounded >= seconds && rounded * 8 <= seconds * 9 + 8,
                "{seconds}"
            );
        }
        let classes: std::collections::HashSet<u64> = (1..=65_536).map(class).collect();
        assert!(classes.len() <= 8 * 17, "{}", classes.len());
    }

    #[test]
    fn a_lifetime_beyond_etcds_has_no_class() {
        assert_eq!(TtlClass::of(Duration::MAX), None);
        assert_eq!(TtlClass::of(Duration::from_secs(MAX_SECONDS + 1)), None);
        assert!(TtlClass::of(Duration::from_secs(8_000_000_000)).is_some());
    }

    #[test]
    fn a_bucket_is_a_quarter_of_the_lifetime_within_limits() {
        for (ttl, bucket) in [(1, 1), (8, 2), (30, 7), (240, 60), (90_112, 60)] {
            assert_eq!(TtlClass(ttl).bucket(), bucket);
        }
    }

    fn bucket(now: Instant) -> Class {
        let class = Class::default();
        class.open(1, now, Duration::from_secs(8));
        class
    }

    fn place(class: &Class, key: u64, now: Instant) -> Place {
        lock(&class.bucket).as_mut().unwrap().place(key, now)
    }

    #[test]
    fn a_key_that_is_set_again_rides_where_it_rode() {
        let now = Instant::now();
        let class = bucket(now);
        for _ in 0..3 {
            for key in 0..CAP as u64 {
                assert!(matches!(place(&class, key, now), Place::Lease(1)));
            }
        }
        assert!(matches!(place(&class, 999, now), Place::LastLease(1)));
        class.open(2, now, Duration::from_secs(8));
        assert!(matches!(place(&class, 0, now), Place::Lease(1)));
        assert!(matches!(place(&class, 1000, now), Place::Lease(2)));
    }

    #[test]
    fn a_full_lease_is_overshot_only_so_far() {
        let now = Instant::now();
        let class = bucket(now);
        let boarded = (0..10_000)
            .filter(|key| !matches!(place(&class, *key, now), Place::None))
            .count();
        assert_eq!(boarded, HARD_CAP);
    }

    #[test]
    fn a_class_that_is_not_used_any_more_remembers_no_keys() {
        let now = Instant::now();
        let leases = Leases::default();
        let class = Arc::new(bucket(now));
        lock(&leases.classes).insert(TtlClass(32), Arc::clone(&class));
        leases.drop_closed(now + Duration::from_secs(7));
        assert!(lock(&class.bucket).is_some());
        leases.drop_closed(now + Duration::from_secs(8));
        assert!(lock(&class.bucket).is_none());
    }

    #[test]
    fn an_old_bucket_asks_for_another_and_then_closes() {
        let now = Instant::now();
        let class = bucket(now);
        let after = |seconds| now + Duration::from_secs_f64(seconds);
        assert!(matches!(place(&class, 1, after(6.9)), Place::Lease(1)));
        assert!(matches!(place(&class, 1, after(7.1)), Place::LastLease(1)));
        assert!(matches!(place(&class, 1, after(8.0)), Place::None));
    }
}
