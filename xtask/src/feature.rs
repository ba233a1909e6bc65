//! What takes minutes to compile belongs to a feature of this program. Without the feature it runs
//! itself once more, with it.

use anyhow::Result;

use crate::process;

/// `cargo xtask ARGUMENTS…` with `feature`; `cargo` takes further `options`.
pub(crate) fn run_again_with(feature: &str, options: &[&str], arguments: &[String]) -> Result<()> {
    process::stream(
        process::cargo()
            .args(["run", "--package", "xtask", "--features", feature])
            .args(options)
            .arg("--")
            .args(arguments),
    )
}

/// The same for a task that is named as its feature and needs the backends: one of them takes
/// `protoc` to build, two take servers to run.
#[cfg(not(all(feature = "conformance", feature = "interop", feature = "soak")))]
pub(crate) fn run_task_with_backends(
    task: &str,
    options: &[&str],
    arguments: &[String],
) -> Result<()> {
    crate::needs::provide(|_| ())?;
    eprintln!("building the backends (feature {task})");
    let arguments = [&[task.to_owned()], arguments].concat();
    run_again_with(task, options, &arguments)
}
