//! Memory by entry: what the process grows by, each contestant in a process of its own.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::LONG;
use super::contestants::{COARSE, PEERS, make};
use super::load::Keys;
use crate::bench::cpu;
use crate::bench::harness::{Bench, Role, Sample};

/// The argument that makes this program such a process.
pub(super) const CHILD: &str = "memory-of";

pub(super) fn lines(bench: &mut Bench) -> Result<()> {
    for (name, keys) in [
        ("0.7 M entries of 8 bytes", Keys::short(700_000)),
        ("1 M entries of 8 bytes", Keys::short(1_000_000)),
        ("1.3 M entries of 8 bytes", Keys::short(1_300_000)),
        (
            "1 M entries of 8 bytes, keys of 40 hexadecimal digits",
            Keys::digests(1_000_000),
        ),
        (
            "1 M entries of 8 bytes, keys of 40 characters",
            Keys::long(1_000_000),
        ),
    ] {
        let mut line = bench.line(&format!("memory, {name}"));
        line.less_is_better("bytes/entry").goal(1.0).rounds(1);
        line.contestant(COARSE, Role::Ours, move || measure(COARSE, keys));
        for peer in PEERS {
            line.contestant(peer, Role::Peer, move || measure(peer, keys));
        }
        line.run()?;
    }
    Ok(())
}

fn measure(name: &str, keys: Keys) -> Result<Sample> {
    let output = Command::new(std::env::current_exe()?)
        .args(["bench", "dict", CHILD, name])
        .args([keys.prefix, &keys.count.to_string()])
        .output()
        .context("cannot run this program again")?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    let bytes: f64 = text.trim().parse().context("no number of bytes")?;
    Ok(Sample::figure(bytes / f64::from(keys.count)))
}

/// Fills one cache and prints by how much this process has grown.
pub(super) fn child(name: &str, prefix: &str, count: u32) -> Result<()> {
    let prefix = prefix.to_owned().leak();
    let before = cpu::resident("self")?;
    // Caches with a bound get some room: they would evict before it is reached.
    let filled = make::<u64>(name, count as usize / 8 * 9, LONG)?;
    Keys { count, prefix }.each(|key| filled.cache.set(key, 7));
    // Some do part of the work later, on their own threads.
    std::thread::sleep(Duration::from_millis(500));
    let held = filled.cache.len();
    let grown = cpu::resident("self")?.saturating_sub(before);
    ensure!(
        held >= count as usize / 100 * 99 || name == "moka",
        "{name} holds {held} of {count} entries"
    );
    println!("{grown}");
    Ok(())
}
