//! The conformance suite, for every way to use the backend.

use cache_conformance::{Capabilities, Clock, Harness, OpenError, Options};
use cache_core::DynBackend;
use cache_dict::{DictBackend, DictBuilder};

type Backend = DictBackend<Vec<u8>>;

fn promises() -> Capabilities {
    Capabilities::default()
        .with_brief_polls()
        .with_no_tasks_left()
}

fn builder(options: &Options) -> DictBuilder<Vec<u8>> {
    DictBackend::builder().expiration_time(options.default_ttl)
}

fn on_manual_clock(options: &Options) -> DictBuilder<Vec<u8>> {
    let clock = options.clock.clone();
    builder(options).clock(move || clock.elapsed())
}

/// On the system clock; with the feature `coarse-clock`, on the coarse one.
struct RealClock;

impl Harness for RealClock {
    type Backend = Backend;

    fn capabilities(&self) -> Capabilities {
        promises()
    }

    async fn open(&self, options: &Options) -> Result<Backend, OpenError> {
        Ok(builder(options).build()?)
    }

    async fn again(&self, backend: &Backend, _: &Options) -> Result<Backend, OpenError> {
        Ok(backend.clone())
    }
}

/// With the feature `coarse-clock`, but on the exact clock.
#[cfg(feature = "coarse-clock")]
struct ExactClock;

#[cfg(feature = "coarse-clock")]
impl Harness for ExactClock {
    type Backend = Backend;

    fn capabilities(&self) -> Capabilities {
        promises()
    }

    async fn open(&self, options: &Options) -> Result<Backend, OpenError> {
        Ok(builder(options).coarse_clock(false).build()?)
    }

    async fn again(&self, backend: &Backend, _: &Options) -> Result<Backend, OpenError> {
        Ok(backend.clone())
    }
}

struct ManualClock;

impl Harness for ManualClock {
    type Backend = Backend;

    fn capabilities(&self) -> Capabilities {
        promises().with_clock(Clock::Manual).with_steady_lifetimes()
    }

    async fn open(&self, options: &Options) -> Result<Backend, OpenError> {
        Ok(on_manual_clock(options).build()?)
    }

    async fn again(&self, backend: &Backend, _: &Options) -> Result<Backend, OpenError> {
        Ok(backend.clone())
    }
}

/// The maximum number of entries of [`Bounded`].
const BOUND: usize = 8_000;

/// With a maximum number of entries.
struct Bounded;

impl Harness for Bounded {
    type Backend = Backend;

    fn capabilities(&self) -> Capabilities {
        promises()
            .with_clock(Clock::Manual)
            .with_steady_lifetimes()
            .with_capacity(BOUND)
    }

    async fn open(&self, options: &Options) -> Result<Backend, OpenError> {
        let builder = on_manual_clock(options).max_entries(BOUND);
        Ok(builder.build()?)
    }

    async fn again(&self, backend: &Backend, _: &Options) -> Result<Backend, OpenError> {
        Ok(backend.clone())
    }
}

/// Behind a [`DynBackend`].
struct Erased;

impl Harness for Erased {
    type Backend = DynBackend<Vec<u8>>;

    fn capabilities(&self) -> Capabilities {
        promises().with_clock(Clock::Manual).with_steady_lifetimes()
    }

    async fn open(&self, options: &Options) -> Result<Self::Backend, OpenError> {
        Ok(DynBackend::new(on_manual_clock(options).build()?))
    }

    async fn again(
        &self,
        backend: &Self::Backend,
        _: &Options,
    ) -> Result<Self::Backend, OpenError> {
        Ok(backend.clone())
    }
}

cache_conformance::tests! {
    dict: RealClock,
    waive {
        faults: "it has no servers that could fail",
        outages: "it has no servers that could fail",
        unreadable: "values are kept as they are",
        promises::get_multi_asks_for_a_key_once: "it has no servers",
        promises::cancelled_writes_release_their_values: "no write waits",
        promises::a_dropped_backend_closes_its_connections: "it has no connections",
        promises::reads_are_batched: "it has no servers",
        promises::lifetimes_ignore_the_wall_clock: "it uses the clock of the machine",
        promises::a_full_cache_is_right: "is opened without a bound",
        limits: "keys and values of any length are kept",
    }
}

#[cfg(feature = "coarse-clock")]
cache_conformance::tests! {
    dict_on_the_exact_clock: ExactClock,
    waive {
        faults: "it has no servers that could fail",
        outages: "it has no servers that could fail",
        unreadable: "values are kept as they are",
        promises::get_multi_asks_for_a_key_once: "it has no servers",
        promises::cancelled_writes_release_their_values: "no write waits",
        promises::a_dropped_backend_closes_its_connections: "it has no connections",
        promises::reads_are_batched: "it has no servers",
        promises::lifetimes_ignore_the_wall_clock: "it uses the clock of the machine",
        promises::a_full_cache_is_right: "is opened without a bound",
        limits: "keys and values of any length are kept",
    }
}

cache_conformance::tests! {
    dict_on_a_manual_clock: ManualClock,
    waive {
        faults: "it has no servers that could fail",
        outages: "it has no servers that could fail",
        unreadable: "values are kept as they are",
        promises::get_multi_asks_for_a_key_once: "it has no servers",
        promises::cancelled_writes_release_their_values: "no write waits",
        promises::a_dropped_backend_closes_its_connections: "it has no connections",
        promises::reads_are_batched: "it has no servers",
        promises::a_full_cache_is_right: "is opened without a bound",
        limits: "keys and values of any length are kept",
    }
}

cache_conformance::tests! {
    dict_with_a_bound: Bounded,
    waive {
        faults: "it has no servers that could fail",
        outages: "it has no servers that could fail",
        unreadable: "values are kept as they are",
        promises::get_multi_asks_for_a_key_once: "it has no servers",
        promises::cancelled_writes_release_their_values: "no write waits",
        promises::a_dropped_backend_closes_its_connections: "it has no connections",
        promises::reads_are_batched: "it has no servers",
        limits: "keys and values of any length are kept",
    }
}

cache_conformance::tests! {
    dict_behind_a_handle: Erased,
    waive {
        faults: "it has no servers that could fail",
        outages: "it has no servers that could fail",
        unreadable: "values are kept as they are",
        promises::get_multi_asks_for_a_key_once: "it has no servers",
        promises::cancelled_writes_release_their_values: "no write waits",
        promises::a_dropped_backend_closes_its_connections: "it has no connections",
        promises::reads_are_batched: "it has no servers",
        promises::a_full_cache_is_right: "is opened without a bound",
        promises::immediate_calls_end_at_once: "a handle may hide any backend",
        limits: "keys and values of any length are kept",
    }
}
