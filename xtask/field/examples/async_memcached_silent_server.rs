//! async-memcached waits indefinitely for a server that accepts connections but never responds.
//! Rules: faults::a_silent_server_causes_no_busy_loop, faults::a_silent_server_ends_reads,
//! faults::a_silent_server_ends_writes, faults::a_silent_server_is_transient,
//! faults::many_calls_to_a_silent_server_all_end, faults::late_responses_reach_no_other_caller,
//! faults::errors_name_their_keys.

use std::time::Duration;

use async_memcached::{AsciiProtocol, Client};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let mut client = Client::new(format!("tcp://{}", silent.local_addr()?)).await?;
    let found = tokio::time::timeout(Duration::from_secs(60), client.get("key")).await;
    println!("after a minute: {found:?}");
    Ok(())
}
