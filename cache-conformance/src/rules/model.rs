//! Random sequences of operations, compared with a model of a cache.

use std::time::{Duration, Instant};

use cache_core::{CacheBackend, CachedValue, Ttl};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::context::{Cache, Context, Outcome, Value};
use crate::failure::{Failure, fail};
use crate::rule::{Requirement, Rule, rules};
use crate::show;
use crate::{Clock, Expiry};

use super::life::{HOUR, Life};
use super::source::MODEL;
use super::tasks::{blocking, drop_at_poll};

rules! {
    ($) model, __rules_of_model, MODEL, Rule::as_listed;

    sequences_agree:
        "Any sequence of operations on two instances, with repeated keys, agrees with the model.";
    sequences_in_time_agree:
        "Any sequence of operations, with TTLs and time passing, agrees with the model.",
        requires(&[Requirement::Ttl]), waits();
    sequences_with_drops_agree:
        "Any sequence of operations, some of which are dropped, agrees with the model.";
}

/// A key, by number.
type Key = usize;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lifetime {
    Unlimited,
    Zero,
    /// In units that are short enough for tests.
    Units(u32),
    Hour,
    Month,
}

#[derive(Clone, Debug)]
enum Step {
    Get(Key),
    Set(Key, Lifetime),
    Delete(Key),
    GetMulti(Vec<Key>),
    SetMulti(Vec<(Key, Lifetime)>),
    DeleteMulti(Vec<Key>),
    /// In half units.
    Wait(u32),
    /// Continues with another instance: the second, or a new one that replaces the first.
    Switch,
    Reopen,
    /// `SetMulti`, dropped at a poll.
    DroppedSet(Vec<(Key, Lifetime)>, usize),
    DroppedDelete(Vec<Key>, usize),
    DroppedGet(Vec<Key>, usize),
}

/// The steps of a kind of sequence.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Timed,
    Dropping,
}

const KEYS: usize = 4;

fn steps(kind: Kind, expires: bool) -> BoxedStrategy<Vec<Step>> {
    let key = || 0..KEYS;
    let keys = || vec(key(), 0..6);
    let lifetime = move || match kind {
        Kind::Timed => prop_oneof![
            2 => Just(Lifetime::Unlimited),
            1 => Just(Lifetime::Zero),
            4 => (1..4_u32).prop_map(Lifetime::Units),
            1 => Just(Lifetime::Hour),
        ]
        .boxed(),
        _ if !expires => Just(Lifetime::Unlimited).boxed(),
        Kind::Plain => Just(Lifetime::Unlimited).boxed(),
        // So far apart that they cannot be confused.
        Kind::Dropping => prop_oneof![
            1 => Just(Lifetime::Unlimited),
            1 => Just(Lifetime::Hour),
            1 => Just(Lifetime::Month),
        ]
        .boxed(),
    };
    let common = prop_oneof![
        3 => key().prop_map(Step::Get),
        3 => (key(), lifetime()).prop_map(|(key, lifetime)| Step::Set(key, lifetime)),
        1 => key().prop_map(Step::Delete),
        3 => keys().prop_map(Step::GetMulti),
        2 => vec((key(), lifetime()), 0..6).prop_map(Step::SetMulti),
        1 => keys().prop_map(Step::DeleteMulti),
        1 => Just(Step::Switch),
        1 => Just(Step::Reopen),
    ];
    match kind {
        Kind::Plain => vec(common, 1..24).boxed(),
        Kind::Timed => {
            let wait = (1..4_u32).prop_map(Step::Wait);
            vec(prop_oneof![3 => common, 1 => wait], 4..14).boxed()
        }
        Kind::Dropping => {
            let polls = || 0..4_usize;
            let dropped = prop_oneof![
                (vec((key(), lifetime()), 0..6), polls())
                    .prop_map(|(entries, polls)| Step::DroppedSet(entries, polls)),
                (keys(), polls()).prop_map(|(keys, polls)| Step::DroppedDelete(keys, polls)),
                (keys(), polls()).prop_map(|(keys, polls)| Step::DroppedGet(keys, polls)),
            ];
            vec(prop_oneof![3 => common, 2 => dropped], 1..24).boxed()
        }
    }
}

