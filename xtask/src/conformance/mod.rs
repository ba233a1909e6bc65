//! `cargo xtask conformance`: every rule of the contract against our backends.

#[cfg(feature = "conformance")]
mod harnesses;
#[cfg(feature = "conformance")]
mod run;
#[cfg(feature = "conformance")]
mod table;

#[cfg(feature = "conformance")]
pub(crate) use run::main;

pub(crate) const HELP: &str = "\
  dict|memcache|etcd   that backend; without, or with `all`, each of them
  --only RULE          only this rule or group, as in `multi` or `keys::case_is_kept`
  CACHE_CONFORMANCE_SEED=N repeats a run";

/// Runs this program once more with the backends compiled in.
#[cfg(not(feature = "conformance"))]
pub(crate) fn main(arguments: &[String]) -> anyhow::Result<()> {
    // The backends take `protoc` to build, and servers to run.
    crate::needs::provide(|_| ())?;
    crate::process::stream(
        crate::process::cargo()
            .args(["run", "--quiet", "--package", "xtask"])
            .args(["--features", "conformance", "--", "conformance"])
            .args(arguments),
    )
}
