//! The macro, with a backend that uses the default implementations of the trait, and with every
//! wrapper.

use crate::reference::{Reference, ReferenceHarness};
use cache_conformance::{Capabilities, Clock, Harness, OpenError, Options};
use cache_core::{CacheBackend, DynBackend, Format, MapKeys, MissOnError, Typed};
use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;

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

/// Wraps the backend.
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

/// Stores bytes in reverse order.
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

cache_conformance::tests! {
    with_every_kind_of_waiver: ReferenceHarness { clock: Clock::Manual },
    waive {
        #[cfg(all())]
        limits: "takes keys and values of any size",
        #[cfg(any())]
        basic: "never, for no cfg is like this",
        faults: "has no server",
        outages: "has no server",
        unreadable: "keeps values as they are",
        promises: "makes none",
        keys::case_is_kept: may_fail("or may not"),
    };
    up_to = "0.1"
}

/// How a later version of this crate declares its rules.
mod of_a_later_version {
    fn suite() -> cache_conformance::Suite {
        cache_conformance::Suite::new(super::ReferenceHarness {
            clock: super::Clock::Manual,
        })
    }

    cache_conformance::__declare_test!(
        @newer ["0.2" "new since 0.2"] a_test ($)
        multi::the_old_name: "waived by the name that it had",
    );

    mod rules {
        fn suite() -> cache_conformance::Suite {
            super::suite()
        }
        mod group {
            a_test!(("0.2") [basic set_replaces]; basic set_replaces);
            a_test!(() [multi the_old_name] [multi order_is_kept]; multi order_is_kept);
            a_test!(() [basic the_old_name] [basic delete_removes]; basic delete_removes);
        }
    }
}

#[test]
fn a_seed_that_cannot_be_read_fails_the_run() {
    let run = |seed: &str| {
        let this = std::env::current_exe().map(std::process::Command::new);
        let mut this = this.expect("the path of this program");
        this.args(["--exact", "front::by_a_manual_clock::basic::set_replaces"]);
        let output = this.env("CACHE_CONFORMANCE_SEED", seed).output();
        let output = output.expect("this program runs");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let (passed, text) = run("12x4");
    assert!(!passed, "{text}");
    assert!(
        text.contains(r#"CACHE_CONFORMANCE_SEED is "12x4""#),
        "{text}"
    );
    assert!(run("1234").0 && run("").0);
}

/// The tests of this program, as libtest lists them.
fn listed(arguments: &[&str]) -> String {
    let this = std::env::current_exe().map(std::process::Command::new);
    let output = this.and_then(|mut this| this.arg("--list").args(arguments).output());
    String::from_utf8_lossy(&output.map(|output| output.stdout).unwrap_or_default()).into_owned()
}

#[test]
fn every_rule_is_a_test() {
    let listed = listed(&[]);
    for rule in cache_conformance::rules() {
        let line = format!("front::by_a_manual_clock::{}: test", rule.id());
        assert!(listed.lines().any(|listed| listed == line), "{line}");
    }
}

#[test]
fn waivers_are_ignored_tests() {
    let ignored = listed(&["--ignored"]);
    let is_ignored = |test: &str| {
        ignored
            .lines()
            .any(|line| line == format!("front::{test}: test"))
    };
    for test in [
        "with_every_kind_of_waiver::limits::too_large_is_an_error",
        "with_every_kind_of_waiver::keys::case_is_kept",
        "of_a_later_version::rules::group::set_replaces",
        "of_a_later_version::rules::group::order_is_kept",
    ] {
        assert!(is_ignored(test), "{test} in {ignored}");
    }
    for test in [
        "with_every_kind_of_waiver::basic::set_replaces",
        "with_every_kind_of_waiver::keys::inner_space_is_kept",
        "of_a_later_version::rules::group::delete_removes",
    ] {
        assert!(!is_ignored(test), "{test}");
    }
}
