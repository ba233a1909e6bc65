//! Bugs that real projects had.

use super::{Mutant, wrong};
use crate::mutants::backend::{self, Backend};

pub(super) fn history() -> Vec<Mutant> {
    vec![]
}
