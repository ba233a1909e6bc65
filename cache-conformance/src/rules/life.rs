//! [`Life`], how long a value has to be served.

use std::time::{Duration, Instant};

use crate::Clock;
use crate::context::{Cache, Context, Outcome, Value};
use crate::failure::fail;
use crate::show;

pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// A lifetime that does not end during a rule, however coarse the granularity; less than the thirty
/// days above which some stores treat a TTL as a date.
pub(super) const LONG: Duration = Duration::from_secs(480 * 3600);

/// A lifetime that is short enough for tests and longer than the granularity.
pub(super) fn short(context: &Context) -> Duration {
    (context.capabilities().granularity() * 2).max(Duration::from_millis(300))
}

/// The moments between which a value was set, and the resulting limits.
#[derive(Clone, Copy)]
pub(super) struct Life {
    pub(super) ttl: Duration,
    pub(super) before: Instant,
    pub(super) after: Instant,
    /// Before this moment the value must be served.
    pub(super) sure: Instant,
    /// From this moment on it must not be served.
    pub(super) over: Instant,
}

impl Life {
    pub(super) fn new(context: &Context, ttl: Duration, before: Instant, after: Instant) -> Self {
        // Exact with a manual clock. Otherwise the backend may use the wall clock, which may be
        // adjusted while the monotonic clock is not.
        let margin = match context.capabilities().clock {
            Clock::Manual => Duration::ZERO,
            Clock::Real => Duration::from_millis(25),
        };
        let granularity = context.capabilities().granularity();
        Self {
            ttl,
            before,
            after,
            sure: before + ttl.saturating_sub(granularity),
            over: after + ttl + margin,
        }
    }

    /// Calls `set` and notes the time.
    pub(super) async fn starts(
        context: &Context,
        ttl: Duration,
        set: impl Future<Output = Outcome>,
    ) -> Outcome<Self> {
        let before = context.now();
        set.await?;
        let after = context.now();
        Ok(Self::new(context, ttl, before, after))
    }

    /// Checks the result of a read between these two moments. Near the deadline either result is
    /// accepted, so that a slow machine causes no failure.
    pub(super) fn judge(
        &self,
        key: &str,
        read: (Instant, Instant),
        found: Option<&Value>,
    ) -> Outcome {
        let (began, ended) = read;
        if found.is_some() && began >= self.over {
            fail!(
                "get {}: expected a miss {:?} after the deadline, got {}",
                show::key(key),
                began.saturating_duration_since(self.after + self.ttl),
                show::found(found)
            );
        }
        if found.is_none() && ended < self.sure {
            fail!(
                "get {}: expected a value {:?} before the deadline, got a miss",
                show::key(key),
                (self.before + self.ttl).saturating_duration_since(ended)
            );
        }
        Ok(())
    }

    /// Reads once with `get` and with `get_multi`, and checks the results.
    pub(super) async fn check(&self, context: &Context, cache: &Cache, key: &str) -> Outcome {
        let began = context.now();
        let single = cache.get(key).await?;
        let multi = cache.get_multi(&[key, key]).await?;
        let read = (began, context.now());
        self.judge(key, read, single.as_ref())?;
        for found in &multi {
            self.judge(key, read, found.as_ref())?;
        }
        Ok(())
    }

    /// Reads a few times up to the deadline, once right after it and once later.
    pub(super) async fn runs(&self, context: &Context, cache: &Cache, key: &str) -> Outcome {
        for percent in [0, 25, 50, 75, 90, 99] {
            let moment = self.before + self.ttl * percent / 100;
            context.wait_until(moment).await;
            self.check(context, cache, key).await?;
        }
        self.ends(context, cache, key).await
    }

    /// Waits for the deadline and reads.
    pub(super) async fn ends(&self, context: &Context, cache: &Cache, key: &str) -> Outcome {
        context.wait_until(self.over).await;
        self.check(context, cache, key).await?;
        context.wait(self.ttl.min(Duration::from_millis(50))).await;
        self.check(context, cache, key).await
    }
}
