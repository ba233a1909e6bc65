//! What a backend promises, as far as it is judged.

use std::time::Duration;

/// Which order of reads and writes a backend claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Each key is a linearizable register, whatever happens.
    Always,
    /// The same, but a write that a fault touched may be applied a second time until the fault
    /// is recovered from, since the backend repeats what it got no answer to.
    ButForRepeats,
    /// Linearizable between faults. A fault may bring back what was there before it, since keys
    /// move to other servers and back.
    BetweenFaults,
}

#[derive(Clone, Debug)]
pub(crate) struct Promises {
    pub(crate) order: Order,
    /// While no fault is about, a value is there until its deadline.
    pub(crate) keeps: bool,
    /// A space where values may go before their time, since the number of entries is bounded.
    pub(crate) evicting: Option<u32>,
    /// No call takes longer.
    pub(crate) bound: Duration,
    /// A call that took longer without any fault may have been repeated inside the backend.
    pub(crate) slow: Duration,
    /// The time after a fault within which calls succeed again, on all servers.
    pub(crate) settle: Duration,
    /// The lifetime of values without one of their own.
    pub(crate) default_ttl: Duration,
    /// The largest payload.
    pub(crate) max_value: usize,
    /// What is judged and what is not, and why: for the summary.
    pub(crate) why: &'static [&'static str],
}
