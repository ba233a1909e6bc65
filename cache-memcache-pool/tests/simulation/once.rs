//! Commands that are not idempotent: with any fault each is executed at most once, and its outcome
//! shows whether it may have been executed.

use std::time::Duration;

use cache_core::ErrorKind;
use cache_memcache_pool::{MemcachePoolBackend, MetaRequest, MetaStatus};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::history::Plan;
use crate::rng::Rng;
use crate::server::Farm;

const TASKS: u64 = 12;
const CALLS: u64 = 40;

/// The outcomes of the calls in one history.
#[derive(Debug, Default)]
struct Outcomes {
    done: u64,
    /// Errors after which the command may have been executed, and how many of these had been.
    unknown: u64,
    counted: u64,
    /// Errors after which it has not been executed.
    failed: u64,
    failovers: u64,
}

async fn history(plan: Plan, outcomes: &mut Outcomes) {
    let mut rng = Rng::new(plan.seed);
    let start = Instant::now();
    let farm = Farm::start(plan.links(start, &mut rng), &plan.faults, start, &mut rng);
    let net = farm.clone();
    let backend = MemcachePoolBackend::builder()
        .url(farm.urls())
        .pool_maxsize(plan.pool_maxsize)
        .socket_timeout(Duration::from_millis(500))
        .dead_retry(Duration::from_secs(2))
        .jitter_seed(plan.seed)
        .connect_with(move |address| net.clone().connect(address.to_owned()))
        .build()
        .unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let (backend, mut rng) = (backend.clone(), rng.fork());
        tasks.spawn(async move {
            let mut results = Vec::new();
            for call in 0..CALLS {
                let key = format!("{task}-{call}");
                let result = backend.meta(MetaRequest::arithmetic(&*key)).await;
                results.push((key, result));
                sleep(Duration::from_millis(rng.below(200))).await;
            }
            results
        });
    }
    let results = tasks.join_all().await.into_iter().flatten();
    // Everything in transit has arrived by then.
    sleep(Duration::from_secs(60)).await;
    for (key, result) in results {
        let counted: u64 = farm.0.iter().map(|server| server.counted(&key)).sum();
        let seed = plan.seed;
        match result {
            Ok(response) => {
                assert_eq!(response.status(), MetaStatus::Done, "seed {seed}");
                assert_eq!(counted, 1, "seed {seed}: {key}");
                outcomes.done += 1;
            }
            Err(error) => match error.kind() {
                ErrorKind::Timeout | ErrorKind::Protocol => {
                    assert!(
                        counted <= 1,
                        "seed {seed}: {key} counted {counted}: {error}"
                    );
                    outcomes.unknown += 1;
                    outcomes.counted += counted;
                }
                _ => {
                    assert_eq!(counted, 0, "seed {seed}: {key}: {error}");
                    outcomes.failed += 1;
                }
            },
        }
    }
    let servers = backend.stats().servers;
    outcomes.failovers += servers.iter().map(|server| server.failovers).sum::<u64>();
}

#[test]
fn non_idempotent_commands_are_executed_at_most_once() {
    let mut outcomes = Outcomes::default();
    for seed in 1..=60 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(history(Plan::new(seed), &mut outcomes));
    }
    // All kinds of outcomes occurred.
    assert!(outcomes.done > 60 * TASKS * CALLS / 2, "{outcomes:?}");
    assert!(outcomes.counted > 0, "{outcomes:?}");
    assert!(outcomes.unknown > outcomes.counted, "{outcomes:?}");
    assert!(outcomes.failovers > 0, "{outcomes:?}");
    assert!(outcomes.failed > 0, "{outcomes:?}");
}
