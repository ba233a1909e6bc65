//! [`cache_core::seconds`] for optional fields.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

#[derive(Deserialize, Serialize)]
#[serde(transparent)]
struct Seconds(#[serde(with = "cache_core::seconds")] Duration);

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let seconds = Option::<Seconds>::deserialize(deserializer)?;
    Ok(seconds.map(|Seconds(duration)| duration))
}

// `with` hands over a reference to the field.
#[expect(clippy::ref_option)]
pub(crate) fn serialize<S: Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    duration.map(Seconds).serialize(serializer)
}
