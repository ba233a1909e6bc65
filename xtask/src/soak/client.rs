//! [`Client`], who makes calls and reports what came of them.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::task::Poll;
use std::time::{Duration, UNIX_EPOCH};

use cache_core::{CacheBackend, CachedValue, DynBackend, Error, ErrorKind};

use super::event::{End, Event, Operation, Outcome, Report, What};
use super::key::{KEYS, Key};
use super::load::{Load, patience};
use super::payload::{self, Note};
use super::rng::{Rng, Zipf};
use super::space::Opened;
use super::time::{Expiry, Stamp, nanos};

/// How many keys a multi operation has at most.
const MOST_KEYS: usize = 24;

/// How many calls in a hundred are dropped before they end.
const DROPPED: f64 = 0.03;

/// A task that does what a service does, and reports all it sees.
pub(crate) struct Client {
    load: Arc<Load>,
    rng: Rng,
    zipf: Zipf,
    number: u32,
    to: Sender<Report>,
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
    how: End,
    /// `None` if it was dropped.
    result: Option<Result<T, Error>>,
}

/// A value about to be written.
struct Draft {
    key: Key,
    version: u64,
    ttl: u64,
    size: usize,
    value: CachedValue<Vec<u8>>,
}

impl Client {
    pub(crate) fn new(load: Arc<Load>, number: u32, to: Sender<Report>) -> Self {
        Self {
            rng: Rng::new(load.seed, &format!("client {number} of {}", load.process)),
            zipf: Zipf::new(KEYS),
            number: load.process * 10_000 + number,
            load,
            to,
        }
    }

    pub(crate) async fn run(mut self) {
        while !self.load.stop.load(Ordering::Relaxed) {
            self.pause().await;
            let Some(place) = self.place() else { continue };
            match self.rng.below(100) {
                0..50 => self.get(&place).await,
                50..69 => self.set(&place).await,
                69..73 => self.delete(&place).await,
                73..88 => self.get_multi(&place).await,
                88..94 => self.set_multi(&place).await,
                94..96 => self.delete_multi(&place).await,
                _ => self.revisit(&place).await,
            }
        }
    }

    /// Calls come at random, and now and then all at once.
    async fn pause(&mut self) {
        let mean = f64::from(self.load.clients) / self.load.rate.max(0.1);
        let seconds = (-(1.0 - self.rng.unit()).ln() * mean).min(5.0);
        let mut pause = Duration::from_secs_f64(seconds);
        if self.rng.chance(0.3) {
            const BEAT: Duration = Duration::from_millis(50);
            let then = self.load.time.now() + nanos(pause);
            pause += Duration::from_nanos(nanos(BEAT) - then % nanos(BEAT));
        }
        tokio::time::sleep(pause).await;
    }

    fn place(&mut self) -> Option<Place> {
        let number = self.rng.below(self.load.spaces.len());
        let space = self.load.spaces.get(number)?;
        let instance = space.instance(self.rng.below(space.instances.len()))?;
        Some(Place {
            space: u32::try_from(number).ok()?,
            expiry: space.expiry.clone(),
            backend: instance.backend.clone(),
            _instance: instance,
        })
    }

    fn key(&mut self, place: &Place) -> Key {
        Key {
            space: place.space,
            round: self.load.round(),
            index: u32::try_from(self.zipf.pick(&mut self.rng)).unwrap_or(0),
        }
    }

    fn keys(&mut self, place: &Place) -> Vec<Key> {
        let count = 1 + self.rng.below(MOST_KEYS);
        (0..count).map(|_| self.key(place)).collect()
    }

    fn names(&self, keys: &[Key]) -> Vec<String> {
        keys.iter().map(|key| key.name(self.load.run)).collect()
    }

    fn draft(&mut self, place: &Place, key: Key) -> Draft {
        let second = nanos(Duration::from_secs(1));
        let ttl = match self.rng.below(100) {
            0..50 => Some(self.rng.between(second, 5 * second)),
            50..75 => Some(self.rng.between(5 * second, 60 * second)),
            75..80 => Some(self.rng.between(60 * second, 3600 * second)),
            80..82 => Some(0),
            _ => None,
        };
        let most = self.load.promises.max_value;
        let size = match self.rng.below(1000) {
            0..100 => 0,
            100..800 => self.rng.below(1000),
            800..980 => self.rng.below(8_000),
            980..999 => self.rng.below(64_000),
            _ => most - self.rng.below(100),
        };
        let size = size.min(most);
        let version = self.load.version();
        let default = nanos(self.load.promises.default_ttl);
        let lifetime = ttl.unwrap_or(if default == 0 { u64::MAX } else { default });
        let note = Note {
            key,
            version,
            clock: place.expiry.begin(&self.load.time).clock,
            ttl: lifetime,
        };
        let payload = payload::encode(self.load.run, &note, size);
        let cached_at = UNIX_EPOCH + Duration::from_micros(version);
        let mut value = CachedValue::new(payload).with_cached_at(cached_at);
        if let Some(ttl) = ttl {
            value = value.with_ttl(Duration::from_nanos(ttl));
        }
        Draft {
            key,
            version,
            ttl: lifetime,
            size: value.payload().len(),
            value,
        }
    }

