//! The tokio runtime that a call is made in.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

use cache_core::{Error, ErrorKind, Result};
use tokio::net::UdpSocket;
use tokio::runtime::{Handle, Id};

use crate::NAME;
use crate::endpoint::lock;

/// The runtimes that were found to have what calls take, the last of them.
#[derive(Default)]
pub(crate) struct Runtimes(Mutex<VecDeque<Id>>);

/// More than a process uses at a time, since one runtime a core is usual at most.
const REMEMBERED: usize = 256;

impl Runtimes {
    /// An error unless calls can be made here: in a runtime that has I/O and time.
    pub(crate) async fn check(&self) -> Result<()> {
        let refuse = |message| Error::new(ErrorKind::Backend, NAME, message);
        let runtime = Handle::try_current().map_err(|error| {
            let message = "a call was made outside of a tokio runtime; make it in one, for \
                           example below #[tokio::main] or in Runtime::block_on";
            refuse(message).with_source(error)
        })?;
        if lock(&self.0).contains(&runtime.id()) {
            return Ok(());
        }
        // tokio says that a runtime lacks one by a panic, and not otherwise: so a task of its own
        // is made to use both.
        let tried = runtime.spawn(async {
            drop(tokio::time::sleep(Duration::ZERO));
            let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            drop(UdpSocket::bind(any_port).await);
        });
        match tried.await {
            Err(error) if error.is_panic() => {
                let message = "the tokio runtime lacks I/O or time; build it with \
                               Builder::enable_all()";
                Err(refuse(message).with_source(error))
            }
            // Whether a socket was to be had is not the question.
            _ => {
                let mut known = lock(&self.0);
                known.push_front(runtime.id());
                known.truncate(REMEMBERED);
                Ok(())
            }
        }
    }
}
