//! Whether a server is up, and who may try it when it is not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Why a server is dead.
#[derive(Debug)]
pub(crate) struct Death {
    pub(crate) reason: String,
    /// It was silent, rather than unreachable.
    pub(crate) is_timeout: bool,
}

/// The health of one server: one atomic, which is all that a call looks at.
#[derive(Debug)]
pub(crate) struct Health {
    /// 0: up. Else until when the server is left alone, in nanoseconds since `epoch`.
    dead_until: AtomicU64,
    epoch: Instant,
    death: Mutex<Option<Arc<Death>>>,
}

/// What a call may do with a server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Up,
    Dead,
    /// It is dead, its time has come, and this call is the one to see to it.
    Probe,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            dead_until: AtomicU64::new(0),
            epoch: Instant::now(),
            death: Mutex::new(None),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.dead_until.load(Ordering::Acquire) == 0
    }

    /// Asks to use the server. Of all who ask when its time has come, one is told to probe it;
    /// if that one is not heard of for `lease`, the next.
    pub(crate) fn admit(&self, lease: Duration) -> Admission {
        let until = self.dead_until.load(Ordering::Acquire);
        if until == 0 {
            return Admission::Up;
        }
        if until > self.nanos(Duration::ZERO) {
            return Admission::Dead;
        }
        let leased = self.nanos(lease);
        let claimed =
            self.dead_until
                .compare_exchange(until, leased, Ordering::AcqRel, Ordering::Acquire);
        match claimed {
            Ok(_) => Admission::Probe,
            Err(0) => Admission::Up,
            Err(_) => Admission::Dead,
        }
    }

    /// Marks the server as dead for `dead_retry`. Whether it was up.
    pub(crate) fn die(&self, death: Arc<Death>, dead_retry: Duration) -> bool {
        *self.death.lock().unwrap_or_else(PoisonError::into_inner) = Some(death);
        let until = self.nanos(dead_retry);
        self.dead_until.swap(until, Ordering::AcqRel) == 0
    }

    /// Marks the server as up. Whether it was dead.
    pub(crate) fn revive(&self) -> bool {
        self.dead_until.swap(0, Ordering::AcqRel) != 0
    }

    /// Why the server is dead, and how long it is left alone. `None`: it is up.
    pub(crate) fn death(&self) -> Option<(Arc<Death>, Duration)> {
        let until = self.dead_until.load(Ordering::Acquire);
        if until == 0 {
            return None;
        }
        let left = Duration::from_nanos(until.saturating_sub(self.nanos(Duration::ZERO)));
        let death = self.death.lock().unwrap_or_else(PoisonError::into_inner);
        death.as_ref().map(|death| (Arc::clone(death), left))
    }

    /// The time that is `ahead` of now. Never 0, and held within 64 bits: 584 years.
    fn nanos(&self, ahead: Duration) -> u64 {
        let since = self.epoch.elapsed().saturating_add(ahead).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(1000);

    fn death() -> Arc<Death> {
        Arc::new(Death {
            reason: "refused".to_owned(),
            is_timeout: false,
        })
    }

    #[test]
    fn one_of_many_probes_a_server_whose_time_has_come() {
        let health = Health::new();
        assert_eq!(health.admit(LONG), Admission::Up);
        assert!(health.die(death(), Duration::ZERO));
        assert!(!health.is_up());
        let admissions: Vec<Admission> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| health.admit(LONG))).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        let probes = admissions
            .iter()
            .filter(|&a| *a == Admission::Probe)
            .count();
        assert_eq!(probes, 1, "{admissions:?}");
        assert!(health.revive());
        assert_eq!(health.admit(LONG), Admission::Up);
    }

    #[test]
    fn a_dead_server_is_left_alone_for_its_time() {
        let health = Health::new();
        assert!(health.death().is_none());
        health.die(death(), LONG);
        assert_eq!(health.admit(LONG), Admission::Dead);
        let (death, left) = health.death().unwrap();
        assert_eq!(death.reason, "refused");
        assert!(left <= LONG && left > LONG / 2);
    }

    #[test]
    fn a_probe_that_is_never_heard_of_is_followed_by_another() {
        let health = Health::new();
        health.die(death(), Duration::ZERO);
        assert_eq!(health.admit(Duration::ZERO), Admission::Probe);
        assert_eq!(health.admit(Duration::ZERO), Admission::Probe);
    }

    #[test]
    fn a_time_beyond_the_clock_is_no_overflow() {
        let health = Health::new();
        health.die(death(), Duration::MAX);
        assert_eq!(health.admit(LONG), Admission::Dead);
    }
}
