//! `cargo xtask bench etcd`: not written yet.

use anyhow::{Result, bail};

pub(crate) fn main(_arguments: &[String]) -> Result<()> {
    bail!("not written yet")
}
