//! [`Faults`], how a rule makes servers fail.

use std::sync::{Arc, Mutex, PoisonError};

use super::{Fault, FaultControl};
use crate::OpenError;
use crate::cache::Outcome;
use crate::failure::{Trace, fail};

/// The faults of the servers of one backend.
#[derive(Clone)]
pub(crate) struct Faults {
    control: Arc<Mutex<Box<dyn FaultControl>>>,
    trace: Trace,
}

impl Faults {
    pub(crate) fn new(control: Box<dyn FaultControl>, trace: Trace) -> Self {
        Self {
            control: Arc::new(Mutex::new(control)),
            trace,
        }
    }

    pub(crate) async fn inject(&self, fault: Fault) -> Outcome {
        self.change(format!("inject {fault} into all servers"), move |control| {
            control.inject(fault)
        })
        .await
    }

    /// Makes one of the servers fail, by number.
    pub(crate) async fn inject_into(&self, server: usize, fault: Fault) -> Outcome {
        self.change(
            format!("inject {fault} into server {server}"),
            move |control| control.inject_into(server, fault),
        )
        .await
    }

    pub(crate) async fn heal(&self) -> Outcome {
        self.change("heal the servers".to_owned(), FaultControl::heal)
            .await
    }

    /// The number of round trips to the servers.
    pub(crate) async fn round_trips(&self) -> Outcome<u64> {
        let count = |control: &mut dyn FaultControl| control.round_trips();
        self.count("round_trips", count).await
    }

    /// The number of bytes in the responses of the servers.
    pub(crate) async fn bytes_answered(&self) -> Outcome<u64> {
        let count = |control: &mut dyn FaultControl| control.bytes_answered();
        self.count("bytes_answered", count).await
    }

    /// The number of open connections to the servers.
    pub(crate) async fn connections(&self) -> Outcome<u64> {
        let count = |control: &mut dyn FaultControl| control.connections();
        self.count("connections", count).await
    }

    async fn count(
        &self,
        method: &str,
        count: fn(&mut dyn FaultControl) -> Option<u64>,
    ) -> Outcome<u64> {
        let control = Arc::clone(&self.control);
        let counted = tokio::task::spawn_blocking(move || {
            let mut control = control.lock().unwrap_or_else(PoisonError::into_inner);
            count(control.as_mut())
        });
        match counted.await {
            Ok(Some(count)) => Ok(count),
            _ => fail!(
                "the harness cannot count; override `FaultControl::{method}`, or use `Proxy`, \
                 which implements it"
            ),
        }
    }

    async fn change(
        &self,
        what: String,
        change: impl FnOnce(&mut dyn FaultControl) -> Result<(), OpenError> + Send + 'static,
    ) -> Outcome {
        let control = Arc::clone(&self.control);
        let changed = tokio::task::spawn_blocking(move || {
            let mut control = control.lock().unwrap_or_else(PoisonError::into_inner);
            change(control.as_mut())
        });
        let changed = changed.await;
        self.trace.note(&what);
        match changed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => fail!("the harness failed ({what}): {error}"),
            Err(_) => fail!("the harness panicked ({what})"),
        }
    }
}
