//! A process that is forked from one that uses a cache gets an error, or uses connections of its
//! own, and never waits for ever.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::Stage;
use super::suites::BACKENDS;

/// What went wrong, backend by backend.
pub(super) fn failures(stage: &Stage) -> Result<Vec<String>> {
    let mut failures = Vec::new();
    for (crate_name, name) in BACKENDS {
        let config = match name {
            "memcache_pool" => json!({"url": format!("127.0.0.1:{}", stage.memcached_port()?)}),
            "etcd3" => json!({"host": "127.0.0.1", "port": stage.etcd_port()?}),
            _ => json!({}),
        };
        if let Err(error) = check(stage, name, &config) {
            failures.push(format!("{crate_name}: after a fork: {error:#}"));
        }
    }
    Ok(failures)
}

fn check(stage: &Stage, name: &str, config: &Value) -> Result<()> {
    let output = stage
        .script("fork.py")?
        .arg(name)
        .arg(config.to_string())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "fork.py failed: {said}");
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    let found = |who: &str| {
        answer
            .get(who)
            .and_then(Value::as_str)
            .context("it did not return")
    };

    let inherited = found("the parent's")?;
    ensure!(
        inherited.contains("CacheError") && inherited.contains("fork"),
        "{inherited}"
    );
    let stored = "b'by the parent'";
    // What is kept in a process is the process's own.
    let expected = if name == "dict" { "None" } else { stored };
    let own = found("its own")?;
    ensure!(own == expected, "the child's own handle finds {own}");
    let afterwards = found("afterwards")?;
    ensure!(afterwards == stored, "the parent then finds {afterwards}");
    Ok(())
}
