//! The macro front, on a backend that keeps every rule.

mod support;

use cache_conformance::Clock;
use support::reference::ReferenceHarness;

cache_conformance::tests! {
    real_clock: ReferenceHarness { clock: Clock::Real },
    waive {
        limits: "takes keys and values of any size",
        faults: "has no server",
    }
}

cache_conformance::tests! {
    manual_clock: ReferenceHarness { clock: Clock::Manual },
    waive {
        limits: "takes keys and values of any size",
        faults: "has no server",
    }
}
