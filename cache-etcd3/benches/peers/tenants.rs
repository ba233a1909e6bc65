//! The effect on other tenants of one tenant without write permission.

use std::time::Duration;

use anyhow::{Result, bail};
use cache_core::{CacheBackend as _, CachedValue, ErrorKind};
use cache_etcd3::Etcd3Backend;
use comparison::load::{Client, Ours, Work};
use comparison::measure::{Bench, Contestant, Sample};
use comparison::report::{Line, Role};
use etcd_client::{Permission, PermissionType};
use test_servers::{EtcdBuilder, EtcdCluster};
use tokio::runtime::Runtime;

use crate::contestants::OURS;
use crate::workload::{keys, load};

const NAME: &str = "set, 64 tasks, 4 of them denied, for each that is permitted";

const PASSWORD: &str = "correct horse";
const TASKS: usize = 64;
const DENIED: usize = 4;
const ALL: &str = "all permitted";

pub(crate) fn line(
    bench: &mut Bench<'_>,
    server: &EtcdBuilder,
    members: usize,
    runtime: &Runtime,
    length: Duration,
) -> Result<()> {
    if !bench.wants(NAME) {
        return Ok(());
    }
    let server = server.clone().start_cluster(members)?;
    runtime.block_on(turn_on(&server))?;
    let backend = Etcd3Backend::builder()
        .endpoints(server.endpoints())
        .ttl(Duration::from_secs(600))
        .username("app")
        .password(PASSWORD)
        .build()?;
    let contestant = |name, role, denied| {
        let (permitted, others) = (Ours(backend.clone()), Denied(Ours(backend.clone())));
        Contestant::new(name, role, move || {
            let tasks = TASKS - denied;
            let work = |tasks| load(Work::Set, tasks, length);
            let (work, noise) = (work(tasks), work(denied));
            let (keys, forbidden) = (keys("app"), keys("other"));
            let (done, denied) = runtime.block_on(async {
                tokio::join!(work.run(&permitted, &keys), noise.run(&others, &forbidden))
            });
            denied?;
            #[allow(clippy::cast_precision_loss)]
            Ok(Sample::figure(done?.figure / tasks as f64))
        })
    };
    let all = contestant(ALL, Role::Limit, 0);
    let line = Line::new(NAME).unit("op/s a task").base(ALL);
    let goal = Some(0.9);
    let ours = contestant(OURS, Role::Ours, DENIED);
    bench.compare(Line { goal, ..line }, vec![ours, all])
}

/// Enables authentication, with a user that has full access below `app/`.
async fn turn_on(server: &EtcdCluster) -> Result<()> {
    let mut client = etcd_client::Client::connect(server.endpoints(), None).await?;
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

/// Sets forbidden keys and expects to be denied.
#[derive(Clone)]
struct Denied(Ours<Etcd3Backend>);

impl Client for Denied {
    async fn get(&mut self, keys: &[&str]) -> Result<usize> {
        self.0.get(keys).await
    }

    async fn set(&mut self, keys: &[&str], value: &[u8]) -> Result<()> {
        for key in keys {
            let done = self.0.0.set(key, CachedValue::new(value.to_vec())).await;
            match done {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                other => bail!("{key}: {other:?} instead of a permission error"),
            }
        }
        Ok(())
    }
}
