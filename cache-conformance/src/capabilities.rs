//! [`Capabilities`], what a backend supports, and what it promises beyond the contract.

use std::time::Duration;

use serde::Serialize;

use crate::Fault;

/// What a backend supports and promises. Capabilities scale the tests, but never weaken a rule.
///
/// ```
/// use std::time::Duration;
/// use cache_conformance::{Capabilities, Clock, Expiry};
///
/// let memcached = Capabilities::default()
///     .with_max_key(250)
///     .with_max_value(1_000_000)
///     .with_call_limit(Duration::from_secs(10));
/// assert_eq!(memcached.expiry, Expiry::Granularity(Duration::ZERO));
/// assert_eq!(memcached.clock, Clock::Real);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
#[allow(clippy::struct_excessive_bools)] // Each promise is independent of the others.
pub struct Capabilities {
    /// Whether values expire, and how early they may be lost. By default they expire, and are never
    /// lost early.
    pub expiry: Expiry,
    /// The clock by which values expire. By default the real one.
    pub clock: Clock,
    /// The longest key that is kept, in bytes of ASCII; longer keys are refused. The default,
    /// `None`, means no limit that can be tested: at most a mebibyte. The keys of the suite need 60
    /// bytes, and consist of visible ASCII characters, among them colons.
    pub max_key: Option<usize>,
    /// A length of payload in bytes that is always kept, while a payload of twice the length is
    /// always refused. The default, `None`, means no limit that can be tested: at most 256
    /// mebibytes. The payloads of the suite need 1,000 bytes.
    pub max_value: Option<usize>,
    /// The number of entries that are always kept; more entries may evict others at any time. The
    /// default, `None`, means that values are lost only by expiry and deletion. The suite needs 400
    /// entries; where all instances share a store, leave room for those of other rules.
    pub capacity: Option<usize>,
    /// Whether the operations on one key are linearizable: they take effect in one order for all
    /// callers, each between its start and its end. By default they are.
    pub linearizable: bool,
    /// The faults that [`Harness::open_faulty`](crate::Harness::open_faulty) can inject. By default
    /// none.
    pub faults: &'static [Fault],
    /// The number of servers into which
    /// [`FaultControl::inject_into`](crate::FaultControl::inject_into) can inject faults one by
    /// one. By default 1: a single server, or several that fail together.
    ///
    /// If a backend fails over to another server, which does not have the value, an outage becomes
    /// a miss; open it without failover there.
    pub servers: usize,
    /// Passwords and tokens that no error may show: those with which
    /// [`Harness::open_faulty`](crate::Harness::open_faulty) opens the backend. By default none.
    #[serde(skip)]
    pub secrets: &'static [&'static str],
    /// Whether [`Harness::make_unreadable`](crate::Harness::make_unreadable) can store a value that
    /// the backend cannot decode. By default it cannot.
    pub unreadable_values: bool,
    /// A promise beyond the contract: `get_multi` does not ask for one key after another. By
    /// default it is not made. Round trips are counted by
    /// [`FaultControl::round_trips`](crate::FaultControl::round_trips).
    pub batched_reads: bool,
    /// A promise beyond the contract: no call holds its thread for milliseconds. By default it is
    /// not made.
    pub brief_polls: bool,
    /// A promise beyond the contract: a call that has ended leaves no task running. By default it
    /// is not made.
    pub no_tasks_left: bool,
    /// A promise beyond the contract: the value of a cancelled write is released, even if the
    /// server does not respond. By default it is not made. Values are counted by
    /// [`Harness::values_held`](crate::Harness::values_held).
    pub no_values_left: bool,
    /// A promise beyond the contract: `get_multi` asks for a key once, however often it is
    /// repeated. By default it is not made. Responses are measured by
    /// [`FaultControl::bytes_answered`](crate::FaultControl::bytes_answered).
    pub distinct_reads: bool,
    /// A promise beyond the contract: a backend that is dropped closes its connections. By default
    /// it is not made. Connections are counted by
    /// [`FaultControl::connections`](crate::FaultControl::connections).
    pub no_connections_left: bool,
    /// A promise beyond the contract, tested on a [manual clock](Clock::Manual): lifetimes are
    /// measured by a monotonic clock, so steps of the wall clock do not affect them. By default it
    /// is not made.
    pub steady_lifetimes: bool,
    /// How long a single call may take, whatever happens to the servers. By default 15 seconds. It
    /// must be longer than the longest call that the timeouts of the backend allow.
    pub call_limit: Duration,
    /// How long after the end of a fault the backend may keep failing. By default 10 seconds. It
    /// must be longer than the time for which the backend does not use a dead server.
    pub recovery: Duration,
}

