//! Reports each cache call to `tracing`, as an event in the span of the request, with
//! OpenTelemetry's attributes for database clients.
//!
//! ```text
//! cargo run --package xtask --example tracing
//! ```

use cache_core::{CacheBackend, CacheBackendExt, CachedValue, Call, Observer};
use cache_dict::DictBackend;
use tracing::{Instrument as _, info_span};

/// Reports every call as an event, at level `WARN` if it failed, and otherwise at `DEBUG`.
struct Trace {
    /// `db.system.name`: the store.
    system: &'static str,
}

impl Observer for Trace {
    fn observe(&self, call: &Call<'_>) {
        let operation = call.operation.as_str();
        let duration = call.duration.unwrap_or_default().as_secs_f64();
        if let Some(error) = call.error {
            tracing::warn!(
                db.system.name = self.system,
                db.operation.name = operation,
                db.operation.batch.size = call.keys.len(),
                db.client.operation.duration = duration,
                error.type = %error.kind(),
                "{error}"
            );
        } else {
            tracing::debug!(
                db.system.name = self.system,
                db.operation.name = operation,
                db.operation.batch.size = call.keys.len(),
                db.client.operation.duration = duration,
                cache.hits = call.hits,
                cache.misses = call.misses,
                cancelled = call.cancelled,
            );
        }
    }

    /// Without the event, the duration is not needed.
    fn wants_duration(&self, _: cache_core::Operation) -> bool {
        tracing::enabled!(tracing::Level::WARN)
    }
}

#[tokio::main]
async fn main() -> Result<(), cache_core::Error> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .init();
    let cache = DictBackend::builder()
        .build()?
        .observed(Trace { system: "dict" });
    async {
        cache.set("a", CachedValue::new(1)).await?;
        for found in cache.get_multi(&["a", "b"]).await {
            found?;
        }
        Ok(())
    }
    .instrument(info_span!("request", http.route = "/profiles"))
    .await
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Output(Arc<Mutex<Vec<u8>>>);

    impl Write for Output {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_has_opentelemetrys_attributes_and_the_callers_span() {
        let output = Output::default();
        let writer = output.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let request = async {
                let cache = DictBackend::<u32>::builder().build().unwrap();
                cache
                    .observed(Trace { system: "dict" })
                    .get_multi(&["a", "b"])
                    .await
            };
            runtime.block_on(request.instrument(info_span!("request")));
        });
        let written = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
        for part in [
            "request:",
            r#"db.system.name="dict""#,
            r#"db.operation.name="get_multi""#,
            "db.operation.batch.size=2",
            "cache.misses=2",
        ] {
            assert!(written.contains(part), "{part} is missing in {written}");
        }
    }
}
