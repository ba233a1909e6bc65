//! What one tenant that may not write costs the others.

use std::time::Duration;

use anyhow::{Result, bail};
use cache_core::{CacheBackend as _, CachedValue, ErrorKind};
use cache_etcd3::Etcd3Backend;
use etcd_client::{Client, Permission, PermissionType};
use test_servers::Etcd;
use tokio::runtime::Runtime;

use super::contestants::{Contestant, Work, drive, payload};
use crate::bench::harness::{Bench, Role, Sample};

pub(crate) const NAME: &str = "set, 64 tasks, 4 of them denied, for each that is permitted";

const PASSWORD: &str = "correct horse";
const TASKS: usize = 64;
const DENIED: usize = 4;
const ALL: &str = "all permitted";

pub(crate) fn measure(bench: &mut Bench, runtime: &Runtime, length: Duration) -> Result<()> {
    let server = Etcd::start()?;
    runtime.block_on(turn_on(&server))?;
    let backend = Etcd3Backend::builder()
        .endpoints([server.endpoint()])
        .ttl(Duration::from_secs(600))
        .username("app")
        .password(PASSWORD)
        .build()?;
    let mut line = bench.line(NAME);
    line.unit("op/s a task").baseline(ALL).goal(0.9);
    for (name, role, denied) in [("cache-etcd3", Role::Ours, DENIED), (ALL, Role::Limit, 0)] {
        let backend = backend.clone();
        line.contestant(name, role, move || {
            let permitted = Tenant(backend.clone(), "app");
            let others = Tenant(backend.clone(), "other");
            let tasks = TASKS - denied;
            let (done, took) = runtime.block_on(async {
                let noise = drive(&others, Work::Set, denied, length);
                let (done, _) = tokio::join!(drive(&permitted, Work::Set, tasks, length), noise);
                done
            })?;
            Ok(Sample::operations(done / tasks as u64, took))
        });
    }
    line.run()
}

/// Authentication with a user that may do everything below `app/`.
async fn turn_on(server: &Etcd) -> Result<()> {
    let mut client = Client::connect([server.endpoint()], None).await?;
    client.user_add("root", PASSWORD, None).await?;
    client.role_add("root").await?;
    client.user_grant_role("root", "root").await?;
    client.user_add("app", PASSWORD, None).await?;
    client.role_add("app").await?;
    let permission = Permission::new(PermissionType::Readwrite, "app/").with_prefix();
    client.role_grant_permission("app", permission).await?;
    client.user_grant_role("app", "app").await?;
    client.auth_enable().await?;
    Ok(())
}

/// Sets keys of one prefix.
#[derive(Clone)]
struct Tenant(Etcd3Backend, &'static str);

impl Contestant for Tenant {
    async fn call(&mut self, _: Work, first: usize) -> Result<()> {
        let key = format!("{}/{}", self.1, first % 10_000);
        match self.0.set(&key, CachedValue::new(payload())).await {
            Ok(()) if self.1 == "app" => Ok(()),
            Err(error) if self.1 == "other" && error.kind() == ErrorKind::PermissionDenied => {
                Ok(())
            }
            other => bail!("{key}: {other:?}"),
        }
    }
}
