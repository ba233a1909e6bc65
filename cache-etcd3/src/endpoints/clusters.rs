//! [`Clusters`]: which cluster each endpoint belongs to, and which cluster is used. A plain type.
//!
//! A value written to one cluster is not found in another, so only the endpoints of one cluster are
//! used: that of the first response. Each response names its cluster, so this takes no requests.
//!
//! A cluster that is rebuilt, for example from a backup, has a new ID. The backend follows once
//! more of the endpoints have moved to the new cluster than remain in the old one, which has then
//! lost its majority. A single member that was rebuilt by mistake does not suffice, nor does an
//! endpoint that never was a member, even if no other endpoint is available.

/// etcd's ID of a cluster.
pub(crate) type ClusterId = u64;

#[derive(Debug)]
pub(super) struct Clusters {
    used: Option<ClusterId>,
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Endpoint {
    /// The cluster in its last response.
    last: Option<ClusterId>,
    /// It has belonged to the cluster that is used.
    was_member: bool,
}

/// Whether a response may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Member,
    /// It is, and those of some endpoints that belonged to other clusters are as well from now on.
    Moved,
    /// It is from another cluster than `used`.
    Foreign {
        used: ClusterId,
    },
}

impl Clusters {
    pub(super) fn new(endpoints: usize) -> Self {
        Self {
            used: None,
            endpoints: vec![Endpoint::default(); endpoints],
        }
    }

    /// Records the cluster in a response of an endpoint.
    pub(super) fn responded(&mut self, at: usize, id: ClusterId) -> Verdict {
        let used = *self.used.get_or_insert(id);
        let Some(endpoint) = self.endpoints.get_mut(at) else {
            return Verdict::Member;
        };
        endpoint.last = Some(id);
        if id == used {
            endpoint.was_member = true;
            return Verdict::Member;
        }
        let count = |of: ClusterId| {
            let members = self.endpoints.iter().filter(|it| it.was_member);
            members.filter(|it| it.last == Some(of)).count()
        };
        if count(id) <= count(used) {
            return Verdict::Foreign { used };
        }
        self.used = Some(id);
        for endpoint in &mut self.endpoints {
            endpoint.was_member = endpoint.last == Some(id);
        }
        Verdict::Moved
    }

    /// Whether the last response of an endpoint was from the cluster that is used.
    pub(super) fn is_member(&self, at: usize) -> bool {
        let endpoint = self.endpoints.get(at);
        endpoint.is_some_and(|it| it.last.is_some() && it.last == self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: ClusterId = 1;
    const NEW: ClusterId = 2;

    fn all_in_old(endpoints: usize) -> Clusters {
        let mut clusters = Clusters::new(endpoints);
        for at in 0..endpoints {
            assert_eq!(clusters.responded(at, OLD), Verdict::Member);
        }
        clusters
    }

    #[test]
    fn the_cluster_of_the_first_response_is_used() {
        let mut clusters = Clusters::new(3);
        assert_eq!(clusters.responded(1, OLD), Verdict::Member);
        // However many endpoints belong to another one.
        for at in [0, 2, 0] {
            let foreign = Verdict::Foreign { used: OLD };
            assert_eq!(clusters.responded(at, NEW), foreign);
            assert!(!clusters.is_member(at));
        }
        assert!(clusters.is_member(1));
    }

    #[test]
    fn a_rebuilt_cluster_is_used_once_most_endpoints_have_moved() {
        let mut clusters = all_in_old(3);
        let foreign = Verdict::Foreign { used: OLD };
        assert_eq!(clusters.responded(2, NEW), foreign);
        assert_eq!(clusters.responded(2, NEW), foreign, "one endpoint of three");
        assert_eq!(clusters.responded(0, NEW), Verdict::Moved);
        assert!(clusters.is_member(2) && !clusters.is_member(1));
        // A late response from the old cluster, and the new one.
        assert_eq!(clusters.responded(1, OLD), Verdict::Foreign { used: NEW });
        assert_eq!(clusters.responded(1, NEW), Verdict::Member);
    }

    #[test]
    fn a_rebuilt_single_node_is_used_immediately() {
        let mut clusters = all_in_old(1);
        for id in [NEW, OLD, NEW] {
            assert_eq!(clusters.responded(0, id), Verdict::Moved);
        }
    }

    #[test]
    fn of_two_endpoints_both_have_to_move() {
        let mut clusters = all_in_old(2);
        assert_eq!(clusters.responded(0, NEW), Verdict::Foreign { used: OLD });
        assert_eq!(clusters.responded(1, NEW), Verdict::Moved);
    }

    #[test]
    fn an_endpoint_that_never_was_a_member_does_not_count() {
        let mut clusters = Clusters::new(3);
        clusters.responded(0, OLD);
        let foreign = Verdict::Foreign { used: OLD };
        assert_eq!(clusters.responded(1, NEW), foreign);
        assert_eq!(clusters.responded(2, NEW), foreign);
        // The only member is rebuilt as another cluster, or joins theirs.
        assert_eq!(clusters.responded(0, NEW), Verdict::Moved);
        assert!(clusters.is_member(1));
    }
}
