//! The environment of a check.

use std::sync::Arc;

use anyhow::Result;

use crate::python::Python;
use crate::recipe::Recipe;
use crate::servers::Servers;
use crate::sides::{Format, Region};

pub(crate) struct Context {
    pub(crate) servers: Servers,
    pub(crate) python: Arc<Python>,
}

impl Context {
    pub(crate) fn region(&self, recipe: &Recipe) -> Result<Region> {
        Region::make(&self.python, recipe, Format::Json)
    }
}
