//! What became of a request that failed, and what to do about it.

use std::error::Error as StdError;
use std::io;

use cache_core::{Error, ErrorKind};

use crate::NAME;

/// A failed attempt: what to do next, and what to tell the caller if nothing helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) next: Next,
    /// What happened, in words.
    pub(crate) message: String,
}

/// What a failed attempt calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// etcd asks for the same request again: an election, overload.
    Repeat,
    /// No answer came in time. Whether that is the endpoint's fault is another question.
    Late,
    /// Another endpoint: this one is of no use.
    Elsewhere(Fault),
    /// The same request after authenticating anew.
    Authenticate,
    /// The same request with a lease that exists.
    NewLease,
    /// Something that endures, in place of a delete or of what expires soon.
    Mark,
    /// The same request in smaller pieces, if it has pieces.
    Split(Excess),
    /// Nothing for what is to be stored: the database is full. The rest is done.
    Full,
    /// Nobody waits for it any more.
    Withdrawn,
    /// Nothing: it will fail again.
    Nothing(ErrorKind),
}

/// What is wrong with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// No connection to it can be made.
    Unreachable,
    /// It broke the connection.
    Broken,
    /// It did not answer within a fair time.
    Silent,
    /// It is cut off from the majority.
    NoLeader,
    /// It is a member that does not vote, and serves nobody.
    Learner,
}

/// What there is too much of in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    Operations,
    /// In the request.
    Bytes,
    /// In the answer.
    Answer,
}

impl Failure {
    pub(crate) fn new(next: Next, message: impl Into<String>) -> Self {
        Self {
            next,
            message: message.into(),
        }
    }

    /// Reads what the client says of a failure.
    pub(crate) fn of(error: &etcd_client::Error) -> Self {
        match error {
            etcd_client::Error::GRpcStatus(status) => {
                let code = i32::from(status.code());
                match status.source() {
                    // Only what happened on this side has a cause.
                    Some(source) => Self::of_connection(source),
                    None => Self::of_status(code, status.message()),
                }
            }
            etcd_client::Error::TransportError(error) => Self::of_connection(error),
            etcd_client::Error::IoError(error) => Self::of_connection(error),
            // A token that is no header value: what else there is concerns requests that are
            // not made here.
            other => Self::new(Next::Nothing(ErrorKind::Backend), other.to_string()),
        }
    }

