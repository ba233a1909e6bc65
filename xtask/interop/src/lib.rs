//! What others need of `cargo xtask interop`: a Python with the packages that Rust is compared
//! with. The program itself is in `main.rs`.

pub mod venv;