/// How far the wall clock, which deadlines may use, can differ from the monotonic clock.
const SLACK: Duration = Duration::from_millis(100);

/// A possible state of a key.
#[derive(Clone)]
enum Possible {
    Absent,
    Present(Vec<u8>, Option<Life>),
}

impl Possible {
    fn explains(&self, found: Option<&Value>, read: (Instant, Instant)) -> bool {
        let (began, ended) = read;
        match (self, found) {
            (Self::Absent, found) => found.is_none(),
            (Self::Present(_, None), None) => false,
            (Self::Present(_, Some(life)), None) => ended >= life.sure,
            (Self::Present(payload, None), Some(found)) => {
                found.payload() == payload && found.ttl() == Ttl::Never
            }
            (Self::Present(payload, Some(life)), Some(found)) => {
                // The time left of another write differs by hours.
                let left = found.ttl().duration();
                let is_its_own = left.is_some_and(|left| {
                    let least = life.sure.saturating_duration_since(ended);
                    (least.saturating_sub(SLACK)..=life.ttl + SLACK).contains(&left)
                });
                found.payload() == payload && is_its_own && began < life.over
            }
        }
    }
}

/// The possible states of one key: usually one, and more after a write was dropped, which may take
/// effect or not, now or later.
#[derive(Clone)]
struct Slot {
    possible: Vec<Possible>,
    dropped: bool,
}

impl Slot {
    fn write(&mut self, written: Possible) {
        if !self.dropped {
            self.possible.clear();
        }
        self.possible.push(written);
    }

    fn maybe_write(&mut self, written: Possible) {
        self.dropped = true;
        self.possible.push(written);
    }
}

/// A cache, the model beside it, and the instances in use.
struct Player<'c> {
    context: &'c Context,
    current: Cache,
    other: Cache,
    names: Vec<String>,
    slots: Vec<Slot>,
    unit: Duration,
    writes: usize,
}

impl<'c> Player<'c> {
    async fn new(context: &'c Context, case: &str) -> Outcome<Self> {
        let current = context.open().await?;
        Ok(Self {
            context,
            other: context.again(&current).await?,
            current,
            names: (0..KEYS)
                .map(|key| context.key(&format!("{case}:{key}")))
                .collect(),
            slots: std::iter::repeat_with(|| Slot {
                possible: vec![Possible::Absent],
                dropped: false,
            })
            .take(KEYS)
            .collect(),
            unit: context
                .capabilities()
                .granularity()
                .max(Duration::from_millis(120)),
            writes: 0,
        })
    }

    fn name(&self, key: Key) -> &str {
        self.names.get(key).map_or("", String::as_str)
    }

    fn names(&self, keys: &[Key]) -> Vec<String> {
        keys.iter().map(|key| self.name(*key).to_owned()).collect()
    }

    /// A value that no other write has.
    fn value(&mut self, lifetime: Lifetime) -> Value {
        self.writes += 1;
        let value = CachedValue::new(format!("write {}", self.writes).into_bytes());
        match lifetime {
            Lifetime::Unlimited => value,
            Lifetime::Zero => value.with_ttl(Duration::ZERO),
            Lifetime::Units(units) => value.with_ttl(self.unit * units),
            Lifetime::Hour => value.with_ttl(HOUR),
            Lifetime::Month => value.with_ttl(HOUR * 720),
        }
    }

    /// The state of a key whose value was set between these moments.
    fn holds(&self, value: &Value, before: Instant, after: Instant) -> Possible {
        match value.ttl() {
            Ttl::For(Duration::ZERO) => Possible::Absent,
            ttl => Possible::Present(
                value.payload().clone(),
                ttl.duration()
                    .map(|ttl| Life::new(self.context, ttl, before, after)),
            ),
        }
    }

    fn slot(&mut self, key: Key) -> Option<&mut Slot> {
        self.slots.get_mut(key)
    }

