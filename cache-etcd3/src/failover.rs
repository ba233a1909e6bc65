//! Which endpoint a request goes to, and how often.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::endpoint::{Connected, Endpoint, Permit, lock};
use crate::failure::{Failure, Next};
use crate::settings::Settings;
use crate::stats::Counters;

/// The endpoints, used in turn; those that fail are left alone for a while.
pub(crate) struct Failover {
    endpoints: Vec<Endpoint>,
    next: AtomicUsize,
    /// An endpoint that failed for so long needs no patience any more.
    call_timeout: Duration,
    /// How long one endpoint may take before another is asked.
    attempt_timeout: Duration,
}

/// How often a call authenticates anew. A token may expire under it, and the users may change.
const MAX_AUTHENTICATIONS: u32 = 3;

/// One of several endpoints may take a quarter of the call's time, within these limits.
const SHORTEST_ATTEMPT: Duration = Duration::from_millis(500);
const LONGEST_ATTEMPT: Duration = Duration::from_secs(2);

/// The pause before a request is repeated when all endpoints failed; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl Failover {
    pub(crate) fn new(settings: &Settings) -> Self {
        let endpoint = |url: &String| {
            Endpoint::new(
                url.clone(),
                settings.connect.clone(),
                settings.credentials.clone(),
            )
        };
        let endpoints: Vec<Endpoint> = settings.endpoints.iter().map(endpoint).collect();
        let attempt_timeout = if endpoints.len() == 1 {
            // There is nobody else to ask.
            settings.call_timeout.max(SHORTEST_ATTEMPT)
        } else {
            (settings.call_timeout / 4).clamp(SHORTEST_ATTEMPT, LONGEST_ATTEMPT)
        };
        Self {
            endpoints,
            next: AtomicUsize::new(0),
            call_timeout: settings.call_timeout,
            attempt_timeout,
        }
    }

    pub(crate) fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Sends a request until it is answered, fails for good, or `deadline` has come. It has to
    /// be one that may be applied twice.
    ///
    /// The failure names the endpoints that were asked.
    pub(crate) async fn call<T, F>(
        &self,
        deadline: Instant,
        counters: &Counters,
        mut request: impl FnMut(Arc<Connected>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut authentications = 0;
        let mut pause = FIRST_PAUSE;
        let mut asked: Option<&Endpoint> = None;
        loop {
            let permit = self.choose(asked)?;
            let endpoint = permit.endpoint;
            if let Some(previous) = asked {
                counters.retries.add(1);
                if !std::ptr::eq(previous, endpoint) {
                    counters.failovers.add(1);
                }
            }
            asked = Some(endpoint);
            let failure = match self.attempt(permit, deadline, &mut request).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match failure.next {
                Next::Nothing(_) | Next::Split | Next::NewLease => {
                    return Err(at(endpoint, &failure));
                }
                Next::Authenticate => {
                    authentications += 1;
                    if authentications == MAX_AUTHENTICATIONS {
                        return Err(at(endpoint, &failure));
                    }
                }
                Next::Repeat | Next::NoLeader | Next::Unreachable | Next::Broken | Next::Silent => {
                }
            }
            // While another endpoint is fit, nobody waits for it.
            let waits = failure.next == Next::Repeat || self.all_quarantined();
            let pause_end = Instant::now() + if waits { pause } else { Duration::ZERO };
            if pause_end >= deadline {
                counters.timeouts.add(1);
                return Err(self.out_of_time(&at(endpoint, &failure)));
            }
            if waits && !self.all_unreachable() {
                tokio::time::sleep_until(pause_end.into()).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// One request to one endpoint.
    async fn attempt<T, F>(
        &self,
        permit: Permit<'_>,
        deadline: Instant,
        request: &mut impl FnMut(Arc<Connected>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let sent = Instant::now();
        // Known outside of the future, which is gone when it ran out of time.
        let used: Mutex<Option<Arc<Connected>>> = Mutex::new(None);
        let attempt = async {
            let client = permit.endpoint.client().await?;
            *lock(&used) = Some(Arc::clone(&client));
            request(client).await.map_err(|error| Failure::of(&error))
        };
        let limit = deadline.min(sent + permit.limit(self.attempt_timeout));
        let outcome = tokio::time::timeout_at(limit.into(), attempt).await;
        let outcome = outcome.unwrap_or_else(|_| {
            let waited = limit.saturating_duration_since(sent);
            // A call that had little time left says nothing about the endpoint.
            let next = if waited < self.attempt_timeout / 2 {
                Next::Repeat
            } else {
                Next::Silent
            };
            Err(Failure::new(next, format!("no answer within {waited:.1?}")))
        });
        match outcome {
            Ok(answer) => {
                permit.answered();
                Ok(answer)
            }
            Err(failure) => {
                let used = lock(&used).take();
                let failure = permit.endpoint.judge(failure, used.as_deref());
                permit.failed(sent, used.as_deref(), &failure, self.call_timeout);
                Err(failure)
            }
        }
    }

    /// The next endpoint that is fit, or due for a probe; another than `asked` if there is one.
    /// When none is, any, unless there is no hope.
    fn choose(&self, asked: Option<&Endpoint>) -> Result<Permit<'_>, Failure> {
        let now = Instant::now();
        let start = self.next.fetch_add(1, Ordering::Relaxed) % self.endpoints.len().max(1);
        let (before, from) = self.endpoints.split_at_checked(start).unwrap_or_default();
        let in_turn = || from.iter().chain(before);
        let is_asked = |endpoint: &Endpoint| {
            asked.is_some_and(|asked| std::ptr::eq(asked, endpoint)) && self.endpoints.len() > 1
        };
        let others = in_turn().filter(|endpoint| !is_asked(endpoint));
        let again = in_turn().filter(|endpoint| is_asked(endpoint));
        if let Some(permit) = others
            .chain(again)
            .find_map(|endpoint| endpoint.permit(now))
        {
            return Ok(permit);
        }
        if self.all_unreachable() || self.failing_for(now) >= self.call_timeout {
            return Err(self.all_down(now));
        }
        // The first of the others again: each may have been late because of one.
        let endpoint = in_turn().find(|endpoint| !is_asked(endpoint));
        match endpoint {
            Some(endpoint) => Ok(endpoint.permit_anyway()),
            None => Err(self.all_down(now)),
        }
    }

    fn all_quarantined(&self) -> bool {
        self.endpoints
            .iter()
            .all(|endpoint| endpoint.quarantine().is_some())
    }

    fn all_unreachable(&self) -> bool {
        self.endpoints.iter().all(|endpoint| {
            let quarantine = endpoint.quarantine();
            quarantine.is_some_and(|quarantine| quarantine.failure.next == Next::Unreachable)
        })
    }

    /// How long no endpoint has answered.
    fn failing_for(&self, now: Instant) -> Duration {
        let failing = self.endpoints.iter().map(|endpoint| {
            let quarantine = endpoint.quarantine();
            quarantine.map_or(Duration::ZERO, |quarantine| now - quarantine.since)
        });
        failing.min().unwrap_or_default()
    }

    /// Names each endpoint, what is wrong with it, and when it is asked again.
    fn all_down(&self, now: Instant) -> Failure {
        let mut words = Vec::new();
        let mut next = Next::Unreachable;
        for endpoint in &self.endpoints {
            if let Some(quarantine) = endpoint.quarantine() {
                let again = quarantine.until.saturating_duration_since(now);
                words.push(format!(
                    "{}: {} (asked again in {again:.1?})",
                    endpoint.url, quarantine.failure.message
                ));
                next = quarantine.failure.next;
            }
        }
        Failure::new(
            next,
            format!("no etcd endpoint can be used: {}", words.join("; ")),
        )
    }

    fn out_of_time(&self, last: &Failure) -> Failure {
        let message = format!(
            "no success within {:.1?} (`call_timeout`); the last attempt: {}",
            self.call_timeout, last.message
        );
        Failure::new(last.next, message)
    }
}

/// Says which endpoint failed.
fn at(endpoint: &Endpoint, failure: &Failure) -> Failure {
    Failure::new(
        failure.next,
        format!("{}: {}", endpoint.url, failure.message),
    )
}
