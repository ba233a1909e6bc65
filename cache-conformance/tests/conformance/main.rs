//! The suite: what it finds in broken backends, and that it passes correct ones.

mod controls;
mod front;
mod mutants;
mod proxy;
mod reference;
mod rules_page;
mod suite;
mod writing_a_backend;
