//! Classification of failed requests: what to do next, and what to report.

use std::error::Error as StdError;
use std::io;

use cache_core::{Error, ErrorKind};

use crate::NAME;

/// A failed attempt: what to do next, and what to report to the caller if nothing helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) next: Next,
    /// What happened.
    pub(crate) message: String,
    /// Whether the deadline of the call has passed.
    pub(crate) is_out_of_time: bool,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send it again to any endpoint: an election or overload.
    Repeat,
    /// No response in time. This alone does not blame the endpoint.
    Late,
    /// Send it to another endpoint.
    Elsewhere(Fault),
    /// Authenticate, and send it again.
    Authenticate,
    /// Send it again with a new lease.
    NewLease,
    /// Write a value that persists instead of a delete or a short-lived value.
    Mark,
    /// Split the request, if it has several parts.
    Split(Excess),
    /// The database is full: puts fail; send the deletes.
    Full,
    /// No caller waits for it any longer.
    Withdrawn,
    /// Give up: it would fail again.
    Nothing(ErrorKind),
}

/// What is wrong with an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fault {
    /// No connection to it can be made.
    Unreachable,
    /// The connection ended.
    Broken,
    /// No response within a reasonable time.
    Silent,
    /// It is partitioned from the majority.
    NoLeader,
    /// It is a non-voting member, which serves no requests.
    Learner,
    /// It belongs to another cluster than the other endpoints.
    Foreign,
    /// It is another HTTP/2 server.
    NotEtcd,
}

impl Fault {
    /// Whether the endpoint refuses requests, so that a call need not wait for it.
    pub(crate) fn is_refusal(self) -> bool {
        matches!(
            self,
            Self::Unreachable | Self::Learner | Self::Foreign | Self::NotEtcd
        )
    }
}

/// Which limit a request exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    Operations,
    /// In the request.
    Bytes,
    /// In the response.
    Answer,
}

impl Failure {
    pub(crate) fn new(next: Next, message: impl Into<String>) -> Self {
        Self {
            next,
            message: message.into(),
            is_out_of_time: false,
        }
    }

    /// A failure because the deadline of the call has passed.
    pub(crate) fn out_of_time(next: Next, message: impl Into<String>) -> Self {
        Self {
            is_out_of_time: true,
            ..Self::new(next, message)
        }
    }

    /// Classifies an error of the client.
    pub(crate) fn of(error: &etcd_client::Error) -> Self {
        match error {
            etcd_client::Error::GRpcStatus(status) => {
                let code = i32::from(status.code());
                match status.source() {
                    // Only local errors have a source.
                    Some(source) => Self::of_connection(source),
                    None => Self::of_status(code, status.message()),
                }
            }
            etcd_client::Error::TransportError(error) => Self::of_connection(error),
            etcd_client::Error::IoError(error) => Self::of_connection(error),
            // An invalid token; the other variants concern requests that this crate never sends.
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

    /// By gRPC code, and by etcd's message where a code has several meanings.
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
        const ABOUT_SIZE: &str = "; store less or raise the server's --max-request-bytes";
        let says = |words: &str| message.contains(words);
        let (next, advice) = match code {
            _ if says("rpc not supported for learner") => (
                Next::Elsewhere(Fault::Learner),
                "; list only voting members, or promote it with `etcdctl member promote`",
            ),
            code::UNAVAILABLE if says("no leader") => (
                Next::Elsewhere(Fault::NoLeader),
                "; a majority of the cluster's members must be up",
            ),
            code::UNAVAILABLE if says("stopped") || says("stopping") => {
                (Next::Elsewhere(Fault::Broken), "")
            }
            code::RESOURCE_EXHAUSTED if says("database space exceeded") => (
                Next::Full,
                "; compact and defragment, then run `etcdctl alarm disarm`; consider \
                 --auto-compaction-retention and --quota-backend-bytes",
            ),
            code::RESOURCE_EXHAUSTED if says("larger than max") => {
                (Next::Split(Excess::Bytes), ABOUT_SIZE)
            }
            code::UNAVAILABLE | code::DEADLINE_EXCEEDED | code::RESOURCE_EXHAUSTED => {
                (Next::Repeat, "")
            }
            _ if code == code::UNIMPLEMENTED || is_not_grpc(message) => (
                Next::Elsewhere(Fault::NotEtcd),
                "; the server does not implement the API of etcd 3: correct `endpoints`",
            ),
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
                "; the server requires authentication: configure `username` and `password`",
            ),
            // The second is etcd 3.5's message when it detects this late, without a code.
            _ if says("auth store is old") || says("revision in header is old") => {
                (Next::Authenticate, "")
            }
            code::UNAUTHENTICATED => (Next::Authenticate, ""),
            code::PERMISSION_DENIED => (
                Next::Nothing(ErrorKind::PermissionDenied),
                "; grant it with `etcdctl role grant-permission`",
            ),
            code::NOT_FOUND if says("lease not found") => (Next::NewLease, ""),
            // The connection ended during the request.
            code::CANCELLED => (Next::Elsewhere(Fault::Broken), ""),
            // The connection's task ended with the runtime that it ran in.
            code::UNKNOWN if says("Service was not ready") => (Next::Elsewhere(Fault::Broken), ""),
            _ => (Next::Nothing(ErrorKind::Backend), ""),
        };
        Self::new(next, format!("{message}{advice}"))
    }

