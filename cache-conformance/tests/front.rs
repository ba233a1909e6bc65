//! The macro front, on a backend that leaves to the trait what it can, and on every wrapper.

#![allow(clippy::indexing_slicing)] // A test fails by panicking.

mod support;

use cache_conformance::{Capabilities, Clock, Harness, OpenError, Options};
use cache_core::{CacheBackend, DynBackend, Format, MapKeys, MissOnError, Typed};
use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use support::reference::{Reference, ReferenceHarness};

cache_conformance::tests! {
    by_the_real_clock: ReferenceHarness { clock: Clock::Real },
    waive {
        limits: "takes keys and values of any size",
        faults: "has no server",
        outages: "has no server",
        unreadable: "keeps values as they are",
        promises: "makes none",
    }
}

cache_conformance::tests! {
    by_a_manual_clock: ReferenceHarness { clock: Clock::Manual },
    waive {
        limits: "takes keys and values of any size",
        faults: "has no server",
        outages: "has no server",
        unreadable: "keeps values as they are",
        promises: "makes none",
    }
}

/// Puts something around the backend.
struct Wrapped<B>(fn(Reference) -> B);

impl<B: CacheBackend<Value = Vec<u8>> + Clone + 'static> Harness for Wrapped<B> {
    type Backend = B;

    fn capabilities(&self) -> Capabilities {
        Capabilities::default().with_clock(Clock::Manual)
    }

    async fn open(&self, options: &Options) -> Result<B, OpenError> {
        let clock = Some(options.clock.clone());
        Ok((self.0)(Reference::new(options.default_ttl, clock)))
    }

    async fn again(&self, backend: &B, _: &Options) -> Result<B, OpenError> {
        Ok(backend.clone())
    }
}

/// Stores bytes upside down.
#[derive(Clone)]
struct Reversed;

impl Format<Vec<u8>> for Reversed {
    fn encode(&self, value: &Vec<u8>) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(value.iter().rev().copied().collect())
    }

    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        self.encode(&bytes.to_vec())
    }
}

fn hexadecimal(key: &str) -> Cow<'_, str> {
    let digits = |byte: u8| {
        [byte >> 4, byte & 15].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
    };
    Cow::Owned(key.bytes().flat_map(digits).collect())
}

fn for_ever(backend: Reference) -> &'static Reference {
    Box::leak(Box::new(backend))
}

macro_rules! wrapped {
    ($($name:ident: $wrap:expr;)*) => {
        $(
            cache_conformance::tests! {
                $name: Wrapped($wrap),
                waive {
                    limits: "takes keys and values of any size",
                    faults: "has no server",
                    outages: "has no server",
                    unreadable: "keeps values as they are",
                    promises: "makes none",
                }
            }
        )*
    };
}

wrapped! {
    dyn_backend: DynBackend::new;
    map_keys: |backend| MapKeys::new(backend, hexadecimal);
    map_keys_namespace: |backend| MapKeys::namespace(backend, "a:b");
    miss_on_error: MissOnError::new;
    typed: |backend| Typed::<Vec<u8>, _>::new(backend, Reversed);
    reference: for_ever;
    boxed: Box::new;
    arc: Arc::new;
    all_of_them: |backend| {
        let below = MapKeys::namespace(MissOnError::new(Arc::new(backend)), "ns");
        DynBackend::new(Typed::<Vec<u8>, _>::new(DynBackend::new(below), Reversed))
    };
}
