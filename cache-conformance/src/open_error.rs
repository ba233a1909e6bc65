//! [`OpenError`], the error of a harness.

use std::error::Error;

/// Why a backend could not be opened. `?` converts any error to it.
pub type OpenError = Box<dyn Error + Send + Sync>;
