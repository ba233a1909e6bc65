use cache_conformance::{Harness, OpenError, Options};
use map_backend::MapBackend;

struct MapHarness;

impl Harness for MapHarness {
    type Backend = MapBackend;

    async fn open(&self, options: &Options) -> Result<MapBackend, OpenError> {
        Ok(MapBackend::new(options.default_ttl))
    }

    // The backend is the store, so another instance on the same store is a clone.
    async fn again(&self, backend: &MapBackend, _: &Options) -> Result<MapBackend, OpenError> {
        Ok(backend.clone())
    }
}

cache_conformance::tests! {
    map_backend_keeps: MapHarness,
    waive {
        limits: "keys and values may be of any size",
        faults: "the backend has no server",
        outages: "the backend has no server",
        unreadable: "values are kept as they are",
        promises: "none is made",
    }
}
