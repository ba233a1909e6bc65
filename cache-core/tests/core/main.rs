//! The trait, its wrappers, and the stored format.

mod contract;
mod wire;
mod wrappers;