/// The coarsest granularity that the lifetimes in the rules allow for.
const LONGEST_GRANULARITY: Duration = Duration::from_secs(86_400);

/// What the rules need, in bytes and in entries.
const LEAST_KEY: usize = 60;
const LEAST_VALUE: usize = 1_000;
const LEAST_CAPACITY: usize = 400;

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            expiry: Expiry::Granularity(Duration::ZERO),
            clock: Clock::Real,
            max_key: None,
            max_value: None,
            capacity: None,
            linearizable: true,
            faults: &[],
            servers: 1,
            secrets: &[],
            unreadable_values: false,
            batched_reads: false,
            brief_polls: false,
            no_tasks_left: false,
            no_values_left: false,
            distinct_reads: false,
            no_connections_left: false,
            steady_lifetimes: false,
            call_limit: Duration::from_secs(15),
            recovery: Duration::from_secs(10),
        }
    }
}

impl Capabilities {
    /// Replaces [`expiry`](Self::expiry).
    #[must_use]
    pub fn with_expiry(mut self, expiry: Expiry) -> Self {
        self.expiry = expiry;
        self
    }

    /// Replaces [`clock`](Self::clock).
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Replaces [`max_key`](Self::max_key), in bytes.
    #[must_use]
    pub fn with_max_key(mut self, bytes: usize) -> Self {
        self.max_key = Some(bytes);
        self
    }

    /// Replaces [`max_value`](Self::max_value), in bytes.
    #[must_use]
    pub fn with_max_value(mut self, bytes: usize) -> Self {
        self.max_value = Some(bytes);
        self
    }

    /// Replaces [`capacity`](Self::capacity), in entries.
    #[must_use]
    pub fn with_capacity(mut self, entries: usize) -> Self {
        self.capacity = Some(entries);
        self
    }

    /// Replaces [`linearizable`](Self::linearizable).
    #[must_use]
    pub fn with_linearizable(mut self, linearizable: bool) -> Self {
        self.linearizable = linearizable;
        self
    }

    /// Replaces [`faults`](Self::faults).
    #[must_use]
    pub fn with_faults(mut self, faults: &'static [Fault]) -> Self {
        self.faults = faults;
        self
    }

    /// Replaces [`servers`](Self::servers).
    #[must_use]
    pub fn with_servers(mut self, servers: usize) -> Self {
        self.servers = servers;
        self
    }

    /// Sets [`unreadable_values`](Self::unreadable_values).
    #[must_use]
    pub fn with_unreadable_values(mut self) -> Self {
        self.unreadable_values = true;
        self
    }

    /// Sets [`batched_reads`](Self::batched_reads).
    #[must_use]
    pub fn with_batched_reads(mut self) -> Self {
        self.batched_reads = true;
        self
    }

    /// Sets [`brief_polls`](Self::brief_polls).
    #[must_use]
    pub fn with_brief_polls(mut self) -> Self {
        self.brief_polls = true;
        self
    }

    /// Sets [`no_tasks_left`](Self::no_tasks_left).
    #[must_use]
    pub fn with_no_tasks_left(mut self) -> Self {
        self.no_tasks_left = true;
        self
    }

    /// Sets [`no_values_left`](Self::no_values_left).
    #[must_use]
    pub fn with_no_values_left(mut self) -> Self {
        self.no_values_left = true;
        self
    }

