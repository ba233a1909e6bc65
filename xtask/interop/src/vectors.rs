//! Checks the crates' test vectors against what Python stores.

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::context::Context;
use crate::recipe::Recipe;
use crate::sides::{Region, from_bytes};

const DOGPILE: &str = include_str!("../../../cache-core/tests/data/dogpile-serialized.json");
const OSLO: &str = include_str!("../../../cache-etcd3/tests/data/oslo-etcd3gw.json");

#[derive(Deserialize)]
struct Vectors<C> {
    cases: Vec<C>,
}

#[derive(Deserialize)]
struct Dogpile {
    payload_hex: String,
    cached_at_epoch_seconds: f64,
    bytes_hex: String,
}

#[derive(Deserialize)]
struct Oslo {
    payload_json: String,
    cached_at_epoch_seconds: f64,
    stored: String,
}

/// Checks that a region stores each payload as in its vector.
pub(crate) fn are_what_is_stored(context: &Context) -> Result<()> {
    let region = context.region(&Recipe::dogpile(&context.servers.urls())?.of_bytes()?)?;
    for case in serde_json::from_str::<Vectors<Dogpile>>(DOGPILE)?.cases {
        let payload = json!({ "hex": case.payload_hex }).to_string();
        let stored = hex::decode(&case.bytes_hex)?;
        is_stored(&region, &payload, case.cached_at_epoch_seconds, &stored)?;
    }
    let region = context.region(&Recipe::oslo_etcd(&context.servers.etcd())?)?;
    for case in serde_json::from_str::<Vectors<Oslo>>(OSLO)?.cases {
        let stored = case.stored.into_bytes();
        is_stored(
            &region,
            &case.payload_json,
            case.cached_at_epoch_seconds,
            &stored,
        )?;
    }
    Ok(())
}

fn is_stored(region: &Region, payload: &str, time: f64, expected: &[u8]) -> Result<()> {
    let key = "vector";
    region.ask(
        "set_at",
        json!({"key": key, "payload": payload, "time": time}),
    )?;
    let stored: Value = region.ask("get_stored", json!({"key": key}))?;
    ensure!(
        stored == from_bytes(expected),
        "the vector {:?} is not what the region stores",
        String::from_utf8_lossy(expected)
    );
    Ok(())
}
