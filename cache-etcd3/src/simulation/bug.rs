//! [`Bug`], a bug that is planted on purpose.

/// A bug that is planted on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bug {
    /// Writes carry no revision.
    NoRevision,
    /// A write that was refused because of a newer revision is reported as applied.
    MovedOnIsApplied,
    /// A delete leaves no mark, even if a set of the key may arrive late.
    NoTombstone,
    /// A dropped call is not withdrawn.
    NotWithdrawn,
    /// Requests are retried although their callers are gone.
    RepeatedForNobody,
    /// A finished round does not free its slot.
    RoundNotFinished,
    /// The TTL of a lease counts from the response.
    LeaseCountsFromAnswer,
    /// The class of the lease is too short.
    ClassTooShort,
    /// A lost lease is not removed.
    LostLeaseKept,
    /// Leases are revoked before their values expire.
    RevokedEarly,
    /// Responses are not reported to the breaker.
    AnswersNotTold,
    /// Faults are not reported to the breaker.
    FaultsNotTold,
    /// Callers that gave up are not reported to the breaker.
    GivenUpNotTold,
    /// A timeout counts as a fault even if the call had little time left.
    ShortTimeIsFault,
    /// Endpoints that are down are not probed.
    NoProbes,
    /// A silent connection is kept.
    SilentConnectionKept,
    /// Responses of other clusters are used.
    ClusterNotCompared,
}

pub(super) const BUGS: [Bug; 17] = [
    Bug::NoRevision,
    Bug::MovedOnIsApplied,
    Bug::NoTombstone,
    Bug::NotWithdrawn,
    Bug::RepeatedForNobody,
    Bug::RoundNotFinished,
    Bug::LeaseCountsFromAnswer,
    Bug::ClassTooShort,
    Bug::LostLeaseKept,
    Bug::RevokedEarly,
    Bug::AnswersNotTold,
    Bug::FaultsNotTold,
    Bug::GivenUpNotTold,
    Bug::ShortTimeIsFault,
    Bug::NoProbes,
    Bug::SilentConnectionKept,
    Bug::ClusterNotCompared,
];
