//! The conformance suite over other people's caches. See the page that it writes.

mod entry;
mod in_process;

use std::marker::PhantomData;
use std::sync::Arc;

use cache_conformance::Suite;

use entry::Entry;
use in_process::{Map, Opens};

fn in_process<M: Map>(name: &str) -> Suite {
    Suite::new(Opens::<M>(PhantomData))
        .name(name)
        .waive("faults", "lives in this process")
        .waive("limits", "takes keys and values of any length")
}

fn main() {
    let suites = [
        in_process::<moka::sync::Cache<String, Entry>>("moka"),
        in_process::<mini_moka::sync::Cache<String, Entry>>("mini-moka"),
        in_process::<Arc<quick_cache::sync::Cache<String, Entry>>>("quick_cache"),
        in_process::<foyer_memory::Cache<String, Entry>>("foyer-memory"),
        in_process::<in_process::cached::Expiring>("cached"),
        in_process::<Arc<papaya::HashMap<String, Entry>>>("papaya"),
        in_process::<stretto::Cache<String, Entry>>("stretto"),
    ];
    for suite in suites {
        let report = suite.run();
        println!("{report}");
    }
}