    fn judge(&self, key: Key, found: Option<&Value>, read: (Instant, Instant)) -> Outcome {
        let Some(slot) = self.slots.get(key) else {
            return Ok(());
        };
        if slot.possible.iter().any(|one| one.explains(found, read)) {
            return Ok(());
        }
        let expected: Vec<String> = slot
            .possible
            .iter()
            .map(|one| match one {
                Possible::Absent => "a miss".to_owned(),
                Possible::Present(payload, None) => String::from_utf8_lossy(payload).into_owned(),
                Possible::Present(payload, Some(life)) => format!(
                    "{} for another {:?}",
                    String::from_utf8_lossy(payload),
                    life.sure.saturating_duration_since(read.1)
                ),
            })
            .collect();
        fail!(
            "get {} (key {key}): expected {}, got {}",
            show::key(self.name(key)),
            expected.join(" or "),
            show::found(found)
        )
    }

    async fn play(&mut self, step: &Step) -> Outcome {
        match step {
            Step::Get(key) => {
                let began = self.context.now();
                let found = self.current.get(self.name(*key)).await?;
                self.judge(*key, found.as_ref(), (began, self.context.now()))?;
            }
            Step::GetMulti(keys) => {
                let names = self.names(keys);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let began = self.context.now();
                let found = self.current.get_multi(&names).await?;
                let read = (began, self.context.now());
                for (key, found) in keys.iter().zip(&found) {
                    self.judge(*key, found.as_ref(), read)?;
                }
            }
            Step::Set(key, lifetime) => {
                let value = self.value(*lifetime);
                let before = self.context.now();
                self.current.set(self.name(*key), value.clone()).await?;
                let held = self.holds(&value, before, self.context.now());
                if let Some(slot) = self.slot(*key) {
                    slot.write(held);
                }
            }
            Step::SetMulti(entries) => {
                let mut values = Vec::new();
                for (key, lifetime) in entries {
                    values.push((self.name(*key).to_owned(), self.value(*lifetime)));
                }
                let named = values
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.clone()));
                let before = self.context.now();
                self.current.set_multi(named.collect()).await?;
                let after = self.context.now();
                for ((key, _), (_, value)) in entries.iter().zip(&values) {
                    let held = self.holds(value, before, after);
                    if let Some(slot) = self.slot(*key) {
                        slot.write(held);
                    }
                }
            }
            Step::Delete(key) => {
                self.current.delete(self.name(*key)).await?;
                if let Some(slot) = self.slot(*key) {
                    slot.write(Possible::Absent);
                }
            }
            Step::DeleteMulti(keys) => {
                let names = self.names(keys);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                self.current.delete_multi(&names).await?;
                for key in keys {
                    if let Some(slot) = self.slot(*key) {
                        slot.write(Possible::Absent);
                    }
                }
            }
            Step::Wait(halves) => self.context.wait(self.unit * *halves / 2).await,
            Step::Switch => std::mem::swap(&mut self.current, &mut self.other),
            Step::Reopen => self.current = self.context.again(&self.other).await?,
            Step::DroppedSet(entries, polls) => self.dropped_set(entries, *polls).await?,
            Step::DroppedDelete(keys, polls) => {
                let names = self.names(keys);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let call = self.current.raw().delete_multi(&names);
                self.dropped("delete_multi", &names, call, *polls).await?;
                for key in keys {
                    if let Some(slot) = self.slot(*key) {
                        slot.maybe_write(Possible::Absent);
                    }
                }
            }
            Step::DroppedGet(keys, polls) => {
                let names = self.names(keys);
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let call = self.current.raw().get_multi(&names);
                self.dropped("get_multi", &names, call, *polls).await?;
            }
        }
        Ok(())
    }

    async fn dropped<T>(
        &self,
        operation: &str,
        keys: &[&str],
        call: impl Future<Output = T>,
        polls: usize,
    ) -> Outcome {
        let what = format!("{operation} {}, dropped at poll {polls}", show::keys(keys));
        let shown = |_: &_| "dropped".to_owned();
        self.current
            .call(what, drop_at_poll(call, polls), shown)
            .await?;
        Ok(())
    }

    async fn dropped_set(&mut self, entries: &[(Key, Lifetime)], polls: usize) -> Outcome {
        let mut values = Vec::new();
        for (key, lifetime) in entries {
            values.push((self.name(*key).to_owned(), self.value(*lifetime)));
        }
        let named = values
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        let before = self.context.now();
        let keys: Vec<&str> = values.iter().map(|(key, _)| key.as_str()).collect();
        for key in &keys {
            self.current.will_write(key);
        }
        let call = self.current.raw().set_multi(named.collect());
        self.dropped("set_multi", &keys, call, polls).await?;
        let after = self.context.now();
        for ((key, _), (_, value)) in entries.iter().zip(&values) {
            let held = self.holds(value, before, after);
            if let Some(slot) = self.slot(*key) {
                slot.maybe_write(held);
            }
        }
        Ok(())
    }

    async fn play_all(&mut self, steps: &[Step]) -> Outcome {
        for (number, step) in steps.iter().enumerate() {
            let played = self.play(step).await;
            played.map_err(|failure| {
                failure.map(|what| format!("step {number}, {step:?}: {what}"))
            })?;
        }
        // Whatever was not read so far.
        self.play(&Step::GetMulti((0..KEYS).collect())).await
    }
}

