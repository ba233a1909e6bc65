//! The caller's Tokio runtime, and whether it has the drivers that connections need.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use tokio::runtime::Handle;

use crate::NAME;

/// The runtime of the caller.
pub(super) fn current() -> Result<Handle> {
    Handle::try_current().map_err(|error| {
        let message = "the call was made outside a Tokio runtime; make it inside one, for \
                       example under #[tokio::main] or in Runtime::block_on";
        Error::new(ErrorKind::Backend, NAME, message).with_source(error)
    })
}

/// Refuses a runtime that was built without time or, if that is needed, without I/O. Called once
/// per runtime, within it.
///
/// Tokio reports this only by a panic, which is caught here, before it could end a task. The panic
/// hook still prints it, and with `panic = "abort"` the process aborts.
pub(super) fn check(needs_io: bool) -> Result<()> {
    let touch = || {
        drop(tokio::time::sleep(Duration::ZERO));
        if needs_io {
            touch_io();
        }
    };
    catch_unwind(AssertUnwindSafe(touch)).map_err(|_| {
        let message = "the Tokio runtime has no I/O or timer driver; build it with \
                       Builder::enable_all()";
        Error::new(ErrorKind::Backend, NAME, message)
    })
}

#[cfg(unix)]
fn touch_io() {
    drop(tokio::net::UnixDatagram::unbound());
}

#[cfg(not(unix))]
fn touch_io() {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0));
    let socket = socket.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    if let Ok(socket) = socket {
        drop(tokio::net::UdpSocket::from_std(socket));
    }
}
