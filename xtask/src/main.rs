//! Development tasks. `cargo xtask` lists them.
#![cfg_attr(
    not(test),
    warn(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod api;
mod bench;
mod conformance;
mod cost;
mod needs;
mod process;
mod programs;
mod readme_part;
mod release;
mod steps;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Tests, benchmarks and releases of this workspace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
enum Task {
    /// Installs or lists missing programs, then runs all checks and tests
    Test(test::Options),
    /// Compares a backend with its peers and updates the figures in the READMEs
    Bench(bench::Options),
    /// Runs the conformance rules against the backends and prints a table
    Conformance(conformance::Options),
    /// Checks that Rust and Python read each other's values in memcached and etcd
    Interop(programs::Arguments),
    /// Puts load on the backends while their servers fail, and checks every result
    Soak(programs::Arguments),
    /// Measures each crate's dependencies and build time, and updates the README
    Cost(cost::Options),
    /// Prints the public API of the crates or accepts changes to it
    Api(api::Options),
    /// Checks and publishes the crates, or resumes an interrupted release
    Release(release::Options),
}

fn main() -> ExitCode {
    let task = Task::parse();
    let result = process::end_children_on_signals().and_then(|()| match task {
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Conformance(options) => conformance::run(&options),
        Task::Interop(arguments) => programs::run("interop", &arguments),
        Task::Soak(arguments) => programs::run("soak", &arguments),
        Task::Cost(options) => cost::run(&options),
        Task::Api(options) => api::run(&options),
        Task::Release(options) => release::run(&options),
    });
    process::exit_code(result)
}
