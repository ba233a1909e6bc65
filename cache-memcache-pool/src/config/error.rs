//! The error of the configuration.

use cache_core::{Error, ErrorKind};

use crate::NAME;

/// The error for an invalid field.
pub(crate) fn bad_config(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, NAME, message)
}
