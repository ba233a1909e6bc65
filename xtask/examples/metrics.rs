//! Reports cache events to the `metrics` facade, and prints what Prometheus would scrape. The names
//! are OpenTelemetry's for database clients, in Prometheus style.
//!
//! ```text
//! cargo run --package xtask --example metrics
//! ```

use cache_core::{CacheBackend, CacheBackendExt, CachedValue, Call, Observer};
use cache_dict::DictBackend;
use metrics::{counter, histogram};
use metrics_exporter_prometheus::PrometheusBuilder;

/// Counts hits and misses, and measures the duration of every call.
struct Metrics {
    /// `db.system.name`: the store.
    system: &'static str,
}

impl Observer for Metrics {
    fn observe(&self, call: &Call<'_>) {
        let operation = call.operation.as_str();
        counter!("cache_hits", "db_system_name" => self.system).increment(call.hits as u64);
        counter!("cache_misses", "db_system_name" => self.system).increment(call.misses as u64);
        let error = match call.error {
            Some(error) => error.kind().to_string(),
            None if call.cancelled => "cancelled".to_owned(),
            None => String::new(),
        };
        if let Some(duration) = call.duration {
            histogram!(
                "db_client_operation_duration_seconds",
                "db_system_name" => self.system,
                "db_operation_name" => operation,
                "error_type" => error,
            )
            .record(duration);
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prometheus = PrometheusBuilder::new().install_recorder()?;
    let cache = DictBackend::builder()
        .build()?
        .observed(Metrics { system: "dict" });
    cache.set("a", CachedValue::new(1)).await?;
    for found in cache.get_multi(&["a", "b"]).await {
        found?;
    }
    println!("{}", prometheus.render());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_sees_hits_misses_and_durations() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let prometheus = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            runtime.block_on(async {
                let cache = DictBackend::builder().build().unwrap();
                let cache = cache.observed(Metrics { system: "dict" });
                cache.set("a", CachedValue::new(1)).await.unwrap();
                cache.get_multi(&["a", "b", "c"]).await;
            });
        });
        let scraped = prometheus.render();
        for line in [
            r#"cache_hits{db_system_name="dict"} 1"#,
            r#"cache_misses{db_system_name="dict"} 2"#,
            r#"db_client_operation_duration_seconds_count{db_system_name="dict",db_operation_name="set",error_type=""} 1"#,
        ] {
            assert!(scraped.contains(line), "{line} is missing in\n{scraped}");
        }
    }
}
