//! [`Client`], which makes calls and has it taken down what came of them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, UNIX_EPOCH};

use cache_core::{CacheBackend, CachedValue, DynBackend, Error, ErrorKind, Ttl};

use crate::book::{Call, End};
use crate::judge::{Event, What};
use crate::load::Load;
use crate::payload::{self, Key, Note};
use crate::store::Opened;
use crate::time::{Expiry, SECOND, Stamp, nanos};

/// How many keys a round has for each client that writes them.
const KEYS_OF_A_CLIENT: u32 = 8;

/// How many keys a multi operation has at most.
const MOST_KEYS: usize = 24;

/// How many calls are dropped before they end.
const DROPPED: f64 = 0.03;

/// A task that does what a service does.
pub(crate) struct Client {
    load: Arc<Load>,
    rng: fastrand::Rng,
    number: u32,
}

/// Where a call goes.
struct Place {
    space: u32,
    expiry: Expiry,
    backend: DynBackend<Vec<u8>>,
    /// Keeps the instance alive as long as the call lasts.
    _instance: Arc<Opened>,
}

/// A call that came to its end, one way or another.
struct Called<T> {
    start: Stamp,
    end: Stamp,
    /// What it answered, or why it did not.
    result: Result<T, End>,
}

impl Client {
    pub(crate) fn new(load: Arc<Load>, number: u32) -> Self {
        let seed = load
            .seed
            .wrapping_mul(1_000_003)
            .wrapping_add(number.into());
        Self {
            rng: fastrand::Rng::with_seed(seed),
            load,
            number,
        }
    }

    pub(crate) async fn run(mut self) {
        while !self.load.stop.load(Ordering::Relaxed) {
            self.pause().await;
            let Some(place) = self.place() else { return };
            let many = 2 + self.rng.usize(..MOST_KEYS);
            match self.rng.u32(..100) {
                0..48 => self.read(&place, 1).await,
                48..69 => self.write(&place, 1).await,
                69..73 => self.delete(&place, 1).await,
                73..88 => self.read(&place, many).await,
                88..94 => self.write(&place, many).await,
                94..96 => self.delete(&place, many).await,
                _ => self.revisit(&place).await,
            }
        }
    }

    /// Calls come at random, and now and then all at once.
    async fn pause(&mut self) {
        let mean = f64::from(self.load.clients) / self.load.rate.max(0.1);
        let seconds = (-(1.0 - self.rng.f64()).ln() * mean).min(5.0);
        let mut pause = Duration::from_secs_f64(seconds);
        if self.rng.f64() < 0.3 {
            const BEAT: Duration = Duration::from_millis(50);
            let then = self.load.time.now() + nanos(pause);
            pause += Duration::from_nanos(nanos(BEAT) - then % nanos(BEAT));
        }
        tokio::time::sleep(pause).await;
    }

    fn place(&mut self) -> Option<Place> {
        let number = self.rng.usize(..self.load.spaces.len());
        let space = self.load.spaces.get(number)?;
        let instance = space.instance(self.rng.usize(..space.instances.len()))?;
        Some(Place {
            space: u32::try_from(number).ok()?,
            expiry: space.expiry.clone(),
            backend: instance.backend.clone(),
            _instance: instance,
        })
    }

    /// One of the first `count`, each of them half as often as the one with half its number.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // It is below `count`.
    fn skewed(&mut self, count: u32) -> u32 {
        (f64::from(count).powf(self.rng.f64()) as u32).saturating_sub(1)
    }

    fn key(&mut self, place: &Place) -> Key {
        Key {
            space: place.space,
            round: self.load.round(),
            index: self.skewed(self.load.clients * KEYS_OF_A_CLIENT),
        }
    }

    /// A key that only this client writes.
    fn own_key(&mut self, place: &Place) -> Key {
        let place_of_client = self.skewed(KEYS_OF_A_CLIENT);
        Key {
            index: place_of_client * self.load.clients + self.number,
            ..self.key(place)
        }
    }

