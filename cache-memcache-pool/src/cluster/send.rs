//! [`send`]: sends a request for one key, with failover.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, Waker};

use cache_core::Result;
use tokio::time::{Instant, sleep};

use super::{Call, Cluster, Farm};
use crate::connection::{Exchange, Unanswered, Waiter};
use crate::protocol::{Expected, Outgoing, Response};

/// A response, and the server that it came from.
pub(crate) struct Answer {
    pub(crate) farm: Arc<Farm>,
    pub(crate) index: usize,
    pub(crate) response: Response,
}

/// Sends a request for `key`, with failover. `is_once`: see [`Call::once`].
///
/// The future has only what a first attempt needs, so that a thousand of them fit in the CPU cache.
/// Whatever is unusual goes into a box.
pub(crate) async fn send<F>(
    cluster: &Cluster,
    key: &str,
    exchange: &Exchange<F>,
    is_once: bool,
) -> Result<Answer>
where
    F: Fn(&mut Outgoing) -> Result<Expected>,
{
    let mut first: Option<First> = None;
    let outcome = poll_fn(|cx| match &mut first {
        // The request is queued in the first poll, along with the waker.
        None => match First::queue(cluster, key, exchange, cx.waker()) {
            Some(queued) => {
                first = Some(queued);
                Poll::Pending
            }
            None => Poll::Ready(None),
        },
        Some(first) => Pin::new(&mut first.waiter).poll(cx).map(Some),
    });
    let failed = match (outcome.await, first) {
        (Some(Ok(response)), Some(First { farm, index, .. })) => {
            return Ok(Answer {
                farm,
                index,
                response,
            });
        }
        (Some(Err(unanswered)), Some(first)) => Some((first, unanswered)),
        _ => None,
    };
    Box::pin(send_again(cluster, key, exchange, is_once, failed)).await
}

/// A first attempt.
struct First {
    farm: Arc<Farm>,
    index: usize,
    begun: Instant,
    waiter: Waiter,
}

impl First {
    /// Queues a request to the home of `key`, if it is up and there is room.
    #[inline]
    fn queue<F>(cluster: &Cluster, key: &str, exchange: &Exchange<F>, waker: &Waker) -> Option<Self>
    where
        F: Fn(&mut Outgoing) -> Result<Expected>,
    {
        let farm = cluster.farm();
        let index = farm.router.pick(key, &|_| true)?;
        let home = farm.server(index).filter(|home| home.is_up())?;
        let queued = home.try_submit(exchange, None, Some(waker), None).ok()??;
        Some(Self {
            farm,
            index,
            begun: queued.begun,
            waiter: queued.waiter,
        })
    }
}

/// The same after a first attempt that `failed`, if there was one.
async fn send_again<F>(
    cluster: &Cluster,
    key: &str,
    exchange: &Exchange<F>,
    is_once: bool,
    failed: Option<(First, Unanswered)>,
) -> Result<Answer>
where
    F: Fn(&mut Outgoing) -> Result<Expected>,
{
    let (farm, failed) = match failed {
        None => (cluster.farm(), None),
        Some((first, unanswered)) => (first.farm, Some((first.index, first.begun, unanswered))),
    };
    let mut call = Call::new(cluster, &farm);
    if is_once {
        call = call.once();
    }
    let mut from = None;
    if let Some((index, begun, unanswered)) = failed {
        call.first_failed(index, begun, unanswered)?;
        from = Some(index);
    }
    loop {
        let pause = call.begin_round()?;
        if !pause.is_zero() {
            sleep(pause).await;
        }
        let Some(index) = call.choose(key) else {
            if call.probed().await {
                continue;
            }
            return Err(call.nobody());
        };
        if let Some(from) = from.replace(index).filter(|&from| from != index) {
            call.failed_over(from, 1);
        }
        let Some(server) = farm.server(index) else {
            return Err(call.nobody());
        };
        if let Some(response) = call.exchange(server, exchange).await? {
            drop(call);
            return Ok(Answer {
                farm,
                index,
                response,
            });
        }
    }
}
