//! [`Capabilities`], what a backend promises beyond the contract.

use std::time::Duration;

use serde::Serialize;

use crate::Fault;

/// What a backend can do, as values: they scale what the rules try, and never weaken a rule.
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
#[allow(clippy::struct_excessive_bools)] // Promises are made or not, each on its own.
pub struct Capabilities {
    /// Whether values expire, and how early at most they may be lost. By default not early at all.
    pub expiry: Expiry,
    /// By which clock they expire. By default the real one.
    pub clock: Clock,
    /// The longest key that is kept, in bytes of ASCII; a longer one is refused. `None`, the
    /// default: no limit worth testing. The suite's own keys need some 60.
    pub max_key: Option<usize>,
    /// A length of payload in bytes that is sure to be kept, while twice the length is sure to
    /// be refused. `None`, the default: no limit worth testing. The suite's own payloads need some
    /// 1,000.
    pub max_value: Option<usize>,
    /// How many entries are sure to be kept, where more may push out others, at any time.
    /// `None`, the default: values are lost by expiry and deletion only.
    pub capacity: Option<usize>,
    /// Whether operations on one key take effect in one order that all callers agree on, each
    /// between its call and its answer. By default they do.
    pub linearizable: bool,
    /// What can be made to fail by [`Harness::open_faulty`](crate::Harness::open_faulty). By
    /// default nothing.
    pub faults: &'static [Fault],
    /// How many servers [`FaultControl::inject_into`](crate::FaultControl::inject_into) can make
    /// fail one by one. By default 1: a single server, or several that fail together.
    ///
    /// A backend that passes over a dead server and asks another, which has not got the value,
    /// turns an outage into misses; it is opened without such a failover there.
    pub servers: usize,
    /// What no error may show: the passwords and tokens that
    /// [`Harness::open_faulty`](crate::Harness::open_faulty) opens the backend with. By default
    /// nothing.
    #[serde(skip)]
    pub secrets: &'static [&'static str],
    /// Whether [`Harness::make_unreadable`](crate::Harness::make_unreadable) can store what the
    /// backend cannot decode. By default not.
    pub unreadable_values: bool,
    /// A promise beyond the contract: `get_multi` does not ask for one key after the other. By
    /// default not promised. Round trips are counted by
    /// [`FaultControl::round_trips`](crate::FaultControl::round_trips).
    pub batched_reads: bool,
    /// A promise beyond the contract: no call holds its thread for milliseconds. By default not
    /// promised.
    pub brief_polls: bool,
    /// A promise beyond the contract: a call that has ended leaves no task behind. By default
    /// not promised.
    pub no_tasks_left: bool,
    /// A promise beyond the contract: a value whose write was given up is not kept until the
    /// server answers, or indefinitely. By default not promised. Values are counted by
    /// [`Harness::values_held`](crate::Harness::values_held).
    pub no_values_left: bool,
    /// A promise beyond the contract: `get_multi` asks for a key once, however often it is named.
    /// By default not promised. Answers are measured by
    /// [`FaultControl::bytes_answered`](crate::FaultControl::bytes_answered).
    pub distinct_reads: bool,
    /// A promise beyond the contract: a backend that is dropped closes its connections. By default
    /// not promised. They are counted by
    /// [`FaultControl::connections`](crate::FaultControl::connections).
    pub no_connections_left: bool,
    /// A promise beyond the contract, by a [manual clock](Clock::Manual): lifetimes are measured
    /// by a clock that only goes forward, whatever happens to the wall clock. By default not
    /// promised.
    pub steady_lifetimes: bool,
    /// How long a single call may take, whatever happens to the servers. By default 15 seconds;
    /// a backend that is under test with a timeout of its own gives somewhat more than that.
    pub call_limit: Duration,
    /// How long after a fault is gone the backend may go on failing. By default 10 seconds; a
    /// backend that leaves dead servers alone for a while needs more, or less time to do so.
    pub recovery: Duration,
}

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

    /// How early a value may be lost; zero where values do not expire.
    pub(crate) fn granularity(&self) -> Duration {
        match self.expiry {
            Expiry::None => Duration::ZERO,
            Expiry::Granularity(granularity) => granularity,
        }
    }

    /// The length of a payload that is large, yet sure to be kept.
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
    /// They do not: TTLs are ignored.
    None,
    /// They may be lost so much before their deadline, and are never served after it.
    Granularity(Duration),
}

/// The clock that values expire by.
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
    /// The machine's: the suite sleeps.
    Real,
    /// The one that [`Options::clock`](crate::Options::clock) hands out: the suite advances it,
    /// and sleeps nowhere.
    Manual,
}
