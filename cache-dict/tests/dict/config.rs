//! Configuration from files, valid and invalid.

use std::time::Duration;

use cache_dict::DictConfig;
use serde::Deserialize;
use serde::de::value::{Error, MapDeserializer};

fn read<'a, V>(fields: &[(&'a str, V)]) -> Result<DictConfig, String>
where
    V: serde::de::IntoDeserializer<'a, Error> + Clone,
{
    let fields = MapDeserializer::<_, Error>::new(fields.iter().cloned());
    DictConfig::deserialize(fields).map_err(|error| error.to_string())
}

#[test]
fn the_defaults_match_oslo_cache() {
    let config = read::<u64>(&[]).unwrap();
    assert_eq!(config, DictConfig::default());
    assert_eq!(config.expiration_time, Duration::ZERO);
    assert_eq!(config.max_entries, 0);
}

#[test]
fn seconds_may_be_whole_or_have_fractions() {
    let seconds = |seconds| {
        read(&[("expiration_time", seconds)])
            .unwrap()
            .expiration_time
    };
    assert_eq!(seconds(0.0), Duration::ZERO);
    assert_eq!(seconds(0.25), Duration::from_millis(250));
    assert_eq!(seconds(3600.0), Duration::from_secs(3600));
    let config = read(&[("expiration_time", 60_u64), ("max_entries", 7)]).unwrap();
    assert_eq!(
        (config.expiration_time.as_secs(), config.max_entries),
        (60, 7)
    );
}

#[test]
fn an_invalid_expiration_time_is_refused_with_the_number() {
    for (seconds, shown) in [
        (-1.0, "-1 is not a valid duration"),
        (-0.001, "-0.001 is not a valid duration"),
        (f64::NAN, "NaN is not a valid duration"),
        (f64::INFINITY, "inf is not a valid duration"),
        (f64::NEG_INFINITY, "-inf is not a valid duration"),
        (1e300, "is not a valid duration"),
    ] {
        let error = read(&[("expiration_time", seconds)]).unwrap_err();
        assert!(error.contains(shown), "{error}");
    }
}

#[test]
fn numbers_may_be_text() {
    let config = read(&[("expiration_time", "1.5"), ("max_entries", "7")]).unwrap();
    assert_eq!(config.expiration_time, Duration::from_millis(1500));
    assert_eq!(config.max_entries, 7);
    let error = read(&[("max_entries", "-7")]).unwrap_err();
    assert!(error.contains("\"-7\""), "{error}");
}

#[test]
fn an_unknown_field_is_refused_and_named() {
    let error = read(&[("expiration_tiem", 60_u64)]).unwrap_err();
    assert!(error.contains("expiration_tiem"), "{error}");
    assert!(error.contains("expiration_time"), "{error}");
}

#[test]
fn an_error_names_the_field_and_the_value() {
    let error = read(&[("max_entries", -1_i64)]).unwrap_err();
    assert!(error.starts_with("`max_entries`: "), "{error}");
    assert!(error.contains("integer `-1`"), "{error}");
    let error = read(&[("expiration_time", "soon")]).unwrap_err();
    assert!(error.starts_with("`expiration_time`: "), "{error}");
    assert!(error.contains("\"soon\""), "{error}");
}
