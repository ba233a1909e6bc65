//! Faults of servers, and who brings them about.

mod control;
mod proxy;

use std::fmt;

use serde::Serialize;

use crate::OpenError;

pub(crate) use control::Faults;
pub use proxy::Proxy;

/// What can be wrong with a server.
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
    /// Connections are accepted and stay open, and no answer comes: a server that was stopped,
    /// or a network that loses everything. What was sent may be answered once it is over.
    Silent,
    /// Every answer is random bytes.
    Garbage,
    /// Connections are closed in the middle of the first answer.
    Cut,
}

impl Fault {
    /// All of them, which [`Proxy`] can bring about.
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

/// Brings faults about in the servers of one backend. The methods may block.
///
/// [`Proxy`] does it for whatever speaks TCP; a harness that kills and stops real processes
/// implements it itself.
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
///             other => Err(format!("cannot bring about {other}").into()),
///         }
///     }
///     fn heal(&mut self) -> Result<(), OpenError> {
///         // Start it again.
///         Ok(())
///     }
/// }
/// ```
pub trait FaultControl: Send + 'static {
    /// Brings the fault about, and returns once it is in effect.
    fn inject(&mut self, fault: Fault) -> Result<(), OpenError>;

    /// Ends all faults, and returns once the servers answer again.
    fn heal(&mut self) -> Result<(), OpenError>;

    /// Brings the fault about in one of several servers, by number, and leaves the others as
    /// they are. By default an error; needed where
    /// [`Capabilities::servers`](crate::Capabilities::servers) is more than 1.
    fn inject_into(&mut self, server: usize, fault: Fault) -> Result<(), OpenError> {
        let _ = fault;
        Err(format!(
            "the harness declares several servers, but its `FaultControl` does not override \
             `inject_into` (server {server})"
        )
        .into())
    }

    /// How often the servers were asked something and have answered since they were started,
    /// where that can be counted; what goes out in one piece is asked once. By default `None`;
    /// needed for the rule about
    /// [`Capabilities::batched_reads`](crate::Capabilities::batched_reads).
    fn round_trips(&mut self) -> Option<u64> {
        None
    }

    /// How many bytes the servers have answered, where that can be counted. By default `None`;
    /// needed for the rule about
    /// [`Capabilities::distinct_reads`](crate::Capabilities::distinct_reads).
    fn bytes_answered(&mut self) -> Option<u64> {
        None
    }

    /// How many connections to the servers are open, where that can be counted. By default
    /// `None`; needed for the rule about
    /// [`Capabilities::no_connections_left`](crate::Capabilities::no_connections_left).
    fn connections(&mut self) -> Option<u64> {
        None
    }
}

/// One in front of each server; they fail together or [one by one](FaultControl::inject_into).
impl FaultControl for Vec<Proxy> {
    fn inject(&mut self, fault: Fault) -> Result<(), OpenError> {
        self.iter_mut().try_for_each(|proxy| proxy.inject(fault))
    }

    fn heal(&mut self) -> Result<(), OpenError> {
        self.iter_mut().try_for_each(FaultControl::heal)
    }

    fn inject_into(&mut self, server: usize, fault: Fault) -> Result<(), OpenError> {
        match self.get_mut(server) {
            Some(proxy) => proxy.inject(fault),
            None => Err(format!("server {server} does not exist").into()),
        }
    }

    fn round_trips(&mut self) -> Option<u64> {
        self.iter_mut().map(FaultControl::round_trips).sum()
    }

    fn bytes_answered(&mut self) -> Option<u64> {
        self.iter_mut().map(FaultControl::bytes_answered).sum()
    }

    fn connections(&mut self) -> Option<u64> {
        self.iter_mut().map(FaultControl::connections).sum()
    }
}

/// A backend whose servers can be made to fail, from
/// [`Harness::open_faulty`](crate::Harness::open_faulty).
///
/// ```
/// use std::net::SocketAddr;
/// use cache_conformance::{Faulty, OpenError, Proxy};
/// # struct MyBackend;
/// # impl MyBackend { fn connect(_: SocketAddr) -> Self { Self } }
///
/// /// The backend behind a proxy that loses, garbles and cuts what goes through it.
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
    /// A backend, and the faults of its servers. See
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
