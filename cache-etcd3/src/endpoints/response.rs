//! [`Response`]: the header that all responses of etcd have.

use etcd_client::{
    DeleteResponse, GetResponse, LeaseGrantResponse, LeaseRevokeResponse, PutResponse,
    ResponseHeader, TxnResponse,
};

use super::clusters::ClusterId;

/// A response of etcd.
pub(crate) trait Response {
    fn header(&self) -> Option<&ResponseHeader>;

    /// The cluster that sent it. Some servers that imitate etcd have none.
    fn cluster(&self) -> Option<ClusterId> {
        let id = self.header().map(ResponseHeader::cluster_id);
        id.filter(|id| *id != 0)
    }
}

macro_rules! responses {
    ($($response:ty),*) => {
        $(impl Response for $response {
            fn header(&self) -> Option<&ResponseHeader> {
                self.header()
            }
        })*
    };
}

responses!(
    DeleteResponse,
    GetResponse,
    LeaseGrantResponse,
    LeaseRevokeResponse,
    PutResponse,
    TxnResponse
);

/// Only the header of a response.
impl Response for Option<ResponseHeader> {
    fn header(&self) -> Option<&ResponseHeader> {
        self.as_ref()
    }
}