    /// Several of these, each once: of a key that is repeated only the last value is written.
    fn own_keys(&mut self, place: &Place, count: usize) -> Vec<Key> {
        let mut keys: Vec<Key> = (0..count).map(|_| self.own_key(place)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    fn names(&self, keys: &[Key]) -> Vec<String> {
        keys.iter().map(|key| key.name(self.load.run)).collect()
    }

    /// Makes the call, waits for it or drops it.
    async fn call<T>(&mut self, place: &Place, call: impl Future<Output = T>) -> Called<T> {
        let is_dropped = self.rng.f64() < DROPPED;
        let by_time = self.rng.bool();
        let mut polls = self.rng.u32(..4);
        let time = Duration::from_micros(self.rng.u64(..5_000));
        let start = place.expiry.begin(self.load.time);
        let patience = self.load.book.promises.patience();
        let mut call = pin!(tokio::time::timeout(patience, call));
        let ended = if is_dropped && by_time {
            tokio::time::timeout(time, call.as_mut()).await.ok()
        } else if is_dropped {
            std::future::poll_fn(|context| {
                if polls == 0 {
                    return Poll::Ready(None);
                }
                polls -= 1;
                call.as_mut().poll(context).map(Some)
            })
            .await
        } else {
            Some(call.as_mut().await)
        };
        let result = match ended {
            None => Err(End::Dropped),
            Some(Err(_)) => Err(End::Never),
            Some(Ok(answer)) => Ok(answer),
        };
        let end = place.expiry.end(self.load.time);
        Called { start, end, result }
    }

    /// Takes the call down, with what it says of keys.
    fn report(
        &self,
        operation: &'static str,
        (start, end): (Stamp, Stamp),
        how: End,
        events: impl IntoIterator<Item = (Key, What)>,
    ) {
        let event = |what| Event {
            client: self.number,
            start,
            end,
            what,
        };
        self.load.book.call(Call {
            operation,
            client: self.number,
            start: start.at,
            end: end.at,
            how,
            events: events
                .into_iter()
                .map(|(key, what)| (key, event(what)))
                .collect(),
        });
    }

    async fn read(&mut self, place: &Place, count: usize) {
        let keys: Vec<Key> = (0..count).map(|_| self.key(place)).collect();
        let names = self.names(&keys);
        let (operation, called) = match names.as_slice() {
            [name] => {
                let get = async { vec![place.backend.get(name).await] };
                ("get", self.call(place, get).await)
            }
            names => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let get = place.backend.get_multi(&names);
                ("get_multi", self.call(place, get).await)
            }
        };
        let span = (called.start, called.end);
        let answers = match called.result {
            Ok(answers) => answers,
            Err(how) => return self.report(operation, span, how, []),
        };
        let (asked, got) = (keys.len(), answers.len());
        if asked != got {
            self.load
                .book
                .wrong("answer", format!("{asked} keys were asked, {got} answered"));
        }
        let failed = answers
            .iter()
            .find_map(|answer| answer.as_ref().err().cloned());
        let found = keys.into_iter().zip(answers).filter_map(|(key, answer)| {
            let what = self.look(key, answer.ok()?.as_ref())?;
            Some((key, what))
        });
        let found: Vec<(Key, What)> = found.collect();
        self.report(
            operation,
            span,
            failed.map_or(End::Answered, End::Failed),
            found,
        );
    }

    /// What a read saw; nothing if it cannot be.
    fn look(&self, key: Key, found: Option<&CachedValue<Vec<u8>>>) -> Option<What> {
        let Some(found) = found else {
            return Some(What::Miss);
        };
        let cached_at = found
            .cached_at()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let version = (nanos(cached_at) + 500) / 1000;
        let wrong = match payload::decode(self.load.run, found.payload()) {
            Err(reason) => format!("{key} holds {reason}"),
            Ok(Some(note)) if note.key != key => format!("{key} holds the value of {}", note.key),
            Ok(Some(note)) if note.version != version => {
                format!("{key} holds {note:?} with the metadata of version {version}")
            }
            Ok(_) => {
                let left = found.ttl().duration().map(nanos);
                return Some(What::Hit { version, left });
            }
        };
        self.load.book.wrong("never written", wrong);
        None
    }

    /// A value for the key, and what a history says of writing it.
    fn draft(&mut self, place: &Place, key: Key) -> (CachedValue<Vec<u8>>, u64, u64) {
        let ttl = match self.rng.u32(..100) {
            0..50 => Some(self.rng.u64(SECOND..5 * SECOND)),
            50..80 => Some(self.rng.u64(5 * SECOND..60 * SECOND)),
            80..82 => Some(0),
            _ => None,
        };
        let promises = &self.load.book.promises;
        let size = match self.rng.u32(..1000) {
            0..100 => 0,
            100..800 => self.rng.usize(..1000),
            800..980 => self.rng.usize(..8_000),
            980..999 => self.rng.usize(..64_000),
            _ => promises.max_value - self.rng.usize(..100),
        };
        let version = self.load.version();
        let lifetime = ttl.unwrap_or_else(|| nanos(promises.default_ttl));
        let note = Note {
            run: self.load.run,
            key,
            version,
            clock: place.expiry.begin(self.load.time).clock,
            ttl: lifetime,
        };
        let payload = payload::encode(&note, size.min(promises.max_value));
        let cached_at = UNIX_EPOCH + Duration::from_micros(version);
        let ttl = ttl.map_or(Ttl::Default, |ttl| Ttl::For(Duration::from_nanos(ttl)));
        let value = CachedValue::new(payload)
            .with_cached_at(cached_at)
            .with_ttl(ttl);
        (value, version, lifetime)
    }

    async fn write(&mut self, place: &Place, count: usize) {
        let keys = self.own_keys(place, count);
        let names = self.names(&keys);
        let mut written = Vec::new();
        let mut entries = Vec::new();
        for (key, name) in keys.into_iter().zip(&names) {
            let (value, version, ttl) = self.draft(place, key);
            written.push((key, version, ttl));
            entries.push((name.as_str(), value));
        }
        let (operation, called) = if count == 1 {
            let set = async {
                match entries.pop() {
                    Some((name, value)) => place.backend.set(name, value).await,
                    None => Ok(()),
                }
            };
            ("set", self.call(place, set).await)
        } else {
            let set = place.backend.set_multi(entries);
            ("set_multi", self.call(place, set).await)
        };
        let events = written
            .iter()
            .zip(&names)
            .map(|(&(key, version, ttl), name)| {
                let done = is_done(&called.result, name);
                (key, What::Write { version, ttl, done })
            });
        self.report(
            operation,
            (called.start, called.end),
            how(&called.result),
            events,
        );
    }

    async fn delete(&mut self, place: &Place, count: usize) {
        let keys = self.own_keys(place, count);
        let names = self.names(&keys);
        let version = self.load.version();
        let (operation, called) = match names.as_slice() {
            [name] if count == 1 => ("delete", self.call(place, place.backend.delete(name)).await),
            names => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let delete = place.backend.delete_multi(&names);
                ("delete_multi", self.call(place, delete).await)
            }
        };
        let events = keys.into_iter().zip(&names).map(|(key, name)| {
            let done = is_done(&called.result, name);
            (key, What::Delete { version, done })
        });
        self.report(
            operation,
            (called.start, called.end),
            how(&called.result),
            events,
        );
    }

