//! The contestants beside ours: the plain client, and oslo.cache's approach in Rust.

use anyhow::Result;
use comparison::load::Client;
use etcd_client::{KvClient, PutOptions, Txn, TxnOp, TxnResponse};
use tokio::task::JoinSet;

pub(crate) const OURS: &str = "cache-etcd3";
/// Ours without `refuse_late_writes`.
pub(crate) const UNGUARDED: &str = "cache-etcd3, late writes allowed";
pub(crate) const PLAIN: &str = "etcd-client";
/// What the lease costs that all entries of a call share.
pub(crate) const ONE_LEASE: &str = "etcd-client, one lease for all";
pub(crate) const LEASE_EACH: &str = "etcd-client, a lease a set";
pub(crate) const ONE_BY_ONE: &str = "etcd-client, one by one";
pub(crate) const OSLO: &str = "oslo.cache";
/// What sharing the requests of 64 tasks can gain at most, with one and with two in flight.
pub(crate) const FULL_ROUNDS: &str = "etcd-client, transactions of 64 gets in turn";
pub(crate) const HALF_ROUNDS: &str = "etcd-client, two transactions of 32 gets at a time";

/// The transaction limit of etcd.
const TRANSACTION: usize = 128;

/// Plain `etcd-client`: no leases, no envelope, no deadlines, no failover.
#[derive(Clone)]
pub(crate) struct Plain(pub(crate) KvClient);

impl Plain {
    /// Splits the keys into as many concurrent transactions as needed.
    async fn transactions(
        &self,
        keys: &[&str],
        operation: impl Fn(&str) -> TxnOp,
    ) -> Result<Vec<TxnResponse>> {
        let mut running = JoinSet::new();
        for keys in keys.chunks(TRANSACTION) {
            let operations: Vec<TxnOp> = keys.iter().map(|key| operation(key)).collect();
            let mut client = self.0.clone();
            running.spawn(async move { client.txn(Txn::new().and_then(operations)).await });
        }
        let mut responses = Vec::new();
        while let Some(response) = running.join_next().await {
            responses.push(response??);
        }
        Ok(responses)
    }
}

impl Client for Plain {
    async fn get(&mut self, keys: &[&str]) -> Result<usize> {
        if let [key] = keys {
            return Ok(self.0.get(*key, None).await?.kvs().len());
        }
        let responses = self.transactions(keys, |key| TxnOp::get(key, None));
        let responses = responses.await?.into_iter();
        Ok(responses
            .map(|response| response.op_responses().len())
            .sum())
    }

    async fn set(&mut self, keys: &[&str], value: &[u8]) -> Result<()> {
        if let [key] = keys {
            self.0.put(*key, value, None).await?;
            return Ok(());
        }
        let responses = self.transactions(keys, |key| TxnOp::put(key, value, None));
        responses.await.map(drop)
    }
}

/// [`Plain`] with entries that expire together.
#[derive(Clone)]
pub(crate) struct OneLease {
    pub(crate) plain: Plain,
    pub(crate) lease: i64,
}

impl Client for OneLease {
    async fn get(&mut self, keys: &[&str]) -> Result<usize> {
        self.plain.get(keys).await
    }

    async fn set(&mut self, keys: &[&str], value: &[u8]) -> Result<()> {
        let put = |key: &str| {
            let options = PutOptions::new().with_lease(self.lease);
            TxnOp::put(key, value, Some(options))
        };
        self.plain.transactions(keys, put).await.map(drop)
    }
}

/// [`Plain`] with one key per call.
#[derive(Clone)]
pub(crate) struct OneByOne(pub(crate) Plain);

impl Client for OneByOne {
    async fn get(&mut self, keys: &[&str]) -> Result<usize> {
        let mut found = 0;
        for key in keys {
            found += self.0.get(&[key]).await?;
        }
        Ok(found)
    }

    async fn set(&mut self, keys: &[&str], value: &[u8]) -> Result<()> {
        for key in keys {
            self.0.set(&[key], value).await?;
        }
        Ok(())
    }
}

/// oslo.cache's approach with `etcd-client`: one lease per set.
#[derive(Clone)]
pub(crate) struct LeaseEach {
    pub(crate) client: etcd_client::Client,
    pub(crate) ttl: i64,
}

impl Client for LeaseEach {
    async fn get(&mut self, keys: &[&str]) -> Result<usize> {
        Plain(self.client.kv_client()).get(keys).await
    }

    async fn set(&mut self, keys: &[&str], value: &[u8]) -> Result<()> {
        for key in keys {
            let lease = self.client.lease_grant(self.ttl, None).await?.id();
            let options = PutOptions::new().with_lease(lease);
            self.client.put(*key, value, Some(options)).await?;
        }
        Ok(())
    }
}