    fn of_connection(error: &(dyn StdError + 'static)) -> Self {
        let mut root = error;
        let mut unreachable = is_unreachable(root);
        while let Some(source) = root.source() {
            root = source;
            unreachable |= is_unreachable(root);
        }
        let mut message = root.to_string();
        let next = if is_about_files(&message) {
            Next::Nothing(ErrorKind::Config)
        } else if unreachable {
            Next::Elsewhere(Fault::Unreachable)
        } else {
            Next::Elsewhere(Fault::Broken)
        };
        message.push_str(advice(root, &message));
        Self::new(next, message)
    }

    /// gRPC's codes, and etcd's words where a code means several things.
    fn of_status(code: i32, message: &str) -> Self {
        /// gRPC's names for its codes.
        mod code {
            pub(super) const CANCELLED: i32 = 1;
            pub(super) const UNKNOWN: i32 = 2;
            pub(super) const INVALID_ARGUMENT: i32 = 3;
            pub(super) const DEADLINE_EXCEEDED: i32 = 4;
            pub(super) const NOT_FOUND: i32 = 5;
            pub(super) const PERMISSION_DENIED: i32 = 7;
            pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
            pub(super) const OUT_OF_RANGE: i32 = 11;
            pub(super) const UNIMPLEMENTED: i32 = 12;
            pub(super) const UNAVAILABLE: i32 = 14;
            pub(super) const UNAUTHENTICATED: i32 = 16;
        }
        const ABOUT_SIZE: &str = "; store less, or raise the server's --max-request-bytes";
        let says = |words: &str| message.contains(words);
        let (next, advice) = match code {
            _ if says("rpc not supported for learner") => (
                Next::Elsewhere(Fault::Learner),
                "; list the voting members only, or promote it: `etcdctl member promote`",
            ),
            code::UNAVAILABLE if says("no leader") => (
                Next::Elsewhere(Fault::NoLeader),
                "; a majority of the cluster's members has to be up",
            ),
            code::UNAVAILABLE if says("stopped") || says("stopping") => {
                (Next::Elsewhere(Fault::Broken), "")
            }
            code::RESOURCE_EXHAUSTED if says("database space exceeded") => (
                Next::Full,
                "; compact, defragment, `etcdctl alarm disarm`, and consider \
                 --auto-compaction-retention and --quota-backend-bytes",
            ),
            code::RESOURCE_EXHAUSTED if says("larger than max") => {
                (Next::Split(Excess::Bytes), ABOUT_SIZE)
            }
            code::UNAVAILABLE | code::DEADLINE_EXCEEDED | code::RESOURCE_EXHAUSTED => {
                (Next::Repeat, "")
            }
            code::OUT_OF_RANGE => (Next::Split(Excess::Answer), ""),
            code::INVALID_ARGUMENT if says("too large") => (Next::Split(Excess::Bytes), ABOUT_SIZE),
            code::INVALID_ARGUMENT if says("too many operations") => {
                (Next::Split(Excess::Operations), "")
            }
            code::INVALID_ARGUMENT if says("authentication failed") => (
                Next::Nothing(ErrorKind::PermissionDenied),
                "; check `username` and `password`",
            ),
            code::INVALID_ARGUMENT if says("user name is empty") => (
                Next::Authenticate,
                "; the server asks for a user: configure `username` and `password`",
            ),
            // The second is how 3.5 says it where it finds out late, without a code.
            _ if says("auth store is old") || says("revision in header is old") => {
                (Next::Authenticate, "")
            }
            code::UNAUTHENTICATED => (Next::Authenticate, ""),
            code::PERMISSION_DENIED => (
                Next::Nothing(ErrorKind::PermissionDenied),
                "; `etcdctl role grant-permission` grants it",
            ),
            code::NOT_FOUND if says("lease not found") => (Next::NewLease, ""),
            // The connection ended under the request.
            code::CANCELLED => (Next::Elsewhere(Fault::Broken), ""),
            // What drives the connection has gone with the runtime that it was made in.
            code::UNKNOWN if says("Service was not ready") => (Next::Elsewhere(Fault::Broken), ""),
            code::UNIMPLEMENTED => (
                Next::Nothing(ErrorKind::Protocol),
                "; this server does not speak the API of etcd 3",
            ),
            _ => (Next::Nothing(ErrorKind::Backend), ""),
        };
        Self::new(next, format!("{message}{advice}"))
    }

    /// What the caller is told when nothing helped.
    pub(crate) fn into_error(self) -> Error {
        let kind = match self.next {
            Next::Repeat | Next::Late | Next::Elsewhere(Fault::Silent) => ErrorKind::Timeout,
            Next::Elsewhere(_) | Next::Withdrawn => ErrorKind::Unavailable,
            Next::Authenticate => ErrorKind::PermissionDenied,
            Next::NewLease | Next::Mark | Next::Full => ErrorKind::Backend,
            Next::Split(_) => ErrorKind::ValueTooLarge,
            Next::Nothing(kind) => kind,
        };
        Error::new(kind, NAME, self.message)
    }
}

/// What to do about a connection that failed. rustls tells what it met with in words only.
fn advice(error: &(dyn StdError + 'static), message: &str) -> &'static str {
    let says = |words: &str| message.contains(words);
    let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
    if is_about_files(message) {
        "; check `tls_cafile`, `tls_certfile`, and that `tls_keyfile` belongs to it"
    } else if io == Some(io::ErrorKind::ConnectionRefused) {
        "; is etcd running there?"
    } else if says("received corrupt message") {
        "; does it speak TLS? `tls_enabled` is set"
    } else if says("certificate not valid for name") {
        "; reach it by a name that its certificate has"
    } else if says("invalid peer certificate") {
        "; `tls_cafile` has to hold the authority that signed it"
    } else {
        ""
    }
}

/// Whether this is said of certificates and keys that nothing can be done with.
fn is_about_files(message: &str) -> bool {
    let words = [
        "parsing TLS",
        "parse private key",
        "keys may not be consistent",
    ];
    words.iter().any(|words| message.contains(words))
}

/// Whether no connection came about: refused, no such name or route, a certificate that is not
/// trusted. The other failures end a connection that there was.
fn is_unreachable(error: &(dyn StdError + 'static)) -> bool {
    use io::ErrorKind as Io;

    let Some(error) = error.downcast_ref::<io::Error>() else {
        return false;
    };
    !matches!(
        error.kind(),
        Io::BrokenPipe
            | Io::ConnectionAborted
            | Io::ConnectionReset
            | Io::NotConnected
            | Io::TimedOut
            | Io::UnexpectedEof
    )
}