/// Plays sequences of this kind, and shrinks the first that fails.
async fn agree(context: Context, kind: Kind, cases: usize) -> Outcome {
    let runtime = tokio::runtime::Handle::current();
    blocking(move || {
        let mut seed = [0; 32];
        seed.copy_from_slice(&context.rng().bytes(32));
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let expires = context.capabilities().expiry != Expiry::None;
        let strategy = steps(kind, expires);
        let mut trees = Vec::new();
        for _ in 0..cases {
            match strategy.new_tree(&mut runner) {
                Ok(tree) => trees.push(tree),
                Err(reason) => fail!("no sequence could be made: {reason}"),
            }
        }
        let play = |steps: Vec<Step>, case: String| {
            // Time passes for each sequence by itself.
            let context = context.with_own_clock();
            async move {
                let mut player = Player::new(&context, &case).await?;
                player.play_all(&steps).await
            }
        };
        // Those that wait, all at once; of the others some.
        let at_once = match (kind, context.capabilities().clock) {
            (Kind::Timed, Clock::Real) => cases.max(1),
            _ => 8,
        };
        let mut case = 0;
        for some in trees.chunks_mut(at_once) {
            let tasks: Vec<_> = some
                .iter()
                .map(|tree| {
                    case += 1;
                    runtime.spawn(play(tree.current(), case.to_string()))
                })
                .collect();
            let mut ended = Vec::new();
            for task in tasks {
                ended.push(match runtime.block_on(task) {
                    Ok(ended) => ended,
                    Err(error) => fail!("a sequence died: {error}"),
                });
            }
            for (tree, ended) in some.iter_mut().zip(ended) {
                if let Err(failure) = ended {
                    let again = |steps: Vec<Step>, attempt: usize| {
                        runtime.block_on(play(steps, format!("shrink-{attempt}")))
                    };
                    return Err(shrunk(tree, failure, again));
                }
            }
        }
        Ok(())
    })
    .await
}

/// The shortest sequence that was found to fail.
fn shrunk(
    tree: &mut impl ValueTree<Value = Vec<Step>>,
    failure: Failure,
    again: impl Fn(Vec<Step>, usize) -> Outcome,
) -> Failure {
    const ATTEMPTS: usize = 300;
    const PATIENCE: Duration = Duration::from_secs(15);
    let began = Instant::now();
    let (mut steps, mut failure) = (tree.current(), failure);
    let mut moved = tree.simplify();
    for attempt in 0..ATTEMPTS {
        if !moved || began.elapsed() > PATIENCE {
            break;
        }
        moved = match again(tree.current(), attempt) {
            Err(smaller) => {
                (steps, failure) = (tree.current(), smaller);
                tree.simplify()
            }
            Ok(()) => tree.complicate(),
        };
    }
    let shown: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
    failure.map(|failure| {
        format!(
            "{failure}\n  the sequence, shrunk:\n    {}",
            shown.join("\n    ")
        )
    })
}

async fn sequences_agree(context: Context) -> Outcome {
    let cases = context.scaled(30, 12);
    agree(context, Kind::Plain, cases).await
}

async fn sequences_in_time_agree(context: Context) -> Outcome {
    // Without sleeping, time costs nothing.
    let cases = match context.capabilities().clock {
        Clock::Manual => context.scaled(150, 24),
        Clock::Real => 24,
    };
    agree(context, Kind::Timed, cases).await
}

async fn sequences_with_drops_agree(context: Context) -> Outcome {
    let cases = context.scaled(25, 12);
    agree(context, Kind::Dropping, cases).await
}