    /// Reads a key of a round that is over. Its history is gone, but the value itself tells
    /// whether it is the right one and when its deadline was.
    async fn revisit(&mut self, place: &Place) {
        let mut key = self.key(place);
        key.round = key.round.saturating_sub(1 + self.rng.u32(..8));
        let name = key.name(self.load.run);
        let called = self.call(place, place.backend.get(&name)).await;
        if let Ok(Ok(Some(found))) = &called.result
            && self.look(key, Some(found)).is_some()
            && let Ok(Some(note)) = payload::decode(self.load.run, found.payload())
        {
            let bound = nanos(self.load.book.promises.patience());
            let latest = note.clock.saturating_add(note.ttl).saturating_add(bound);
            if called.start.clock >= latest {
                let late = Duration::from_nanos(called.start.clock - latest);
                let text = format!("{key}, of an earlier round, is served at least {late:?} late");
                self.load.book.wrong("served after its deadline", text);
            }
        }
        self.report("get", (called.start, called.end), how(&called.result), []);
    }
}

fn how<T>(result: &Result<Result<T, Error>, End>) -> End {
    match result {
        Ok(Ok(_)) => End::Answered,
        Ok(Err(error)) => End::Failed(error.clone()),
        Err(how) => how.clone(),
    }
}

/// Whether the write has surely been applied to the key called `name`.
fn is_done(result: &Result<Result<(), Error>, End>, name: &str) -> bool {
    match result {
        Ok(Ok(())) => true,
        Ok(Err(error)) if error.kind() == ErrorKind::Partial => {
            !error.keys().iter().any(|key| key == name)
        }
        _ => false,
    }
}
