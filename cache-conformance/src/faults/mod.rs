//! Faults of servers, and how they are injected.

mod control;
mod proxy;

use std::fmt;

use serde::Serialize;

use crate::OpenError;

pub(crate) use control::Faults;
pub use proxy::Proxy;

/// A way in which a server fails.
///
/// ```
/// use cache_conformance::{Capabilities, Fault};
///
/// // A harness that can only stop and continue its server.
/// let capabilities = Capabilities::default().with_faults(&[Fault::Silent]);
/// assert_eq!(capabilities.faults, [Fault::Silent]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum Fault {
    /// Connections are refused, and those that were open are closed.
    Down,
    /// Connections are accepted and stay open, but no response arrives, as with a stopped server or
    /// a network that drops packets. Requests may be answered after the fault.
    Silent,
    /// Every response consists of random bytes.
    Garbage,
    /// Connections are closed in the middle of the first response.
    Cut,
}

impl Fault {
    /// All faults that [`Proxy`] can inject.
    ///
    /// ```
    /// use cache_conformance::{Capabilities, Fault};
    ///
    /// assert!(Fault::ALL.contains(&Fault::Silent));
    /// assert_eq!(Capabilities::default().with_faults(Fault::ALL).faults.len(), 4);
    /// ```
    pub const ALL: &'static [Self] = &[Self::Down, Self::Silent, Self::Garbage, Self::Cut];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Silent => "silent",
            Self::Garbage => "garbage",
            Self::Cut => "cut",
        })
    }
}

/// Injects faults into the servers of one backend. The methods may block.
///
/// [`Proxy`] implements it for any TCP server. A harness that kills and stops processes implements
/// it itself.
///
/// ```
/// use cache_conformance::{Fault, FaultControl, OpenError};
/// use std::process::Child;
///
/// struct Process(Child);
///
/// impl FaultControl for Process {
///     fn inject(&mut self, fault: Fault) -> Result<(), OpenError> {
///         match fault {
///             Fault::Down => Ok(self.0.kill()?),
///             other => Err(format!("cannot inject {other}").into()),
///         }
///     }
///     fn heal(&mut self) -> Result<(), OpenError> {
///         // Start it again.
///         Ok(())
///     }
/// }
/// ```
pub trait FaultControl: Send + 'static {
    /// Injects the fault, which ends any previous one, and returns once it is in effect.
    ///
    /// # Errors
    ///
    /// If the fault cannot be injected; the rule fails with the error.
    fn inject(&mut self, fault: Fault) -> Result<(), OpenError>;

    /// Ends all faults, and returns once the servers respond again.
    ///
    /// # Errors
    ///
    /// If a fault cannot be ended; the rule fails with the error.
    fn heal(&mut self) -> Result<(), OpenError>;

    /// Injects the fault into one of several servers, numbered from 0, and does not change the
    /// others. It is needed if [`Capabilities::servers`](crate::Capabilities::servers) is more
    /// than 1.
    ///
    /// # Errors
    ///
    /// The default implementation returns an error.
    fn inject_into(&mut self, server: usize, fault: Fault) -> Result<(), OpenError> {
        let _ = fault;
        Err(format!(
            "the harness declares several servers, but its `FaultControl` does not override \
             `inject_into` (server {server})"
        )
        .into())
    }

    /// Returns the number of round trips since the servers were started, if it can be counted;
    /// requests that are sent together are one round trip. The default is `None`. It is needed for
    /// the rule about
    /// [`Capabilities::batched_reads`](crate::Capabilities::batched_reads).
    fn round_trips(&mut self) -> Option<u64> {
        None
    }

    /// Returns the number of bytes in all responses, if it can be counted. The default is `None`.
    /// It is needed for the rule about
    /// [`Capabilities::distinct_reads`](crate::Capabilities::distinct_reads).
    fn bytes_answered(&mut self) -> Option<u64> {
        None
    }

    /// Returns the number of open connections to the servers, if it can be counted. The default is
    /// `None`. It is needed for the rule about
    /// [`Capabilities::no_connections_left`](crate::Capabilities::no_connections_left).
    fn connections(&mut self) -> Option<u64> {
        None
    }
}

/// A backend with control of the faults of its servers, from
/// [`Harness::open_faulty`](crate::Harness::open_faulty).
///
/// ```
/// use std::net::SocketAddr;
/// use cache_conformance::{Faulty, OpenError, Proxy};
/// # struct MyBackend;
/// # impl MyBackend { fn connect(_: SocketAddr) -> Self { Self } }
///
/// /// The backend behind a proxy that can fail.
/// fn faulty(server: SocketAddr) -> Result<Faulty<MyBackend>, OpenError> {
///     let proxy = Proxy::start(server)?;
///     Ok(Faulty::new(MyBackend::connect(proxy.address()), proxy))
/// }
/// ```
pub struct Faulty<B> {
    pub(crate) backend: B,
    pub(crate) control: Box<dyn FaultControl>,
}

impl<B> Faulty<B> {
    /// Combines a backend with the control of its servers. See
    /// [`Harness::open_faulty`](crate::Harness::open_faulty).
    pub fn new(backend: B, control: impl FaultControl) -> Self {
        Self {
            backend,
            control: Box::new(control),
        }
    }
}

impl<B> fmt::Debug for Faulty<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faulty").finish_non_exhaustive()
    }
}
