//! The shared part of `cargo xtask interop`: a Python environment with the packages that Rust is
//! compared with. The program itself is in `main.rs`.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod venv;
