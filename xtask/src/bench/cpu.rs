//! CPU time and memory of a process, from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// CPU time, user and system, that process `id` has used so far; `"self"` is this one.
///
/// Linux counts it in ticks of 10 ms, so a round should last a second or longer.
pub(crate) fn time(id: &str) -> Result<Duration> {
    let path = format!("/proc/{id}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_time(&text).with_context(|| format!("cannot understand {path}"))
}

fn parse_time(stat: &str) -> Option<Duration> {
    // The name in parentheses may hold anything, spaces too.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis(10) * u32::try_from(user + system).ok()?)
}

/// Bytes of memory that process `id` holds at the moment.
pub(crate) fn resident(id: &str) -> Result<u64> {
    let path = format!("/proc/{id}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    parse_resident(&text).with_context(|| format!("cannot understand {path}"))
}

fn parse_resident(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(parse_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(
            parse_resident("VmPeak: 1 kB\nVmRSS:\t    2048 kB\n"),
            Some(2 << 20)
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_both() {
        assert!(time("self").is_ok());
        assert!(resident("self").unwrap() > 100_000);
    }
}
