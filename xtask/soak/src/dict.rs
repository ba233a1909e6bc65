//! cache-dict: no servers, but a clock that can be stepped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use cache_core::{CachedValue, DynBackend};
use cache_dict::DictBackend;
use fastrand::Rng;

use crate::faults::FaultLog;
use crate::nemesis::Victim;
use crate::run::Target;
use crate::store::{Opened, Order, Promises, Space, Store};
use crate::time::{Expiry, SteppedClock};

const DEFAULT_TTL: Duration = Duration::from_secs(30);

/// The space whose backend may hold fewer entries than are written.
const EVICTING: u32 = 2;
const MOST_ENTRIES: usize = 300;

struct Dict {
    stepped: SteppedClock,
    on_stepped: DictBackend<Vec<u8>>,
}

fn opened(backend: DictBackend<Vec<u8>>) -> Opened {
    Opened {
        backend: DynBackend::new(backend),
        busy: Box::new(Vec::new),
    }
}

impl Store for Dict {
    fn promises(&self) -> Promises {
        Promises {
            order: Order::Always,
            evicting: Some(EVICTING),
            bound: Duration::from_secs(1),
            slow: Duration::from_millis(500),
            settle: Duration::ZERO,
            default_ttl: DEFAULT_TTL,
            max_value: 256 * 1024,
            why: &[
                "atomic per key, whatever the clock does",
                "a value is there until its deadline, but where the number of entries is bounded",
                "nothing is served at or after its deadline by the clock of the cache, stepped or not",
                "a call waits for nothing but locks: 1 s is for a machine that is busy",
            ],
        }
    }

    fn spaces(&self) -> Result<Vec<Space>> {
        // The time left of a value is judged to the microsecond, and other crates may turn on a
        // clock that is coarser.
        let by_system = DictBackend::builder()
            .coarse_clock(false)
            .expiration_time(DEFAULT_TTL)
            .build()?;
        let bounded = DictBackend::builder()
            .coarse_clock(false)
            .expiration_time(DEFAULT_TTL)
            .max_entries(MOST_ENTRIES)
            .build()?;
        // Handles of one backend, as tasks of a service have them.
        let space = |expiry, backend: &DictBackend<Vec<u8>>| {
            Space::new(expiry, (0..3).map(|_| opened(backend.clone())).collect())
        };
        Ok(vec![
            space(Expiry::Run, &by_system),
            space(Expiry::Stepped(self.stepped.clone()), &self.on_stepped),
            space(Expiry::Run, &bounded),
        ])
    }
}

pub(crate) fn target() -> Result<Target> {
    let stepped = SteppedClock::default();
    stepped.forward(Duration::from_secs(1_000));
    let on_stepped = DictBackend::builder()
        .expiration_time(DEFAULT_TTL)
        .clock(stepped.shown.clone())
        .build()?;
    let clock = Clock::start(stepped.clone());
    Ok(Target {
        store: Arc::new(Dict {
            stepped: stepped.clone(),
            on_stepped: on_stepped.clone(),
        }),
        victim: Box::new(ClockVictim {
            stepped,
            on_stepped,
            clock,
        }),
        rate: 1500.0,
        clients: 64,
    })
}

/// Lets the stepped clock go with the real time.
struct Clock {
    stop: Arc<AtomicBool>,
    /// Held while the clock is moved.
    moving: Arc<Mutex<()>>,
}

impl Clock {
    fn start(stepped: SteppedClock) -> Self {
        let clock = Self {
            stop: Arc::default(),
            moving: Arc::default(),
        };
        let (stop, moving) = (Arc::clone(&clock.stop), Arc::clone(&clock.moving));
        thread::spawn(move || {
            let mut last = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(1));
                let now = Instant::now();
                if let Ok(_moving) = moving.lock() {
                    stepped.forward(now - last);
                }
                last = now;
            }
        });
        clock
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct ClockVictim {
    stepped: SteppedClock,
    on_stepped: DictBackend<Vec<u8>>,
    clock: Clock,
}

const FORWARD: &str = "clock stepped forward";
const BACK: &str = "clock stepped back";

impl Victim for ClockVictim {
    fn kinds(&self) -> Vec<&'static str> {
        vec![FORWARD, BACK]
    }

    fn inflict(&mut self, kind: &'static str, rng: &mut Rng, faults: &FaultLog) -> Result<()> {
        let by = Duration::from_millis(rng.u64(100..20_000));
        faults.begin(kind, &format!("by {by:?}"));
        if let Ok(_moving) = self.clock.moving.lock() {
            if kind == FORWARD {
                self.stepped.forward(by);
            } else {
                // The backend sees the clock, so that both know the latest time it showed.
                let probe = CachedValue::new(Vec::new()).with_ttl(Duration::from_secs(1));
                self.on_stepped.set_sync("probe", probe);
                self.stepped.back(by);
            }
        }
        Ok(())
    }

    fn figures(&mut self) -> Vec<(String, String)> {
        let stats = self.on_stepped.stats();
        vec![(
            "stepped cache".to_owned(),
            format!("{} entries, {} expired", stats.entries, stats.expired),
        )]
    }
}