    /// Sets [`distinct_reads`](Self::distinct_reads).
    #[must_use]
    pub fn with_distinct_reads(mut self) -> Self {
        self.distinct_reads = true;
        self
    }

    /// Sets [`no_connections_left`](Self::no_connections_left).
    #[must_use]
    pub fn with_no_connections_left(mut self) -> Self {
        self.no_connections_left = true;
        self
    }

    /// Sets [`steady_lifetimes`](Self::steady_lifetimes).
    #[must_use]
    pub fn with_steady_lifetimes(mut self) -> Self {
        self.steady_lifetimes = true;
        self
    }

    /// Replaces [`secrets`](Self::secrets).
    #[must_use]
    pub fn with_secrets(mut self, secrets: &'static [&'static str]) -> Self {
        self.secrets = secrets;
        self
    }

    /// Replaces [`call_limit`](Self::call_limit).
    #[must_use]
    pub fn with_call_limit(mut self, limit: Duration) -> Self {
        self.call_limit = limit;
        self
    }

    /// Replaces [`recovery`](Self::recovery).
    #[must_use]
    pub fn with_recovery(mut self, recovery: Duration) -> Self {
        self.recovery = recovery;
        self
    }

    /// What cannot be tested as declared, and what to declare instead.
    pub(crate) fn mistake(&self) -> Option<String> {
        const MIB: usize = 1024 * 1024;
        let Self {
            max_key,
            max_value,
            capacity,
            ..
        } = *self;
        let granularity = self.granularity();
        if granularity > LONGEST_GRANULARITY {
            return Some(format!(
                "a granularity of {granularity:?} is too coarse for the lifetimes in the rules, \
                 which allow for up to {LONGEST_GRANULARITY:?}; declare Expiry::None"
            ));
        }
        if self.call_limit.is_zero() {
            return Some("no call ends within a call_limit of zero".to_owned());
        }
        let range = |name, declared: Option<usize>, least: usize, most: usize| {
            let declared = declared.filter(|declared| !(least..=most).contains(declared))?;
            Some(format!(
                "a {name} of {declared} cannot be tested: the rules need {least}, and test at most \
                 {most}; declare none if it is larger"
            ))
        };
        range("max_key", max_key, LEAST_KEY, MIB)
            .or_else(|| range("max_value", max_value, LEAST_VALUE, 256 * MIB))
            .or_else(|| range("capacity", capacity, LEAST_CAPACITY, usize::MAX))
    }

    /// How early a value may be lost; zero if values do not expire.
    pub(crate) fn granularity(&self) -> Duration {
        match self.expiry {
            Expiry::None => Duration::ZERO,
            Expiry::Granularity(granularity) => granularity,
        }
    }

    /// The length of a large payload that is always kept.
    pub(crate) fn large_value(&self) -> usize {
        const LARGE: usize = 512 * 1024;
        self.max_value.map_or(LARGE, |max| max.min(LARGE))
    }
}

/// How values expire.
///
/// ```
/// use std::time::Duration;
/// use cache_conformance::{Capabilities, Expiry};
///
/// // The store drops values on whole seconds.
/// let coarse = Capabilities::default().with_expiry(Expiry::Granularity(Duration::from_secs(1)));
/// assert_ne!(coarse.expiry, Expiry::None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Expiry {
    /// Values do not expire: TTLs are ignored.
    None,
    /// Values may be lost this long before their deadline, and are never served at or after it.
    /// The lifetimes in the rules grow with it, up to a day. By the clock of the machine the suite
    /// sleeps for up to sixty times as long.
    Granularity(Duration),
}

/// The clock by which values expire.
///
/// ```
/// use cache_conformance::{Capabilities, Clock};
///
/// let by_hand = Capabilities::default().with_clock(Clock::Manual);
/// assert_eq!(by_hand.clock, Clock::Manual);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Clock {
    /// The clock of the machine: the suite sleeps.
    Real,
    /// The clock in [`Options::clock`](crate::Options::clock): the suite advances it and does not
    /// sleep.
    Manual,
}
