//! [`Sending`]: sends a request for one key, with failover.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use cache_core::Result;
use tokio::time::sleep;

use super::{Call, Cluster, Farm};
use crate::connection::{Exchange, Queued, Unanswered};
use crate::protocol::{Expected, Outgoing, Reply, Response};

/// A request for one key, with failover.
///
/// This future has only what a first attempt needs, so that a thousand of them fit in the CPU cache.
/// Whatever is unusual goes into a box.
pub(crate) struct Sending<'a, F> {
    cluster: &'a Cluster,
    key: &'a str,
    exchange: &'a Exchange<F>,
    is_once: bool,
    state: State<'a>,
}

enum State<'a> {
    Begun,
    First(First),
    Again(Again<'a>),
    Answered { farm: Arc<Farm>, index: usize },
}

type Again<'a> = Pin<Box<dyn Future<Output = Result<(Arc<Farm>, usize, Response)>> + Send + 'a>>;

impl<'a, F> Sending<'a, F>
where
    F: Fn(&mut Outgoing) -> Result<Expected> + Sync,
{
    /// `is_once`: see [`Call::once`].
    pub(crate) fn new(
        cluster: &'a Cluster,
        key: &'a str,
        exchange: &'a Exchange<F>,
        is_once: bool,
    ) -> Self {
        Self {
            cluster,
            key,
            exchange,
            is_once,
            state: State::Begun,
        }
    }

    /// Adds the name of the server to a refusal.
    #[inline]
    pub(crate) fn name_refuser(&self, reply: &mut Reply) {
        if let Reply::Failed(_) = reply
            && let Some((farm, index)) = self.answered_by()
            && let Some(server) = farm.server(index)
        {
            server.name_refuser(reply);
        }
    }

    /// The server that responded, by its index.
    pub(crate) fn answered_by(&self) -> Option<(&Farm, usize)> {
        match &self.state {
            State::First(First { farm, index, .. }) | State::Answered { farm, index } => {
                Some((farm, *index))
            }
            State::Begun | State::Again(_) => None,
        }
    }
}

impl<F> Future for Sending<'_, F>
where
    F: Fn(&mut Outgoing) -> Result<Expected> + Sync,
{
    type Output = Result<Response>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Response>> {
        let this = &mut *self;
        loop {
            let failed = match &mut this.state {
                // The request is queued in the first poll, along with the waker.
                State::Begun => {
                    match First::queue(this.cluster, this.key, this.exchange, cx.waker()) {
                        Some(first) => {
                            this.state = State::First(first);
                            return Poll::Pending;
                        }
                        None => None,
                    }
                }
                State::First(first) => match ready!(Pin::new(&mut first.queued.waiter).poll(cx)) {
                    Ok(response) => return Poll::Ready(Ok(response)),
                    Err(unanswered) => Some(unanswered),
                },
                State::Again(again) => {
                    let (farm, index, response) = ready!(again.as_mut().poll(cx))?;
                    this.state = State::Answered { farm, index };
                    return Poll::Ready(Ok(response));
                }
                State::Answered { .. } => return Poll::Pending,
            };
            let first = match std::mem::replace(&mut this.state, State::Begun) {
                State::First(first) => Some(first),
                _ => None,
            };
            let (cluster, key, exchange) = (this.cluster, this.key, this.exchange);
            let again = send_again(cluster, key, exchange, this.is_once, first.zip(failed));
            this.state = State::Again(Box::pin(again));
        }
    }
}

/// A first attempt.
struct First {
    queued: Queued,
    farm: Arc<Farm>,
    index: usize,
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
            queued,
            farm,
            index,
        })
    }
}

/// Sends a request after a first attempt that `failed`, if there was one.
async fn send_again<F>(
    cluster: &Cluster,
    key: &str,
    exchange: &Exchange<F>,
    is_once: bool,
    failed: Option<(First, Unanswered)>,
) -> Result<(Arc<Farm>, usize, Response)>
where
    F: Fn(&mut Outgoing) -> Result<Expected> + Sync,
{
    let (farm, failed) = match failed {
        None => (cluster.farm(), None),
        Some((first, unanswered)) => {
            let begun = first.queued.begun;
            (first.farm, Some((first.index, begun, unanswered)))
        }
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
            return Ok((farm, index, response));
        }
    }
}