    /// Makes the call, waits for it or drops it.
    async fn call<T>(
        &mut self,
        place: &Place,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Called<T> {
        let dropped = self.rng.chance(DROPPED);
        let by_time = self.rng.chance(0.5);
        let polls = self.rng.below(4);
        let time = Duration::from_micros(self.rng.between(0, 5_000));
        let start = place.expiry.begin(&self.load.time);
        let (result, how) = {
            let patience = tokio::time::timeout(patience(&self.load.promises), call);
            let mut call = pin!(patience);
            let ended = if dropped && by_time {
                tokio::time::timeout(time, call.as_mut()).await.ok()
            } else if dropped {
                let mut left = polls;
                std::future::poll_fn(|context| {
                    if left == 0 {
                        return Poll::Ready(None);
                    }
                    left -= 1;
                    call.as_mut().poll(context).map(Some)
                })
                .await
            } else {
                Some(call.as_mut().await)
            };
            match ended {
                None => (None, End::Dropped),
                Some(Err(_)) => (None, End::Never),
                Some(Ok(result)) => {
                    let how = result.as_ref().map_or_else(failure, |_| End::Answered);
                    (Some(result), how)
                }
            }
        };
        Called {
            start,
            end: place.expiry.end(&self.load.time),
            how,
            result,
        }
    }

    fn report<T>(
        &self,
        operation: Operation,
        called: &Called<T>,
        what: impl IntoIterator<Item = (Key, What)>,
    ) {
        let events = what.into_iter().map(|(key, what)| Event {
            key,
            client: self.number,
            start: called.start,
            end: called.end,
            what,
        });
        let _ = self.to.send(Report::Call {
            operation,
            client: self.number,
            start: called.start.at,
            end: called.end.at,
            how: called.how.clone(),
            events: events.collect(),
        });
    }

    fn wrong(&self, rule: &str, key: Option<Key>, text: String) {
        let _ = self.to.send(Report::Wrong {
            rule: rule.to_owned(),
            key,
            at: self.load.time.now(),
            text,
        });
    }

    async fn get(&mut self, place: &Place) {
        let key = self.key(place);
        let name = key.name(self.load.run);
        let called = self.call(place, place.backend.get(&name)).await;
        let seen = match &called.result {
            Some(Ok(found)) => self.look(key, found.as_ref()),
            _ => None,
        };
        self.report(Operation::Get, &called, seen.map(|what| (key, what)));
    }

    async fn get_multi(&mut self, place: &Place) {
        let keys = self.keys(place);
        let names = self.names(&keys);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let call = async { Ok(place.backend.get_multi(&names).await) };
        let mut called = self.call(place, call).await;
        let mut seen = Vec::new();
        if let Some(Ok(found)) = &called.result {
            if let Some(error) = found.iter().find_map(|found| found.as_ref().err()) {
                called.how = failure(error);
            }
            if found.len() != keys.len() {
                let (asked, got) = (keys.len(), found.len());
                self.wrong(
                    "answer",
                    None,
                    format!("{asked} keys were asked, {got} answered"),
                );
            }
            for (key, found) in keys.iter().zip(found) {
                if let Ok(found) = found {
                    seen.extend(self.look(*key, found.as_ref()).map(|what| (*key, what)));
                }
            }
        }
        self.report(Operation::GetMulti, &called, seen);
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
        match payload::decode(self.load.run, found.payload()) {
            Err(reason) => {
                self.wrong("never written", Some(key), format!("a read found {reason}"));
                return None;
            }
            Ok(Some(note)) if note.key != key => {
                let text = format!("a read found the value of {}", note.key);
                self.wrong("never written", Some(key), text);
                return None;
            }
            Ok(Some(note)) if note.version != version => {
                let text = format!(
                    "a read found version {} with the metadata of version {version}",
                    note.version
                );
                self.wrong("metadata", Some(key), text);
                return None;
            }
            Ok(_) => {}
        }
        Some(What::Hit {
            version,
            left: found.ttl().duration().map(nanos),
        })
    }

    async fn set(&mut self, place: &Place) {
        let key = self.key(place);
        let name = key.name(self.load.run);
        let draft = self.draft(place, key);
        let Draft {
            version, ttl, size, ..
        } = draft;
        let called = self
            .call(place, place.backend.set(&name, draft.value))
            .await;
        let what = What::Write {
            version,
            ttl,
            size,
            outcome: outcome(&called, &name),
        };
        self.report(Operation::Set, &called, [(key, what)]);
    }

    async fn set_multi(&mut self, place: &Place) {
        let keys = self.keys(place);
        let names = self.names(&keys);
        let drafts: Vec<Draft> = keys.iter().map(|key| self.draft(place, *key)).collect();
        let mut writes = Vec::new();
        let mut entries = Vec::new();
        for (name, draft) in names.iter().zip(drafts) {
            writes.push((draft.key, draft.version, draft.ttl, draft.size));
            entries.push((name.as_str(), draft.value));
        }
        let called = self.call(place, place.backend.set_multi(entries)).await;
        let mut events = Vec::new();
        for (at, ((key, version, ttl, size), name)) in writes.iter().zip(&names).enumerate() {
            // Of a key that is repeated only the last value has to be written.
            let is_last = !names.iter().skip(at + 1).any(|later| later == name);
            let what = What::Write {
                version: *version,
                ttl: *ttl,
                size: *size,
                outcome: if is_last {
                    outcome(&called, name)
                } else {
                    Outcome::Unknown
                },
            };
            events.push((*key, what));
        }
        self.report(Operation::SetMulti, &called, events);
    }

    async fn delete(&mut self, place: &Place) {
        let key = self.key(place);
        let name = key.name(self.load.run);
        let called = self.call(place, place.backend.delete(&name)).await;
        let what = What::Delete(outcome(&called, &name));
        self.report(Operation::Delete, &called, [(key, what)]);
    }

    async fn delete_multi(&mut self, place: &Place) {
        let keys = self.keys(place);
        let names = self.names(&keys);
        let asked: Vec<&str> = names.iter().map(String::as_str).collect();
        let called = self.call(place, place.backend.delete_multi(&asked)).await;
        let events: Vec<(Key, What)> = keys
            .iter()
            .zip(&names)
            .map(|(key, name)| (*key, What::Delete(outcome(&called, name))))
            .collect();
        self.report(Operation::DeleteMulti, &called, events);
    }

    /// Reads a key of a round that is over. Its history may be gone, but the value itself tells
    /// whether it is the right one and when it was due.
    async fn revisit(&mut self, place: &Place) {
        let now = self.load.round();
        let mut key = self.key(place);
        if now == 0 {
            return;
        }
        let back = if self.rng.chance(0.5) {
            1 + self.rng.below(3)
        } else {
            key.index = key.index / 16 * 16 + 1;
            1 + self.rng.below(usize::try_from(now).unwrap_or(1))
        };
        key.round = now.saturating_sub(u32::try_from(back).unwrap_or(1));
        let name = key.name(self.load.run);
        let called = self.call(place, place.backend.get(&name)).await;
        if let Some(Ok(Some(found))) = &called.result
            && self.look(key, Some(found)).is_some()
            && let Ok(Some(note)) = payload::decode(self.load.run, found.payload())
        {
            let bound = nanos(patience(&self.load.promises));
            let latest = note.clock.saturating_add(note.ttl).saturating_add(bound);
            if called.start.clock >= latest {
                let late = Duration::from_nanos(called.start.clock - latest);
                let text = format!("a value of an earlier round, at least {late:?} late");
                self.wrong("served after its deadline", Some(key), text);
            }
        }
        self.report(Operation::Get, &called, []);
    }
}

fn failure(error: &Error) -> End {
    End::Failed {
        kind: error.kind().to_string(),
        transient: error.is_transient(),
        text: error.to_string(),
    }
}

/// Whether the call has surely been applied to the key called `name`.
fn outcome<T>(called: &Called<T>, name: &str) -> Outcome {
    match &called.result {
        Some(Ok(_)) => Outcome::Done,
        Some(Err(error))
            if error.kind() == ErrorKind::Partial
                && !error.keys().iter().any(|key| key == name) =>
        {
            Outcome::Done
        }
        _ => Outcome::Unknown,
    }
}