    /// Adds what else failed because of this.
    pub(crate) fn and(mut self, what: &str, also: &Self) -> Self {
        self.message = format!("{}; {what}: {}", self.message, also.message);
        self.is_out_of_time |= also.is_out_of_time;
        self
    }

    /// Whether the value or the request is too large.
    pub(crate) fn is_about_size(&self) -> bool {
        matches!(self.next, Next::Split(_))
    }

    /// Whether the user lacks a permission, rather than the right password.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.next == Next::Nothing(ErrorKind::PermissionDenied)
            && self.message.contains("permission denied")
    }

    /// The error to return once retries are exhausted.
    pub(crate) fn into_error(self) -> Error {
        let kind = match self.next {
            Next::Repeat | Next::Late | Next::Elsewhere(Fault::Silent) => ErrorKind::Timeout,
            Next::Elsewhere(Fault::NotEtcd) => ErrorKind::Protocol,
            Next::Elsewhere(_) | Next::Withdrawn => ErrorKind::Unavailable,
            Next::Authenticate => ErrorKind::PermissionDenied,
            Next::NewLease | Next::Mark | Next::Full => ErrorKind::Backend,
            Next::Split(_) => ErrorKind::ValueTooLarge,
            Next::Nothing(kind) => kind,
        };
        Error::new(kind, NAME, self.message)
    }
}

/// Whether this is tonic's message about a response without gRPC: of a web server, or a proxy.
fn is_not_grpc(message: &str) -> bool {
    message.contains("grpc-status header missing") || message.contains("invalid compression flag")
}

/// Advice for a failed connection. rustls reports some causes only in its messages.
fn advice(error: &(dyn StdError + 'static), message: &str) -> &'static str {
    let says = |words: &str| message.contains(words);
    let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
    if is_about_files(message) {
        "; check `tls_cafile` and `tls_certfile`, and that `tls_keyfile` is the certificate's key"
    } else if io == Some(io::ErrorKind::ConnectionRefused) {
        "; is etcd running there?"
    } else if says("failed to lookup address") {
        "; check the name in `host` or `endpoints`"
    } else if says("received corrupt message") {
        "; does it use TLS? `tls_enabled` is set"
    } else if says("certificate not valid for name") {
        "; use a name that its certificate contains"
    } else if says("invalid peer certificate") {
        "; `tls_cafile` must contain the authority that signed it"
    } else {
        ""
    }
}

/// Whether the message is about an unusable certificate or key.
fn is_about_files(message: &str) -> bool {
    let words = [
        "parsing TLS",
        "parse private key",
        "keys may not be consistent",
    ];
    words.iter().any(|words| message.contains(words))
}

/// Whether the connection was never established: refused, unknown host, no route, untrusted
/// certificate. Other errors end an established connection.
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
