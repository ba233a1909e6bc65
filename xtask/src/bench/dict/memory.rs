//! Memory by entry: what the process grows by, each contestant in a process of its own.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::load::Keys;
use super::{LONG, contestant, ours, peers};
use crate::bench::cpu;
use crate::bench::harness::{Bench, Role, Sample};

/// The argument that makes this program such a process.
pub(super) const CHILD: &str = "memory-of";

type KeysOf = fn(u32) -> Keys;

/// What can be measured, by the name that the process is told.
const KEYS: &[(&str, KeysOf)] = &[
    ("short keys", Keys::short),
    ("keys of 40 hexadecimal digits", Keys::digests),
    ("keys of 40 characters", Keys::long),
];

pub(super) fn lines(bench: &mut Bench) -> Result<()> {
    for (count, entries, keys) in [
        ("0.7 M", 700_000_u32, "short keys"),
        ("1 M", 1_000_000, "short keys"),
        ("1.3 M", 1_300_000, "short keys"),
        ("1 M", 1_000_000, "keys of 40 hexadecimal digits"),
        ("1 M", 1_000_000, "keys of 40 characters"),
    ] {
        let name = match keys {
            "short keys" => format!("memory, {count} entries of 8 bytes"),
            keys => format!("memory, {count} entries of 8 bytes, {keys}"),
        };
        let mut line = bench.line(&name);
        line.less_is_better("bytes/entry").goal(1.0).rounds(1);
        let ours = ours::NAMES.iter().take(1).map(|name| (name, Role::Ours));
        let peers = peers::NAMES.iter().map(|name| (name, Role::Peer));
        for (name, role) in ours.chain(peers) {
            line.contestant(name, role, move || measure(name, entries, keys));
        }
        line.run()?;
    }
    Ok(())
}

fn measure(name: &str, entries: u32, keys: &str) -> Result<Sample> {
    let output = Command::new(std::env::current_exe()?)
        .args(["bench", "dict", CHILD, name, &entries.to_string(), keys])
        .output()
        .context("cannot run this program again")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let bytes: f64 = text.trim().parse().context("no number of bytes")?;
    Ok(Sample::figure(bytes / f64::from(entries)))
}

/// Fills one cache and prints by how much this process has grown.
pub(super) fn child(name: &str, entries: u32, keys: &str) -> Result<()> {
    let keys = KEYS.iter().find(|(known, _)| *known == keys);
    let (_, keys) = keys.context("keys that are known")?;
    let before = cpu::resident("self")?;
    // Caches with a bound get some room: they would evict before it is reached.
    let capacity = entries as usize / 8 * 9;
    let filled = contestant::<u64>(name, capacity, LONG)?;
    keys(entries).each(|key| filled.cache.set(key, 7));
    // Some do part of the work later, on their own threads.
    std::thread::sleep(std::time::Duration::from_millis(500));
    let held = filled.cache.len();
    let grown = cpu::resident("self")?.saturating_sub(before);
    ensure!(
        held >= entries as usize / 100 * 99 || name.contains("moka"),
        "{name} holds {held} of {entries} entries"
    );
    println!("{grown}");
    Ok(())
}
