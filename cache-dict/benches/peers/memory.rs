//! Memory per entry, measured as the growth of a separate process for each contestant.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use comparison::machine;
use comparison::measure::{Bench, Contestant, Sample};
use comparison::report::{Line, Role};

use crate::contestants::{COARSE, LONG, PEERS, make};
use crate::load::{Keys, MILLION};

/// The first argument of the separate process.
pub(crate) const OF_ONE: &str = "memory-of";

pub(crate) fn lines(bench: &mut Bench<'_>) -> Result<()> {
    for (name, keys) in [
        ("0.7 M entries of 8 bytes", Keys::short(700_000)),
        ("1 M entries of 8 bytes", Keys::short(MILLION)),
        ("1.3 M entries of 8 bytes", Keys::short(1_300_000)),
        (
            "1 M entries of 8 bytes, keys of 40 hexadecimal digits",
            Keys::digests(MILLION),
        ),
        (
            "1 M entries of 8 bytes, keys of 40 characters",
            Keys::long(MILLION),
        ),
    ] {
        let contestant = |name, role| Contestant::new(name, role, move || measure(name, keys));
        let mut contestants = vec![contestant(COARSE, Role::Ours)];
        contestants.extend(PEERS.iter().map(|peer| contestant(peer, Role::Peer)));
        let line = Line {
            rounds: 1,
            goal: Some(1.0),
            ..Line::new(format!("memory, {name}")).less_is_better("bytes/entry")
        };
        bench.compare(line, contestants)?;
    }
    Ok(())
}

fn measure(name: &str, keys: Keys) -> Result<Sample> {
    let mut child = Command::new(std::env::current_exe()?);
    child.args([OF_ONE, name, keys.prefix]);
    let bytes = machine::output_of(child.arg(keys.count.to_string()))?;
    let bytes: f64 = bytes.trim().parse().context("no number of bytes")?;
    Ok(Sample::figure(bytes / f64::from(keys.count)))
}

/// Fills the cache `name` and prints how much this process has grown, in bytes.
pub(crate) fn print(name: &str, prefix: &str, count: u32) -> Result<()> {
    let known = PEERS.iter().find(|peer| **peer == name);
    let known = known.copied().unwrap_or(COARSE);
    let prefix = prefix.to_owned().leak();
    let before = machine::resident()?;
    // Bounded caches get some headroom, because they evict before they are full.
    let filled = make::<u64>(known, count as usize / 8 * 9, LONG)?;
    Keys { count, prefix }.each(|key| filled.cache.set(key, 7));
    // Some caches defer work to background threads.
    std::thread::sleep(Duration::from_millis(500));
    let grown = machine::resident()?.saturating_sub(before);
    let mut held = 0;
    Keys { count, prefix }.each(|key| held += u32::from(filled.cache.get(key).is_some()));
    ensure!(
        held >= count / 100 * 99,
        "{name} holds {held} of {count} entries"
    );
    println!("{grown}");
    Ok(())
}
