//! What a Python service would gain.

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;

use super::Stage;

const ROUNDS: &str = "5";
const SECONDS: &str = "0.4";

/// One call of ours beside the same call of theirs.
#[derive(Deserialize)]
pub(super) struct Gain {
    #[serde(rename = "crate")]
    pub(super) crate_name: String,
    pub(super) call: String,
    pub(super) threads: usize,
    pub(super) beside: String,
    /// Calls a second.
    pub(super) ours: f64,
    pub(super) theirs: f64,
}

pub(super) fn measure(stage: &Stage) -> Result<Vec<Gain>> {
    let output = stage.script("gain.py")?.args([ROUNDS, SECONDS]).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "gain.py failed: {said}");
    let text = String::from_utf8(output.stdout)?;
    let gains = text.lines().map(serde_json::from_str);
    gains.collect::<Result<_, _>>().context("senseless figures")
}
